{{ config(level='1m', bucket='1 minute', time_column='ts', columnstore_after='30 days') }}
select
  workspace_id,
  pipeline_id,
  series_id,
  {{ time_bucket() }} as bucket,
  count(*) as count,
  sum(value) as sum,
  min(value) as min,
  max(value) as max,
  sum(value * value) as sum_sq,
  {{ value_at('min', [epoch('ts'), 'seq'], 'value') }} as first,
  min(ts) as first_ts,
  {{ value_at('max', [epoch('ts'), 'seq'], 'value') }} as last,
  max(ts) as last_ts
from {{ aggregated(source('silver', 'samples')) }}
group by 1, 2, 3, 4
