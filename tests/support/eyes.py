"""With whose eyes tests read data, where it does not matter whose."""

from sluiceway.identity.contracts import DataAccess


def owner_of(workspace_id: int = 1) -> DataAccess:
    """What the owner of a workspace sees: no rule of a test's own names that role unless it says so."""
    return DataAccess.of(workspace_id, ["owner"])
