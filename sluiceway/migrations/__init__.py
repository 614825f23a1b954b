"""The database's schema as Alembic revisions, and the one function that brings a database up to date."""

from sluiceway.migrations.runner import migrate

__all__ = ["migrate"]
