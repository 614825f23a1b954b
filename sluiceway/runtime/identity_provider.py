"""The identity provider that the installation's settings name (`SLUICEWAY_OIDC_…`): kept as they say.

Belongs here: adding, changing and removing it when the schema is prepared. Not here: those set up by API and
command (`sluiceway.identity.providers`).
"""

import sqlalchemy as sa

from sluiceway.audit.actions import Action
from sluiceway.audit.contracts import Entry
from sluiceway.audit.service import record
from sluiceway.identity import providers
from sluiceway.identity.providers import GroupRole, Provider, ProviderSpec
from sluiceway.infra.database import Database, Role
from sluiceway.infra.outbound import PrivateHosts
from sluiceway.infra.settings import Settings
from sluiceway.runtime.auditing import PLATFORM

FIRST_WORKSPACE = 1


def keep_provider(settings: Settings, database: Database) -> None:
    """Make the first organization's provider what the settings say; without any, there is none of theirs.

    Raises `InvalidProvider` or `ProviderExists`.
    """
    private, wanted = PrivateHosts(settings.private_hosts), spec_of(settings)
    secret = settings.oidc_client_secret or ""
    with database.transaction(Role.APP, workspace_id=FIRST_WORKSPACE) as conn:
        kept = next((p for p in providers.list_providers(conn) if p.managed_by == "settings"), None)
        if wanted is not None and kept is None:
            made = providers.add(conn, database.envelope, wanted, secret, private, managed_by="settings")
            _note(conn, Action.PROVIDER_ADDED, made)
        elif wanted is not None and kept is not None:
            before, after = providers.change(
                conn, database.envelope, kept.id, wanted, private, secret=secret, managed_by="settings"
            )
            if before.spec != after.spec:
                _note(conn, Action.PROVIDER_CHANGED, after)
        elif kept is not None:
            _note(conn, Action.PROVIDER_REMOVED, providers.remove(conn, kept.id, managed_by="settings"))


def spec_of(settings: Settings) -> ProviderSpec | None:
    """The provider that the settings name; None: none."""
    if settings.oidc_issuer is None or settings.oidc_client_id is None:
        return None
    return ProviderSpec(
        name=settings.oidc_name,
        issuer=settings.oidc_issuer,
        client_id=settings.oidc_client_id,
        scopes=settings.oidc_scopes,
        groups_claim=settings.oidc_groups_claim,
        group_roles=tuple(GroupRole(g, FIRST_WORKSPACE, role) for g, role in settings.oidc_group_roles),
        domains=settings.oidc_domains,
        default_workspace_id=FIRST_WORKSPACE if settings.oidc_default_role else None,
        default_role=settings.oidc_default_role,
    )


def _note(conn: sa.Connection, action: Action, about: Provider) -> None:
    detail = {"name": about.spec.name, "issuer": about.spec.issuer}
    record(conn, Entry(action, PLATFORM, "identity_provider", str(about.id), detail=detail))
