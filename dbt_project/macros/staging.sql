{#
  The typed rows of a pipeline, of every workspace that has applied it (row-level security shows each reader
  its own). A staging model names the columns it promises: before the pipeline is applied the view is empty,
  and a column that an older version of the pipeline lacks is null.

  `table`: source('silver', …), for lineage. `columns`: name → type.
#}
{% macro silver_events(table, slug, columns) -%}
  {%- set system = {
    'workspace_id': 'integer', 'seq': 'bigint', 'event_id': 'text', 'event_time': 'timestamptz',
    'received_at': 'timestamptz', 'batch_id': 'bigint'} -%}
  {%- set wanted = dict(system, **columns) -%}
  {%- set found = {} -%}
  {%- if execute -%}
    {%- for row in run_query(
        "select format('silver.%I', p.silver_table), a.attname from app.pipelines p"
        ~ " join pg_attribute a on a.attrelid = to_regclass(format('silver.%I', p.silver_table))"
        ~ " where p.slug = '" ~ slug ~ "' and a.attnum > 0 and not a.attisdropped order by p.id").rows -%}
      {%- do found.setdefault(row[0], []).append(row[1]) -%}
    {%- endfor -%}
  {%- endif -%}
  {%- for relation, present in found.items() %}
  select
    {% for name, type in wanted.items() -%}
    {{ name if name in present else 'null' }}::{{ type }} as {{ name }}{{ ',' if not loop.last }}
    {% endfor -%}
  from {{ relation }}
  {%- if not loop.last %}
  union all
  {%- endif -%}
  {%- else %}
  -- {{ table }} is not there: no workspace has applied the pipeline yet
  select
    {% for name, type in wanted.items() -%}
    null::{{ type }} as {{ name }}{{ ',' if not loop.last }}
    {% endfor -%}
  where false
  {%- endfor -%}
{%- endmacro %}
