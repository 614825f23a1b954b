"""The table of dashboards, as SQLAlchemy sees it. The migrations own its definition."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

metadata = sa.MetaData(schema="app")

dashboards = sa.Table(
    "dashboards",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("workspace_id", sa.Integer, nullable=False),
    sa.Column("slug", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("spec", JSONB, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("layout", JSONB, nullable=False),
    sa.Column("layout_version", sa.Integer, nullable=False),
    sa.Column("created_by", sa.Uuid),
    sa.Column("updated_by", sa.Uuid),
    sa.Column("created_at", sa.DateTime(timezone=True)),
    sa.Column("updated_at", sa.DateTime(timezone=True)),
)
