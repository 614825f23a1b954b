"""What is not yours answers as what is not there: word for word, so that nobody learns what others have.

Each question is asked twice by somebody of another workspace or organization: once about what the first
workspace has, once about what nobody has. Operations with a name in the address are found from the document
and the route tables; names in bodies and parameters stand in `QUESTIONS`.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from api.app import create_app
from api.openapi import operations
from sluiceway.quality.contracts import NoGate
from tests.support.attacks import Bodies, unchecked
from tests.support.callers import (
    ABROAD,
    BROWSER,
    NOBODY,
    SPOOFED,
    TREASURE,
    Planted,
    Tried,
    another_organization,
    some,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

NOTHING = "zq7nothings"
THEIRS, NOBODYS = "owner1@example.com", "nobody9@example.com"
# What nobody has, of the same kind and length as what the first workspace has.
MISSING = {
    "pipeline": NOTHING, "slug": NOTHING, "name": NOTHING, "suite": NOTHING, "model": NOTHING,
    "key_id": "zzzzzzzzzzzz", "workspace_id": "977", "kind": "pipeline", "seq": "977", "batch_id": "977",
    "schema_id": "none", "email": NOBODYS,
}  # fmt: skip
# Of these each workspace counts for itself: what is answered is the caller's own.
COUNTED = frozenset({"get_entry"})
YAML = {"Content-Type": "text/yaml"}
ARROW = "application/vnd.apache.arrow.stream"
SCIM = {"Content-Type": "application/scim+json"}
USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


def _yaml(document: Mapping[str, Any]) -> dict[str, Any]:
    return {"content": orjson.dumps(document), "headers": YAML}  # JSON is YAML


Question = Callable[[dict[str, str]], tuple[str, str, dict[str, Any]]]
"""From the names of things: method, address and the request's options."""
QUESTIONS: dict[str, Question] = {
    "rows": lambda n: ("POST", "/v1/query", {"json": {"pipeline": n["pipeline"], "rows": ["shop"]}}),
    "rows as Arrow": lambda n: ("POST", "/v1/query", {
        "headers": {"Accept": ARROW}, "json": {"pipeline": n["pipeline"], "rows": ["shop"]}}),
    "the log as a table": lambda n: ("GET", f"/v1/audit/export?format=csv&target_id={n['key_id']}", {}),
    "the log as lines": lambda n: ("GET", f"/v1/audit/export?format=ndjson&target_id={n['key_id']}", {}),
    "a sum": lambda n: ("POST", "/v1/query", {"json": {
        "pipeline": n["pipeline"], "measures": [{"field": "amount", "agg": "sum"}]}}),
    "a model": lambda n: ("POST", "/v1/query", {"json": {"model": n["model"], "rows": ["shop"]}}),
    "a stream token": lambda n: ("POST", "/v1/stream-tokens", {"json": {"pipelines": [n["pipeline"]]}}),
    "a key": lambda n: ("POST", "/v1/keys", {"json": {
        "name": "k", "scopes": ["ingest"], "pipelines": [n["pipeline"]]}}),
    "a replay": lambda n: ("POST", "/v1/replays", {"json": {
        "pipeline": n["pipeline"], "from": "2026-03-01"}}),
    "rule effects": lambda n: ("GET", f"/v1/rule-effects?pipeline={n['pipeline']}", {}),
    "rule effects of a model": lambda n: ("GET", f"/v1/rule-effects?model={n['model']}", {}),
    "batches": lambda n: ("GET", f"/v1/batches?pipeline={n['pipeline']}", {}),
    "dead letters": lambda n: ("GET", f"/v1/dead-letters?pipeline={n['pipeline']}", {}),
    "a dead event": lambda n: ("GET", f"/v1/dead-letters?event_id={n['pipeline']}-dead", {}),
    "dead letters' counts": lambda n: ("GET", f"/v1/dead-letters/counts?pipeline={n['pipeline']}", {}),
    "letters tried again": lambda n: ("POST", "/v1/dead-letters/retry", {"json": {"ids": [n["letter_id"]]}}),
    "letters set aside": lambda n: ("POST", "/v1/dead-letters/discard", {"json": {"ids": [n["letter_id"]]}}),
    "quality": lambda n: ("GET", f"/v1/quality/results?pipeline={n['pipeline']}", {}),
    "quality in short": lambda n: ("GET", f"/v1/quality/summary?pipeline={n['pipeline']}", {}),
    "replays": lambda n: ("GET", f"/v1/replays?pipeline={n['pipeline']}", {}),
    "links": lambda n: ("GET", f"/v1/links?dashboard={n['slug']}", {}),
    "sessions": lambda n: ("GET", f"/v1/sessions?user_id={n['user_id']}", {}),
    "members": lambda n: ("GET", f"/v1/members?search={n['email']}", {}),
    "the log, by whom": lambda n: ("GET", f"/v1/audit?actor={n['user_id']}", {}),
    "the log, of what": lambda n: ("GET", f"/v1/audit?target_id={n['key_id']}", {}),
    "another role's eyes": lambda n: ("GET", f"/v1/rule-effects?pipeline=own&as_role={n['slug']}", {}),
    "another role's rows": lambda n: ("POST", f"/v1/query?as_role={n['slug']}", {"json": {
        "pipeline": "own", "rows": ["shop"]}}),
    "a role for a team": lambda n: ("POST", "/v1/teams", {"json": {"name": "t", "roles": [n["slug"]]}}),
    "a role for an account": lambda n: ("POST", "/v1/service-accounts", {"json": {
        "name": "a", "roles": [n["slug"]]}}),
    "a role for somebody new": lambda n: ("POST", "/v1/invitations", {"json": {
        "email": "new@example.com", "role": n["slug"]}}),
    "a team for somebody new": lambda n: ("POST", "/v1/invitations", {"json": {
        "email": "new@example.com", "teams": [n["group_id"]]}}),
    "somebody to a team": lambda n: ("PUT", f"/v1/teams/own/members/{n['user_id']}", {}),
    "who takes things over": lambda n: (
        "DELETE", f"/v1/members/{NOBODY}?hand_over_to={n['user_id']}", {}),
    "a rule on a pipeline": lambda n: ("PUT", "/v1/rules/own", _yaml({
        "kind": "Rule", "name": "own", "pipeline": n["pipeline"], "roles": ["viewer"],
        "rows": "shop = 'a'"})),
    "a rule for a role": lambda n: ("PUT", f"/v1/rules/{n['name']}", _yaml({
        "kind": "Rule", "name": n["name"], "pipeline": "own", "roles": [n["slug"]], "rows": "shop = 'a'"})),
    "another workspace": lambda n: ("PUT", "/v1/session/workspace", {"json": {
        "workspace_id": int(n["workspace_id"])}}),
    "a workspace to leave": lambda n: ("DELETE", f"/v1/me/workspaces/{n['workspace_id']}", {}),
    "provisioned users": lambda n: (
        "GET", f"/scim/v2/Users?filter=userName%20eq%20%22{n['email']}%22", {}),
    "provisioned groups": lambda n: (
        "GET", f"/scim/v2/Groups?filter=displayName%20eq%20%22{n['slug']}%22", {}),
    "a provisioned group of": lambda n: ("POST", "/scim/v2/Groups", {
        "headers": SCIM, "content": orjson.dumps({
            "schemas": [GROUP], "displayName": "g", "members": [{"value": n["user_id"]}]})}),
    "a link's filters": lambda n: ("POST", f"/v1/dashboards/{n['slug']}/links", {"json": {
        "name": "l", "filters": [{"field": "shop", "op": "eq", "value": "a"}]}}),
}  # fmt: skip
# What may be made under a name whoever else has it: names are each workspace's own.
MADE: dict[str, Question] = {
    "a pipeline": lambda n: ("PUT", f"/v1/pipelines/{n['pipeline']}", _yaml({
        "kind": "Pipeline", "name": n["pipeline"], "fields": [{"name": "shop", "type": "string"}]})),
    "a suite": lambda n: ("PUT", f"/v1/quality/suites/{n['suite']}", _yaml({
        "kind": "Suite", "name": n["suite"], "expectations": [
            {"name": "nn", "type": "expect_column_values_to_not_be_null", "kwargs": {"column": "shop"},
             "on_failure": "warn"}]})),
    "a dashboard": lambda n: ("PUT", f"/v1/dashboards/{n['slug']}", _yaml({
        "kind": "Dashboard", "name": n["slug"], "widgets": []})),
    "a team": lambda n: ("POST", "/v1/teams", {"json": {"name": n["name"]}}),
    "a role": lambda n: ("POST", "/v1/roles", {"json": {"name": n["name"], "permissions": ["data:read"]}}),
    "a service account": lambda n: ("POST", "/v1/service-accounts", {"json": {
        "name": n["name"], "roles": ["viewer"]}}),
    "a key": lambda n: ("POST", "/v1/keys", {"json": {"name": n["name"], "scopes": ["read"]}}),
    "an invitation": lambda n: ("POST", "/v1/invitations", {"json": {"email": n["email"]}}),
    "a rule": lambda n: ("PUT", f"/v1/rules/{n['name']}", _yaml({
        "kind": "Rule", "name": n["name"], "pipeline": n["pipeline"], "roles": ["viewer"],
        "rows": "shop = 'a'"})),
}  # fmt: skip


@pytest.fixture
def askers(world: Any, planted: Planted) -> dict[str, Any]:
    """Those who may everything in their own workspace, and nothing here."""
    another_organization(world)
    world.services.gate = NoGate
    own = {"kind": "Pipeline", "name": "own", "fields": [{"name": "shop", "type": "string"}]}
    found: dict[str, Any] = {}
    for workspace_id in (2, ABROAD):
        owner = unchecked(world, world.person("owner", workspace_id=workspace_id))
        assert owner.put("/v1/pipelines/own", **_yaml(own)).status_code == 201
        assert owner.post("/v1/teams", json={"name": "own"}).status_code == 201
        found[f"owner of {workspace_id}"] = owner
        for scope in ("manage", "provision"):
            program = world.program(scope, workspace_id=workspace_id)
            found[f"key {scope} of {workspace_id}"] = unchecked(world, program)
    return found


# What is another one each time: ids, times, keys and tokens.
_ANEW = (
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}", "#"),
    (r"\d{4}-\d\d-\d\dT[0-9:.]+(Z|\+00:00)", "@"),
    (r'slw_[a-z0-9]{12}_[A-Za-z0-9_-]+|"id":"[a-z0-9]{12}"|/v1/keys/[a-z0-9]{12}', "key"),
    (r"[A-Za-z0-9_-]{43}", "token"),
)


def told(answer: Any, names: dict[str, str]) -> tuple[Any, ...]:
    """All that an answer says, but for what was asked, its number and its time."""
    text = answer.text
    place = answer.headers.get("location", "")
    for value in sorted(names.values(), key=len, reverse=True):
        if len(value) > 3:
            text, place = text.replace(value, "*"), place.replace(value, "*")
    for pattern, instead in _ANEW:
        text, place = re.sub(pattern, instead, text), re.sub(pattern, instead, place)
    headers = {k: v for k, v in answer.headers.items() if k not in _OWN_HEADERS}
    return answer.status_code, text, place, tuple(sorted(headers.items()))


_OWN_HEADERS = frozenset(
    {"x-request-id", "ratelimit", "content-length", "location", "retry-after", "set-cookie"}
)


def compare(tried: Tried, kind: str, what: str, ask: Callable[[dict[str, str]], Any], names: Any) -> None:
    """Ask about theirs and about nothing, twice by each who asks, and hold the answers together."""
    missing = {name: MISSING.get(name, NOBODY) for name in names}
    for spoofed in some(tried.attempts.total() // 4):
        answers = [ask({**one, **spoofed}) for one in (names, missing)]
        tried.attempts[kind] += 2
        theirs, nothing = (told(a, n) for a, n in zip(answers, (names, missing), strict=True))
        if theirs != nothing:
            tried.wrong.append(f"{kind}: {what}:\n    theirs:  {theirs[:3]}\n    nothing: {nothing[:3]}")
        shown = answers[0].text.replace(f"/{TREASURE}", "").replace(f"'{TREASURE}'", "")
        if answers[0].status_code >= 500 or (TREASURE in shown and answers[0].status_code >= 400):
            tried.wrong.append(f"{kind}: {what}: {answers[0].status_code} {answers[0].text[:200]}")


def test_names_in_addresses(
    world: Any, planted: Planted, askers: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    tried = Tried("names in addresses, theirs and nobody's")
    document = world.app.openapi()
    bodies = Bodies(document)
    asked = 0
    for path, method, operation in operations(document):
        # Streams and the event route: test_stream_matrix, test_event_route_matrix.
        if "{" not in path or operation["operationId"] in COUNTED | {"send_events", "stream_rows"}:
            continue
        asked += 1
        example = bodies.of(operation, "x")
        for kind, client in askers.items():
            if "provision" in kind or kind == "key manage of 2":
                continue

            def ask(
                names: dict[str, str], client: Any = client, path: str = path, method: str = method,
                example: Any = example,
            ) -> Any:  # fmt: skip
                headers = {k: v for k, v in names.items() if k.startswith(("X-", "Forwarded"))}
                address = re.sub(r"\{(\w+)\}", lambda m: names.get(m[1], NOBODY), path)
                media, body = example or ("application/json", {})
                content = body if isinstance(body, str) else orjson.dumps(body)
                headers["Content-Type"] = media
                return client.request(method.upper(), address, content=content, headers=headers)

            compare(tried, kind, f"{method} {path}", ask, planted.names)
    assert asked > 60, "the walk found too few"
    tried.tell(capsys)


def test_names_in_addresses_of_provisioning(
    world: Any, planted: Planted, askers: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    tried = Tried("users and groups, theirs and nobody's")
    bodies: dict[str, Any] = {
        "GET": None, "DELETE": None,
        "PUT Users": {"schemas": [USER], "userName": "u@example.com"},
        "PUT Groups": {"schemas": [GROUP], "displayName": "g"},
        "PATCH": {"schemas": [PATCH], "Operations": [{"op": "replace", "path": "externalId", "value": "x"}]},
    }  # fmt: skip
    for kind, client in askers.items():
        if "provision" not in kind:
            continue
        for key, body in bodies.items():
            method, _, only = key.partition(" ")
            for resource, parameter in (("Users", "user_id"), ("Groups", "group_id")):
                if only not in ("", resource):
                    continue

                def ask(
                    names: dict[str, str], client: Any = client, method: str = method, body: Any = body,
                    resource: str = resource, parameter: str = parameter,
                ) -> Any:  # fmt: skip
                    content = None if body is None else orjson.dumps(body)
                    address = f"/scim/v2/{resource}/{names[parameter]}"
                    return client.request(method, address, content=content, headers=SCIM)

                compare(tried, kind, f"{key} {resource}", ask, planted.names)
    tried.tell(capsys)


def test_names_in_bodies_and_parameters(
    world: Any, planted: Planted, askers: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    tried = Tried("names in bodies and parameters, theirs and nobody's")
    names = {**planted.names, "email": THEIRS}
    for kind, client in askers.items():
        for what, question in QUESTIONS.items():

            def ask(names: dict[str, str], client: Any = client, question: Question = question) -> Any:
                method, address, options = question(names)
                spoofed = {k: v for k, v in names.items() if k.startswith(("X-", "Forwarded"))}
                options = {**options, "headers": {**options.get("headers", {}), **spoofed}}
                return client.request(method, address, **options)

            compare(tried, kind, what, ask, names)
    tried.tell(capsys)


def test_a_name_that_somebody_else_has_is_free(
    world: Any, planted: Planted, askers: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether it is taken elsewhere is told by no refusal and no number behind it."""
    tried = Tried("names that others have, taken")
    names = {**planted.names, "email": THEIRS}
    missing = {name: MISSING.get(name, NOBODY) for name in names}
    for kind, client in askers.items():
        if "owner" not in kind:
            continue
        for what, question in MADE.items():
            answers = []
            for one in (names, missing):
                method, address, options = question(one)
                answers.append(client.request(method, address, **options))
                tried.attempts[kind] += 1
            theirs, nothing = told(answers[0], names), told(answers[1], missing)
            if theirs != nothing or answers[0].status_code not in (200, 201):
                tried.wrong.append(f"{kind}: {what}:\n    {theirs[:3]}\n    {nothing[:3]}")
    tried.tell(capsys)


def _provision(client: Any, email: str) -> Any:
    body = {"schemas": [USER], "userName": email, "displayName": "Somebody"}
    return client.post("/scim/v2/Users", content=orjson.dumps(body), headers=SCIM)


def test_a_provisioned_person_is_as_the_provider_says(planted: Planted, askers: dict[str, Any]) -> None:
    """Somebody of another workspace of the organization, and somebody who has no account: the same."""
    client = askers["key provision of 2"]
    shown = []
    for email in (THEIRS, NOBODYS):
        made = _provision(client, email)
        assert made.status_code == 201, made.text
        again = client.get(f"/scim/v2/Users/{made.json()['id']}")
        names = {"email": email}
        shown.append((told(made, names), told(again, names)))
    assert shown[0] == shown[1]


def test_nobody_of_another_organization_is_provisioned_unasked(
    world: Any, planted: Planted, askers: dict[str, Any]
) -> None:
    """They have to be invited; that is all that is said: not who they are, nor where they belong."""
    client = askers[f"key provision of {ABROAD}"]
    refused = _provision(client, THEIRS)
    assert refused.status_code == 409 and "Invite them" in refused.json()["detail"]
    assert told(refused, {"email": THEIRS}) == told(_provision(client, THEIRS), {"email": THEIRS})
    assert "Ada" not in refused.text and TREASURE not in refused.text
    listed = client.get("/scim/v2/Users").json()
    assert THEIRS not in {user["userName"] for user in listed["Resources"]}
    assert _provision(client, NOBODYS).status_code == 201


def test_links_that_do_not_work_look_alike(
    world: Any, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    """Unknown, revoked, over, of a dashboard that is gone, of somebody who has left."""
    tried = Tried("links that do not work")
    tokens = {"unknown": "sll_" + "x" * 43, "cut short": planted.link[:-1], "nothing like one": "x"}
    for why in ("revoked", "over", "without its dashboard", "of somebody locked out"):
        tokens[why] = _dead_link(world, planted, why)
    client = world.client(checked=False, headers=BROWSER)
    shown = set()
    for why, token in tokens.items():
        for spoofed in SPOOFED:
            answers = (
                client.post("/v1/link-sessions", json={"token": token}, headers=spoofed),
                client.post(
                    "/v1/link-sessions", json={"token": token, "password": "guessed"}, headers=spoofed
                ),
                client.get(f"/link/{token}", headers=spoofed),
                client.post(f"/link/{token}", data={"password": "guessed"}, headers=spoofed),
            )
            tried.attempts[why] += len(answers)
            shown.add(tuple(told(answer, {"token": token}) for answer in answers))
            if any(a.status_code != 404 or TREASURE in a.text for a in answers):
                tried.wrong.append(f"{why}: {[a.status_code for a in answers]}")
    assert len(shown) == 1, shown
    assert client.post("/v1/link-sessions", json={"token": planted.link}).status_code == 201, "the control"
    tried.tell(capsys)


def _dead_link(world: Any, planted: Planted, why: str) -> str:
    maker, slug = planted.owner, TREASURE
    if why == "of somebody locked out":
        maker = world.person("editor")
    if why == "without its dashboard":
        slug = "gone"
        board = {"kind": "Dashboard", "name": slug, "widgets": []}
        assert planted.owner.put(f"/v1/dashboards/{slug}", **_yaml(board)).status_code == 201
    made = maker.post(f"/v1/dashboards/{slug}/links", json={
        "name": why, "expires_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()})  # fmt: skip
    assert made.status_code == 201, made.text
    link_id = made.json()["info"]["id"]
    if why == "revoked":
        planted.owner.delete(f"/v1/links/{link_id}")
    elif why == "over":
        world.execute("UPDATE app.dashboard_links SET expires_at = now(), created_at = now() - interval '1 h'"
                      " WHERE id = :id", id=link_id)  # fmt: skip
    elif why == "without its dashboard":
        planted.owner.delete(f"/v1/dashboards/{slug}")
    else:
        world.execute("UPDATE app.users SET disabled_at = now() WHERE email = 'editor1@example.com'")
    return str(made.json()["token"])


def test_invitations_that_do_not_work_look_alike(
    world: Any, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = Tried("invitations that do not work")
    tokens = {"unknown": "x" * 43, "cut short": planted.invitation[:-1], "nothing like one": "'"}
    for why, change in {
        "revoked": "revoked_at = now()",
        "used": "accepted_at = now()",
        "over": "expires_at = now(), created_at = now() - interval '1 h'",
    }.items():
        made = planted.owner.post("/v1/invitations", json={"email": f"{why}@example.com"}).json()
        world.execute(f"UPDATE app.invitations SET {change} WHERE id = :id", id=made["invitation"]["id"])
        tokens[why] = made["link"].rpartition("/")[2]
    client = world.client(checked=False, headers=BROWSER)
    shown = set()
    for why, token in tokens.items():
        for spoofed in SPOOFED:
            body = {"token": token, "name": "Mallory", "password": "a passphrase nobody guesses 71"}
            answers = (
                client.post("/v1/invitations/acceptance", json=body, headers=spoofed),
                client.get(f"/invitation/{token}", headers=spoofed),
                client.post(f"/invitation/{token}", data=body, headers=spoofed),
            )
            tried.attempts[why] += len(answers)
            shown.add(tuple(told(answer, {"token": token}) for answer in answers))
            if any(a.status_code != 404 or TREASURE in a.text for a in answers):
                tried.wrong.append(f"{why}: {[a.status_code for a in answers]}")
    assert len(shown) == 1, shown
    assert client.get(f"/invitation/{planted.invitation}").status_code == 200, "the control"
    tried.tell(capsys)


def test_who_exists_is_not_told_to_strangers(
    world: Any, planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    """Signing in and forgotten passwords, as JSON and as pages, with mail and without."""
    tried = Tried("who exists")
    client = world.client(checked=False, headers=BROWSER)
    form = {"password": "not the password", "next": "/"}
    for smtp in (None, "smtp://127.0.0.1:1"):
        object.__setattr__(world.services.settings, "smtp_url", smtp)
        world.app = create_app(world.services)
        for number, spoofed in enumerate(SPOOFED):
            shown = []
            for email in (THEIRS, NOBODYS):
                fresh = world.client(
                    checked=False, headers={**BROWSER, **spoofed}, address=f"198.51.100.{number}"
                )
                answers = (
                    fresh.post("/v1/session", json={"email": email, "password": "not the password"}),
                    fresh.post("/sign-in", data={"email": email, **form}),
                    fresh.post("/v1/password-resets", json={"email": email}),
                    fresh.post("/forgot", data={"email": email}),
                )
                world.execute("DELETE FROM app.sign_in_attempts")
                tried.attempts["anonymous"] += len(answers)
                shown.append(tuple(told(answer, {"email": email}) for answer in answers))
            if shown[0] != shown[1]:
                tried.wrong.append(f"mail {smtp}: {shown}")
    assert client.get("/sign-in").status_code == 200
    tried.tell(capsys)
