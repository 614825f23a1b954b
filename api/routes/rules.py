"""Row rules and column masks: list, read, apply, delete; and what they mean for whoever asks."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic import BaseModel, Field

from api.auditing import actor_of, note, note_read
from api.bodies import YAML_ANSWER, YAML_BODY, check_name, tell_outcome, yaml_source
from api.conditional import expected_version
from api.deps import Services, catalog, require
from api.errors import problem_responses
from api.pagination import CursorParameter, Limit, Page, decode, page
from api.routes.query import query_service
from api.viewing import documented
from sluiceway.audit.actions import Action
from sluiceway.audit.contracts import Entry
from sluiceway.audit.service import record
from sluiceway.identity.contracts import Caller
from sluiceway.identity.permissions import Permission
from sluiceway.rules import service
from sluiceway.rules.contracts import Rule, RuleVersion, Saved
from sluiceway.rules.errors import InvalidRule

router = APIRouter(prefix="/v1", tags=["rules"])

Name = Annotated[str, Path(max_length=63, examples=["regions"])]
MayRead = Annotated[Caller, Depends(require(Permission.RULE_READ))]
MayManage = Annotated[Caller, Depends(require(Permission.RULE_MANAGE))]
MayAsk = Annotated[Caller, Depends(require(Permission.DATA_READ))]
IfMatch = Annotated[
    str | None,
    Header(description="The version that is to be changed; 0: there must be none.", examples=['"3"']),
]


class MaskOut(BaseModel):
    field: str
    kind: Literal["hide", "hash", "partial"] = Field(serialization_alias="as")
    first: int = Field(description="Characters kept at the beginning (partial).")
    last: int = Field(description="Characters kept at the end (partial).")


class RuleOut(BaseModel):
    """Which rows and columns of a pipeline or mart those concerned may see."""

    name: str
    version: int
    description: str
    pipeline: str | None
    model: str | None
    roles: list[str] = Field(description="Whom it concerns: holders of any of these; none: everyone.")
    exempt: list[str] = Field(
        serialization_alias="except", description="Holders of any of these it does not concern."
    )
    rows: str | None = Field(description="The condition under which they see a row; null: every row.")
    masks: list[MaskOut]
    created_at: datetime
    updated_at: datetime
    updated_by: UUID | None


class RuleVersionOut(BaseModel):
    version: int
    deleted: bool = Field(description="The rule ended with this version.")
    spec: dict[str, Any] = Field(description="Its JSON Schema: /v1/schemas/rule.")
    created_by: UUID | None
    created_at: datetime


class RuleApplied(BaseModel):
    name: str
    version: int
    outcome: Literal["created", "updated", "unchanged"]


class EffectOut(BaseModel):
    """What the rules of a pipeline or mart mean for whoever asks (or is looked through)."""

    restricted: bool = Field(description="They may not see every row.")
    masks: dict[str, Literal["hide", "hash", "partial"]] = Field(description="Masked columns.")


@router.get("/rules", summary="List rules")
def list_rules(
    request: Request, services: Services, caller: MayRead, limit: Limit = 200, cursor: CursorParameter = None
) -> Page[RuleOut]:
    """By name."""
    after = decode(cursor, str)
    with catalog(services, caller) as conn:
        note_read(request, conn, caller, Action.RULE_LISTED)
        found = service.list_rules(conn, caller.workspace_id)
    if after is not None:
        found = [rule for rule in found if rule.name > after[0]]
    return page(found[: limit + 1], limit, _out, lambda rule: (rule.name,))


@router.get("/rules/{name}", summary="One rule")
def get_rule(
    request: Request, services: Services, caller: MayRead, name: Name, response: Response
) -> RuleOut:
    """As it holds now; the ETag is its version."""
    with catalog(services, caller) as conn:
        note_read(request, conn, caller, Action.RULE_LISTED, target="rule", target_id=name)
        found = service.get_rule(conn, caller.workspace_id, name)
    response.headers["ETag"] = f'"{found.version}"'
    return _out(found)


@router.put(
    "/rules/{name}", summary="Apply a rule", openapi_extra=YAML_BODY,
    responses={
        201: {"model": RuleApplied, "description": "Created"}, **problem_responses((409, 415, 503)),
    },
)  # fmt: skip
def apply_rule(
    request: Request,
    services: Services,
    caller: MayManage,
    name: Name,
    source: Annotated[str, Depends(yaml_source)],
    response: Response,
    if_match: IfMatch = None,
) -> RuleApplied:
    """Created or replaced. The database holds to it from the answer on, also for open streams."""
    spec = service.parse(source)
    check_name(spec.name, name, InvalidRule)

    def beside(conn: sa.Connection, saved: Saved) -> None:
        before = {} if saved.before is None else saved.before.document()
        action = Action.RULE_CREATED if saved.before is None else Action.RULE_CHANGED
        after = saved.rule.spec.document()
        record(conn, Entry(action, actor_of(request, caller), "rule", name, before, after))

    saved = service.save_rule(
        services.database, caller.workspace_id, spec, source=source, by=caller.user_id,
        expected_version=expected_version(if_match), beside=beside,
    )  # fmt: skip
    tell_outcome(response, saved.outcome, f"/v1/rules/{name}")
    response.headers["ETag"] = f'"{saved.rule.version}"'
    return RuleApplied(name=name, version=saved.rule.version, outcome=saved.outcome)


@router.delete(
    "/rules/{name}", status_code=204, summary="Delete a rule", responses=problem_responses((400, 409, 503))
)
def delete_rule(
    request: Request, services: Services, caller: MayManage, name: Name, if_match: IfMatch = None
) -> Response:
    """What it kept from view is seen from the answer on. Its versions stay."""

    def beside(conn: sa.Connection, saved: Saved) -> None:
        before = saved.rule.spec.document()
        record(conn, Entry(Action.RULE_DELETED, actor_of(request, caller), "rule", name, before))

    service.delete_rule(
        services.database, caller.workspace_id, name, by=caller.user_id,
        expected_version=expected_version(if_match), beside=beside,
    )  # fmt: skip
    return Response(status_code=204)


@router.get("/rules/{name}/versions", summary="A rule's versions")
def list_rule_versions(
    request: Request, services: Services, caller: MayRead, name: Name
) -> Page[RuleVersionOut]:
    """Newest first, on one page; those of a deleted rule too."""
    with catalog(services, caller) as conn:
        note_read(request, conn, caller, Action.RULE_LISTED, target="rule", target_id=name)
        found = service.list_versions(conn, caller.workspace_id, name)
    return Page(items=[_version_out(version) for version in found])


@router.get(
    "/rules/{name}/export",
    summary="Export a rule",
    response_class=Response,
    responses=YAML_ANSWER,
)
def export_rule(request: Request, services: Services, caller: MayRead, name: Name) -> Response:
    """The YAML as applied, comments included."""
    with catalog(services, caller) as conn:
        note(request, conn, caller, Action.EXPORT_MADE, target="rule", target_id=name)
        source = service.to_yaml(conn, service.get_rule(conn, caller.workspace_id, name))
    return Response(source, media_type="text/yaml")


@router.get(
    "/rule-effects",
    summary="What rules mean for whoever asks",
    dependencies=[Depends(documented)],
    responses=problem_responses((404,)),
)
def get_effect(
    services: Services,
    caller: MayAsk,
    pipeline: Annotated[str | None, Query(max_length=100)] = None,
    model: Annotated[str | None, Query(max_length=130, examples=["marts.flights_on_time"])] = None,
) -> EffectOut:
    """Of one pipeline or one model. With `as_role` for another role."""
    if (pipeline is None) == (model is None):
        raise InvalidRule("Give either `pipeline` or `model`.")
    effect = query_service(services).effect(caller.access, pipeline=pipeline, model=model)
    return EffectOut(
        restricted=effect.ruled, masks={name: mask.kind for name, mask in sorted(effect.masks.items())}
    )


def _out(rule: Rule) -> RuleOut:
    spec = rule.spec
    return RuleOut(
        name=rule.name,
        version=rule.version,
        description=spec.description,
        pipeline=spec.pipeline,
        model=None if spec.model_name is None else f"marts.{spec.model_name}",
        roles=spec.roles,
        exempt=spec.exempt,
        rows=spec.rows,
        masks=[MaskOut(field=m.field, kind=m.kind, first=m.first, last=m.last) for m in spec.masks],
        created_at=rule.created_at,
        updated_at=rule.updated_at,
        updated_by=rule.updated_by,
    )


def _version_out(version: RuleVersion) -> RuleVersionOut:
    names = RuleVersionOut.model_fields
    return RuleVersionOut(**{k: v for k, v in asdict(version).items() if k in names})
