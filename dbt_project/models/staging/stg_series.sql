select
  s.workspace_id,
  s.pipeline_id,
  p.slug as pipeline,
  s.series_id,
  s.metric,
  s.dimensions,
  s.created_at
from {{ source('silver', 'series') }} s
join {{ source('app', 'pipelines') }} p on p.id = s.pipeline_id
