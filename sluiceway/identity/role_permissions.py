"""What roles allow in a workspace: those built in and the workspace's own. One look-up, nothing else."""

from collections.abc import Iterable

import sqlalchemy as sa

from sluiceway.identity.permissions import Permission, permissions_of_member


def permissions_of_roles(
    conn: sa.Connection, workspace_id: int, roles: Iterable[str]
) -> frozenset[Permission]:
    """All that any of these roles allows; one that the workspace does not have allows nothing."""
    slugs = list(roles)
    granted: Iterable[str] = conn.execute(
        sa.text(
            "SELECT DISTINCT p FROM app.roles r, unnest(r.permissions) p"
            " WHERE r.workspace_id = :workspace AND r.slug = ANY(:roles)"
        ),
        {"workspace": workspace_id, "roles": slugs},
    ).scalars()
    return permissions_of_member(slugs, granted)
