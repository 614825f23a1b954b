{#
  What a model of materialization `continuous_aggregate` is written with:

    {{ config(level='1h', bucket='1 hour', time_column='bucket') }}
    select workspace_id, pipeline_id, series_id, {{ time_bucket() }} as bucket, sum(count) as count
    from {{ aggregated(ref('samples_1m')) }}
    group by 1, 2, 3, 4

  It has the columns workspace_id, pipeline_id and bucket, groups by what `keys` names, and reads one relation.
#}

{# The time column cut down to its bucket, in UTC. #}
{% macro time_bucket() -%}
  {%- set width = config.get('bucket', '1 minute') -%}
  {%- set column = config.get('time_column', 'bucket') -%}
  {%- if has_timescaledb() -%}
    time_bucket(interval '{{ width }}', {{ column }})
  {%- else -%}
    date_bin(interval '{{ width }}', {{ column }}, timestamptz '2000-01-03 00:00:00+00')
  {%- endif -%}
{%- endmacro %}

{# Marks the relation whose rows are aggregated: a refresh puts the changed part in its place. #}
{% macro aggregated(relation) -%}
  {{ relation }} /* aggregated */
{%- endmacro %}

{#
  The value at the smallest (or, with `max`, the largest) of `by`. Compared as arrays, so that ties are
  decided by the further columns and every backend and every recompute gives the same.
#}
{% macro value_at(extreme, by, value) -%}
  ({{ extreme }}(array[{% for one in by %}{{ one }}::double precision, {% endfor %}{{ value }}]))[{{ by | length + 1 }}]
{%- endmacro %}

{% macro epoch(column) -%}
  extract(epoch from {{ column }})
{%- endmacro %}
