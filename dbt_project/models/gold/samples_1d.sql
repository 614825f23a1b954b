{{ config(level='1d', bucket='1 day', time_column='bucket', indexes=[['series_id', 'bucket']]) }}
select
  workspace_id,
  pipeline_id,
  series_id,
  {{ time_bucket() }} as bucket,
  sum(count)::bigint as count,
  sum(sum) as sum,
  min(min) as min,
  max(max) as max,
  sum(sum_sq) as sum_sq,
  {{ value_at('min', [epoch('first_ts')], 'first') }} as first,
  min(first_ts) as first_ts,
  {{ value_at('max', [epoch('last_ts')], 'last') }} as last,
  max(last_ts) as last_ts
from {{ aggregated(ref('samples_1h')) }}
group by 1, 2, 3, 4
