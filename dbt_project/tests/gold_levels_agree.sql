-- Every level counts the same samples: nothing is lost or doubled on the way up.
with totals as (
  select '1m' as level, pipeline_id, bucket_day, sum(count) as samples from (
    select pipeline_id, date_trunc('day', bucket, 'UTC') as bucket_day, count from {{ ref('samples_1m') }}) m
  group by 1, 2, 3
  union all
  select '1h', pipeline_id, date_trunc('day', bucket, 'UTC'), sum(count) from {{ ref('samples_1h') }} group by 1, 2, 3
  union all
  select '1d', pipeline_id, bucket, sum(count) from {{ ref('samples_1d') }} group by 1, 2, 3
)
select pipeline_id, bucket_day
from totals
group by pipeline_id, bucket_day
having count(*) <> 3 or min(samples) <> max(samples)
