{#- A flight that does not say whether it was cancelled was, if it has no departure delay. On time, as the
    U.S. Department of Transportation counts it: it arrived less than 15 minutes late. -#}
{{ config(indexes=[{'columns': ['workspace_id', 'day', 'carrier', 'origin'], 'unique': true}]) }}
select
  workspace_id,
  date_trunc('day', event_time, 'UTC') as day,
  coalesce(carrier, '?') as carrier,
  max(carrier_name) as carrier_name,
  coalesce(origin, '?') as origin,
  count(*) as flights,
  count(*) filter (where coalesce(cancelled, dep_delay is null)) as cancelled,
  count(arr_delay) as arrived,
  count(*) filter (where arr_delay < 15) as on_time,
  count(*) filter (where arr_delay < 15)::double precision / nullif(count(arr_delay), 0) as on_time_ratio,
  avg(dep_delay) as avg_dep_delay,
  avg(arr_delay) as avg_arr_delay,
  percentile_cont(0.95) within group (order by arr_delay) as p95_arr_delay,
  sum(distance) as distance
from {{ ref('stg_nyc_flights') }}
group by workspace_id, day, coalesce(carrier, '?'), coalesce(origin, '?')
