"""Whether this process is alive, and whether it can do its work. For supervisors and load balancers."""

import os
import tempfile
from typing import Literal

import sqlalchemy as sa
from fastapi import APIRouter, Response
from pydantic import BaseModel

from api.deps import Services
from sluiceway.infra.database import Role

router = APIRouter(tags=["operations"])

State = Literal["ok", "failing", "not here"]


class Alive(BaseModel):
    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    status: Literal["ready", "not ready", "stopping"]
    database: State
    spool: State


@router.get("/healthz", summary="Alive?")
def healthz() -> Alive:
    """The process answers. Nothing else is looked at: a restart would not mend it."""
    return Alive()


@router.get(
    "/readyz", summary="Ready?", responses={503: {"model": Ready, "description": "Something is missing"}}
)
def readyz(services: Services, response: Response) -> Ready:
    """The database answers and the spool's folder can be written to.

    An ingest process is ready without the database: it accepts events all the same.
    """
    database, spool = _database(services), _spool(services)
    ingest_only = services.broker is None and services.spool is not None
    ready = spool != "failing" and (database == "ok" or ingest_only)
    stopping = services.stopping.is_set()
    if stopping or not ready:
        response.status_code = 503
        response.headers["Retry-After"] = "2"
    return Ready(
        status="stopping" if stopping else "ready" if ready else "not ready", database=database, spool=spool
    )


def _database(services: Services) -> State:
    try:
        with services.database.transaction(Role.APP) as conn:
            conn.execute(sa.text("SELECT 1"))
    except sa.exc.SQLAlchemyError:
        return "failing"
    return "ok"


def _spool(services: Services) -> State:
    if services.spool is None:
        return "not here"
    try:
        descriptor, name = tempfile.mkstemp(prefix=".ready-", dir=services.settings.spool_dir)
        os.close(descriptor)
        os.unlink(name)  # noqa: PTH108  # mkstemp gives a plain string
    except OSError:
        return "failing"
    return "ok"
