"""Tables of the quality slice, as SQLAlchemy sees them. The migrations own their definition."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

metadata = sa.MetaData(schema="quality")

suites = sa.Table(
    "suites",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("workspace_id", sa.Integer, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("spec", JSONB, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True)),
)

results = sa.Table(
    "results",
    metadata,
    sa.Column("workspace_id", sa.Integer, nullable=False),
    sa.Column("pipeline_id", sa.Integer, primary_key=True),
    sa.Column("suite", sa.Text, nullable=False),
    sa.Column("expectation", sa.Text, primary_key=True),
    sa.Column("origin", sa.Text, primary_key=True),
    sa.Column("minute", sa.DateTime(timezone=True), primary_key=True),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("batches", sa.Integer, nullable=False),
    sa.Column("failed_batches", sa.Integer, nullable=False),
    sa.Column("evaluated", sa.BigInteger, nullable=False),
    sa.Column("unexpected", sa.BigInteger, nullable=False),
    sa.Column("detail", JSONB, nullable=False),
)

dead_letters = sa.Table(
    "dead_letters",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("workspace_id", sa.Integer, nullable=False),
    sa.Column("pipeline_id", sa.Integer, nullable=False),
    sa.Column("batch_name", sa.Text, nullable=False),
    sa.Column("position", sa.Text, nullable=False),
    sa.Column("event_id", sa.Text),
    sa.Column("event_time", sa.DateTime(timezone=True)),
    sa.Column("step", sa.Text, nullable=False),
    sa.Column("code", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("expectation", sa.Text),
    sa.Column("payload", sa.LargeBinary, nullable=False),
    sa.Column("headers", JSONB, nullable=False),
    sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("resolved_at", sa.DateTime(timezone=True)),
)

# Only to name a pipeline by its slug; the catalog owns the table.
pipelines = sa.table("pipelines", sa.column("id"), sa.column("workspace_id"), sa.column("slug"), schema="app")
