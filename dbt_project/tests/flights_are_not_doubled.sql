-- The mart never counts a flight twice.
with mart as (select workspace_id, sum(flights) as flights from {{ ref('flights_on_time') }} group by 1),
silver as (select workspace_id, count(*) as flights from {{ ref('stg_nyc_flights') }} group by 1)
select workspace_id from mart join silver using (workspace_id) where mart.flights > silver.flights
