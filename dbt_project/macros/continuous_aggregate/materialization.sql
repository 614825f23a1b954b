{#
  One materialization, two backends: TimescaleDB's own continuous aggregates, or a table whose dirty buckets
  `gold.refresh_continuous_aggregate` recomputes. Either way `gold.<model>` is a view: what is materialized
  but for the dirty buckets, and those aggregated from the level below (real-time aggregation).

  Config: level (its rows in gold.dirty_buckets; default: the model's name), bucket, time_column, keys
  (default: workspace_id, pipeline_id, series_id, bucket), indexes, retention, refresh_window and
  columnstore_after (TimescaleDB).
#}
{% materialization continuous_aggregate, adapter='postgres', supported_languages=['sql'] %}
  {%- set target_relation = this.incorporate(type='view') -%}
  {%- set aggregate = describe_aggregate(sql) -%}
  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {% do begin_transaction() %}
  {{ run_hooks(pre_hooks, inside_transaction=True) }}

  {%- set known = run_query(
      "select array_to_string(columns, ','), backend, coalesce(checksum, '') <> " ~ text(aggregate.checksum)
      ~ ", to_regclass(materialized) is not null from gold.aggregates"
      ~ " where name = " ~ text(aggregate.name)).rows -%}
  {%- set present = known | length > 0 and known[0][3] -%}
  {%- set changed = present and known[0][2] -%}
  {%- set rebuilt = present and changed and shape_changed(aggregate, known[0]) -%}

  {% if rebuilt %}
    {% do forget_history(aggregate) %}
  {% endif %}
  {% if not present or rebuilt %}
    {% do create_aggregate(aggregate) %}
  {% elif changed %}
    {% do register_aggregate(aggregate) %}
  {% endif %}
  {% if not present or changed or should_full_refresh() %}
    {% do adapter.commit() %}
    {% do begin_transaction() %}
    {% do fill_aggregate(aggregate) %}
  {% endif %}

  {% call statement('main') -%}
    {{ real_time_view(target_relation, aggregate) }}
  {%- endcall %}
  {% do run_query(
      "update gold.aggregates set checksum = " ~ text(aggregate.checksum) ~ ", updated_at = now()"
      ~ " where name = " ~ text(aggregate.name)) %}
  {% do persist_docs(target_relation, model) %}
  {{ run_hooks(post_hooks, inside_transaction=True) }}
  {% do adapter.commit() %}
  {{ run_hooks(post_hooks, inside_transaction=False) }}
  {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}

{# Everything the backends need, from the model's SQL and config. #}
{% macro describe_aggregate(sql) %}
  {%- set marked = modules.re.findall('(\\S+) /\\* aggregated \\*/', sql) -%}
  {% if marked | length != 1 %}
    {{ exceptions.raise_compiler_error(model.name ~ " reads exactly one relation, marked with aggregated(…)") }}
  {% endif %}
  {%- set source_relation = marked[0].split('.')[1:] | join('.') | replace('"', '') -%}
  {%- set columns = get_column_schema_from_query(sql) | map(attribute='name') | list -%}
  {% for needed in ['workspace_id', 'pipeline_id', 'bucket'] if needed not in columns %}
    {{ exceptions.raise_compiler_error(model.name ~ " has no column " ~ needed) }}
  {% endfor %}
  {%- set timescale = has_timescaledb() -%}
  {%- set lower = run_query("select rank, materialized from gold.aggregates where name = " ~ text(source_relation)).rows -%}
  {%- set query = sql | replace(marked[0] ~ ' /* aggregated */', '__input__') -%}
  {%- set shape = [config.get('bucket'), config.get('time_column'), config.get('keys', []) | join(',')] | join(' ') -%}
  {{ return({
    'name': this.schema ~ '.' ~ this.identifier,
    'level': config.get('level', this.identifier),
    'backend': 'timescaledb' if timescale else 'postgresql',
    'materialized': this.schema ~ '.' ~ this.identifier ~ '_materialized',
    'source': source_relation,
    'source_materialized': lower[0][1] if lower else source_relation,
    'source_time': config.require('time_column'),
    'width': config.require('bucket'),
    'columns': columns,
    'keys': config.get('keys', ['pipeline_id', 'bucket', 'series_id', 'workspace_id']),
    'query': query,
    'rank': (lower[0][0] if lower else 0) + 1,
    'retention': config.get('retention'),
    'checksum': local_md5(query ~ shape),
  }) }}
{% endmacro %}

{# Whether what is there cannot hold what the model gives now: then history would be lost with it. #}
{% macro shape_changed(aggregate, known) %}
  {%- set old = known[0].split(',') -%}
  {%- set gone = old | reject('in', aggregate.columns) | list -%}
  {%- set added = aggregate.columns | reject('in', old) | list -%}
  {{ return(gone | length > 0 or known[1] != aggregate.backend
            or aggregate.backend == 'timescaledb' or (added | select('in', aggregate['keys']) | list)) }}
{% endmacro %}

{# Making an aggregate anew keeps only what silver still has: a modeler must say so. #}
{% macro forget_history(aggregate) %}
  {% if not (flags.FULL_REFRESH and var('forget_history', false)) %}
    {{ exceptions.raise_compiler_error(
        aggregate.name ~ " must be made anew, and rows older than " ~ aggregate.source ~ " keeps would be lost."
        ~ " Give the model another name, or run it with --full-refresh --vars 'forget_history: true'.") }}
  {% endif %}
  {% do drop_aggregate(aggregate) %}
{% endmacro %}

{# `gold.<model>`: never older than the last commit. #}
{% macro real_time_view(relation, aggregate) %}
  {%- set restricted -%}
    (select * from {{ aggregate.source }} s
     where s.pipeline_id = d.pipeline_id and s.{{ aggregate.source_time }} >= d.bucket
       and s.{{ aggregate.source_time }} < d.bucket_end)
  {%- endset -%}
  {%- set floor -%}
    coalesce((select f.floor from gold.floors f where f.source = {{ text(aggregate.source) }}), '-infinity')
  {%- endset -%}
  {%- set timescale = aggregate.backend == 'timescaledb' -%}
  create or replace view {{ relation }}
  with ({{ 'security_barrier = true' if timescale else 'security_invoker = true' }}) as
  {% if timescale %}select * from ({% endif %}
  select {{ aggregate.columns | join(', ') }}
  from {{ aggregate.materialized }} m
  where not exists (
    select from gold.dirty_buckets d
    where d.level = {{ text(aggregate.level) }} and d.pipeline_id = m.pipeline_id and d.bucket = m.bucket
      and d.bucket >= {{ floor }})
  union all
  select {% for column in aggregate.columns -%}
    {{ 'd' if column in ['pipeline_id', 'bucket'] else 'q' }}.{{ column }}{{ ', ' if not loop.last }}
  {%- endfor %}
  from (
    select distinct pipeline_id, bucket, bucket + interval '{{ aggregate.width }}' as bucket_end
    from gold.dirty_buckets where level = {{ text(aggregate.level) }} and bucket >= {{ floor }}
  ) d
  cross join lateral ({{ aggregate.query | replace('__input__', restricted) }}) q
  {% if timescale -%}
  ) everyone
  where (workspace_id = (select app.current_workspace())
    and (pipeline_id <> all ((select app.ruled_pipelines())::integer[])
      {%- if 'series_id' in aggregate.columns %} or series_id in (select app.visible_series()){% endif %}))
    or (select pg_has_role(current_user, 'sluiceway_modeler', 'member'))
  {%- endif %}
{% endmacro %}

{% macro text(value) %}
  {{- return("null" if value is none else "'" ~ (value | string | replace("'", "''")) ~ "'") -}}
{% endmacro %}

{# So that dbt knows of the transaction it has to commit: `run_query` begins none. #}
{% macro begin_transaction() %}
  {% call statement('begin_transaction', auto_begin=True) -%} select 1 {%- endcall %}
{% endmacro %}
