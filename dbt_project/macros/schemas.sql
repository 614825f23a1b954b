{# A model's schema is its layer, whoever runs dbt: `gold`, not `<target>_gold`. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
  {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}

{# Row-level security as every table of the platform has it; the relation needs a column workspace_id. #}
{% macro isolate(relation) -%}
  call app.isolate('{{ relation.include(database=false) }}'::regclass)
{%- endmacro %}

{# Views read with their reader's rights, so that the tables' row-level security decides. #}
{% macro postgres__create_view_as(relation, sql) -%}
  create view {{ relation }} with (security_invoker = true) as (
    {{ sql }}
  );
{%- endmacro %}

{% macro has_timescaledb() -%}
  {%- set found = false -%}
  {%- if execute -%}
    {%- set found = run_query("select 1 from pg_extension where extname = 'timescaledb'").rows | length > 0 -%}
  {%- endif -%}
  {{ return(found) }}
{%- endmacro %}
