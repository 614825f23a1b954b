{#
  What readers see is what a full recompute over the source's retained rows gives. Sums of floating-point
  values depend on the order of adding: they may differ in the last places.
#}
{% test equals_recompute(model) %}
  {%- set found = [] -%}
  {%- if execute -%}
    {%- set found = run_query("select query, source, array_to_string(columns, ',') from gold.aggregates where name = '"
        ~ model.schema ~ "." ~ model.identifier ~ "'").rows -%}
  {%- endif -%}
  {%- if found | length == 0 %}
  select 'not registered' as problem {% if not execute %} where false {% endif %}
  {%- else -%}
  {%- set columns = found[0][2].split(',') -%}
  {%- set keys = columns | select('in', ['workspace_id', 'pipeline_id', 'series_id', 'bucket']) | list -%}
  with frozen as (select gold.floor_of('{{ found[0][1] }}') as floor),
  seen as (select g.* from {{ model }} g, frozen where g.bucket >= frozen.floor),
  computed as (
    select q.* from ({{ found[0][0] | replace('__input__', found[0][1]) }}) q, frozen where q.bucket >= frozen.floor)
  select {{ keys | join(', ') }}
  from seen s full join computed c using ({{ keys | join(', ') }})
  where s.workspace_id is null or c.workspace_id is null
  {%- for column in columns if column not in keys %}
    or s.{{ column }} is distinct from c.{{ column }}
    {%- if column in ['sum', 'sum_sq'] %}
      and abs(s.{{ column }} - c.{{ column }}) > 1e-9 * greatest(abs(s.{{ column }}), abs(c.{{ column }}), 1)
    {%- endif -%}
  {%- endfor %}
  {%- endif %}
{% endtest %}

{% test unique_key(model, columns) %}
  select {{ columns | join(', ') }} from {{ model }} group by {{ columns | join(', ') }} having count(*) > 1
{% endtest %}

{# Counts of parts are not negative and do not add up to more than the whole. #}
{% test parts_of_whole(model, whole, parts) %}
  select * from {{ model }}
  where {{ parts | join(' + ') }} > {{ whole }} {% for part in parts %} or {{ part }} < 0 {% endfor %}
{% endtest %}
