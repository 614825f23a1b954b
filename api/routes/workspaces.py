"""The workspaces a caller belongs to."""

from typing import Annotated

from fastapi import APIRouter, Depends

from api.deps import Services, catalog, require
from api.pagination import Page
from api.routes.session import WorkspaceRef
from sluiceway.identity import service
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission

router = APIRouter(prefix="/v1/workspaces", tags=["workspaces"])


@router.get("", summary="Workspaces of the caller")
def list_workspaces(
    services: Services, caller: Annotated[Caller, Depends(require(Permission.WORKSPACE_READ))]
) -> Page[WorkspaceRef]:
    """Every workspace the person belongs to; an API key has exactly one. One page holds them all."""
    with catalog(services, caller) as conn:
        if caller.user_id is None:
            slug, name, _ = service.workspace(conn, caller.workspace_id)
            return Page(items=[WorkspaceRef(id=caller.workspace_id, slug=slug, name=name, role=None)])
        found = service.memberships(conn, caller.user_id)
    return Page(
        items=[
            WorkspaceRef(id=m.workspace_id, slug=m.workspace_slug, name=m.workspace_name, role=m.role)
            for m in found
        ]
    )
