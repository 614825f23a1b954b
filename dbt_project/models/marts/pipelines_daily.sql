{{ config(indexes=[{'columns': ['workspace_id', 'day', 'pipeline'], 'unique': true}]) }}
select
  b.workspace_id,
  date_trunc('day', b.loaded_at, 'UTC') as day,
  p.slug as pipeline,
  count(*) as batches,
  sum(b.events)::bigint as events,
  sum(b.rows)::bigint as rows,
  sum(b.samples)::bigint as samples,
  sum(b.duplicates)::bigint as duplicates,
  sum(b.dead_letters)::bigint as dead_letters,
  sum(b.size_bytes)::bigint as size_bytes,
  count(*) filter (where b.verdict <> 'pass') as failing_batches,
  extract(epoch from avg(b.loaded_at - b.max_received_at))::double precision as avg_lag_s
from {{ source('silver', 'batches') }} b
join {{ source('app', 'pipelines') }} p on p.id = b.pipeline_id
where b.origin = 'live'
group by 1, 2, 3
