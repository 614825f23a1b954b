{# What differs between the backends: making, filling and dropping what holds the rows. #}

{% macro create_aggregate(aggregate) %}
  {% if aggregate.backend == 'timescaledb' %}
    {% do create_timescale_aggregate(aggregate) %}
  {% else %}
    {% do create_table_aggregate(aggregate) %}
  {% endif %}
{% endmacro %}

{% macro create_table_aggregate(aggregate) %}
  {# Loads of a level of its own are told to mark it from now on: those under way end first. #}
  {% do run_query("lock table gold.dirty_buckets in share row exclusive mode") %}
  {% do run_query(
      "create table " ~ aggregate.materialized ~ " as select * from ("
      ~ (aggregate.query | replace('__input__', aggregate.source)) ~ ") q with no data") %}
  {% do run_query(
      "alter table " ~ aggregate.materialized ~ " add primary key (" ~ (aggregate['keys'] | join(', ')) ~ ")") %}
  {% for columns in config.get('indexes', []) %}
    {% do run_query("create index on " ~ aggregate.materialized ~ " (" ~ (columns | join(', ')) ~ ")") %}
  {% endfor %}
  {% do run_query("comment on table " ~ aggregate.materialized
      ~ " is 'What is materialized of " ~ aggregate.name ~ ": read that, which has the newest too.'") %}
  {% do run_query("call app.isolate('" ~ aggregate.materialized ~ "'::regclass)") %}
  {% do register_aggregate(aggregate) %}
{% endmacro %}

{% macro create_timescale_aggregate(aggregate) %}
  {% do run_query("lock table gold.dirty_buckets in share row exclusive mode") %}
  {% do run_query(
      "create materialized view " ~ aggregate.materialized
      ~ " with (timescaledb.continuous, timescaledb.materialized_only = true) as "
      ~ (aggregate.query | replace('__input__', aggregate.source_materialized)) ~ " with no data") %}
  {% do run_query("revoke all on " ~ aggregate.materialized ~ " from sluiceway_reader") %}
  {% do add_policies(aggregate) %}
  {% do register_aggregate(aggregate) %}
{% endmacro %}

{#
  The policy's window ends before what silver's retention may have dropped; older late events are refreshed
  through the dirty buckets.
#}
{% macro add_policies(aggregate) %}
  {%- set name = text(aggregate.materialized) -%}
  {% do run_query(
      "select add_continuous_aggregate_policy(" ~ name ~ ", start_offset => interval '"
      ~ config.get('refresh_window', '3 days') ~ "', end_offset => interval '" ~ aggregate.width
      ~ "', schedule_interval => interval '" ~ config.get('refresh_every', '1 minute') ~ "', if_not_exists => true)") %}
  {% if config.get('columnstore_after') %}
    {% do run_query("alter materialized view " ~ aggregate.materialized ~ " set (timescaledb.enable_columnstore = true)") %}
    {% do run_query("call add_columnstore_policy(" ~ name ~ ", after => interval '"
        ~ config.get('columnstore_after') ~ "', if_not_exists => true)") %}
  {% endif %}
  {% if aggregate.retention %}
    {% do run_query("select add_retention_policy(" ~ name ~ ", drop_after => interval '"
        ~ aggregate.retention ~ "', if_not_exists => true)") %}
  {% endif %}
{% endmacro %}

{# Tells refreshes of it; a column the model has gained is added, empty where history cannot be computed. #}
{% macro register_aggregate(aggregate) %}
  {%- set columns = "array[" ~ (aggregate.columns | map('string') | map('tojson') | join(', ') | replace('"', "'")) ~ "]" -%}
  {% if aggregate.backend == 'postgresql' %}
    {%- set present = adapter.get_columns_in_relation(
        api.Relation.create(schema=this.schema, identifier=this.identifier ~ '_materialized')) | map(attribute='name') | list -%}
    {% for column in get_column_schema_from_query(aggregate.query | replace('__input__', aggregate.source)) %}
      {% if column.name not in present %}
        {% do run_query("alter table " ~ aggregate.materialized ~ " add column " ~ column.name ~ " " ~ column.data_type) %}
      {% endif %}
    {% endfor %}
  {% endif %}
  {% do run_query(
      "insert into gold.aggregates (name, level, backend, materialized, source, source_time, bucket_width,"
      ~ " columns, query, rank, retention) values ("
      ~ [text(aggregate.name), text(aggregate.level), text(aggregate.backend), text(aggregate.materialized),
         text(aggregate.source), text(aggregate.source_time), text(aggregate.width), columns,
         text(aggregate.query), aggregate.rank, text(aggregate.retention)] | join(', ')
      ~ ") on conflict (name) do update set level = excluded.level, backend = excluded.backend,"
      ~ " materialized = excluded.materialized, source = excluded.source, source_time = excluded.source_time,"
      ~ " bucket_width = excluded.bucket_width, columns = excluded.columns, query = excluded.query,"
      ~ " rank = excluded.rank, retention = excluded.retention") %}
{% endmacro %}

{#
  Computes every bucket above the floor. On TimescaleDB a refresh must begin its own transactions, which dbt's
  connection does not let it: there every bucket is marked, read in real time, and refreshed within a minute.
#}
{% macro fill_aggregate(aggregate) %}
  {% if aggregate.backend == 'timescaledb' %}
    {% do run_query(
        "insert into gold.dirty_buckets (workspace_id, pipeline_id, level, bucket)"
        ~ " select distinct workspace_id, pipeline_id, " ~ text(aggregate.level) ~ ", gold.time_bucket('"
        ~ aggregate.width ~ "', " ~ aggregate.source_time ~ ") from " ~ aggregate.source
        ~ " where " ~ aggregate.source_time ~ " >= gold.floor_of(" ~ text(aggregate.source) ~ ")") %}
  {% else %}
    {% do run_query("call gold.refresh_aggregate(" ~ text(aggregate.name) ~ ", null, null, true, null)") %}
  {% endif %}
{% endmacro %}

{% macro drop_aggregate(aggregate) %}
  {%- set kind = 'materialized view' if aggregate.backend == 'timescaledb' else 'table' -%}
  {% do run_query("drop view if exists " ~ aggregate.name ~ " cascade") %}
  {% do run_query("drop " ~ kind ~ " if exists " ~ aggregate.materialized ~ " cascade") %}
{% endmacro %}
