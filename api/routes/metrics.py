"""`/metrics` for Prometheus, at the root as is the custom."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from api.deps import Services, catalog
from api.errors import problem_responses
from api.metrics import HttpMetrics, as_text, pipeline_families
from api.security import identify
from sluiceway.catalog.service import Catalog
from sluiceway.identity.permissions import Permission
from sluiceway.loading.overview import statuses

router = APIRouter(tags=["operations"])


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Text format"},
        **problem_responses((401, 403)),
    },
)
def metrics(request: Request, services: Services) -> Response:
    """This node's processes, its spool and the platform's totals.

    With a key of scope `read` (`Authorization: Bearer …`) also each pipeline of its workspace.
    """
    held: HttpMetrics = services.extra["metrics"]
    caller = None
    if "authorization" in request.headers:
        caller = identify(request, services)
        caller.check(Permission.PIPELINE_READ)
    text = held.exposition()
    if caller is not None:
        now = services.clock.now()
        with catalog(services, caller) as conn:
            pipelines = {p.id: p for p in Catalog().list(conn, caller.workspace_id)}
            known = statuses(conn, caller.workspace_id, now=now)
        pairs = [(pipelines[key], status) for key, status in known.items() if key in pipelines]
        text += as_text(pipeline_families(pairs, now))
    return Response(text, media_type=CONTENT_TYPE_LATEST)
