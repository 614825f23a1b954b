select
  m.workspace_id,
  m.pipeline_id,
  m.series_id,
  s.metric,
  s.dimensions,
  m.ts,
  m.value,
  m.seq
from {{ source('silver', 'samples') }} m
join {{ source('silver', 'series') }} s on s.series_id = m.series_id
