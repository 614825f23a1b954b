"""The one ASGI application, made for the roles a process is given.

`create_app` is a function with everything passed in: tests and an ingest-only process get a light one.
Requests are told apart before any framework sees them: the event route (plain ASGI), then what the API
owns (FastAPI), then the pages behind the sign-in (Streamlit, handed in by the composition root).
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib import import_module
from pkgutil import iter_modules
from typing import Literal

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from api import errors, openapi, routes
from api.addresses import TrustedProxies
from api.browser_rules import BrowserRules
from api.event_requests import is_event_path
from api.metrics import HttpMetrics
from api.middleware import RequestFrame
from api.page_gate import PageGate
from api.rate_limits import RateLimits
from api.security import is_https
from api.services import ApiServices
from api.shared_limits import SharedLimits

Part = Literal["ingest", "api", "app"]
ALL_PARTS: frozenset[Part] = frozenset({"ingest", "api", "app"})
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

EVENTS_PATH = "/v1/pipelines/{pipeline}/events"
_ALWAYS_OWNED = frozenset(
    {"v1", "healthz", "readyz", "metrics", "sign-in", "sign-out", "openapi.json", "docs", "assets"}
)
_EVERY_PROCESS = frozenset({"health", "metrics"})


def create_app(
    services: ApiServices,
    roles: frozenset[Part] | set[Part] = ALL_PARTS,
    *,
    events: ASGIApp | None = None,
    pages: ASGIApp | None = None,
    addresses: frozenset[str] | None = None,
    lifespans: Sequence[Lifespan] = (),
) -> "Platform":
    """The application for `roles`.

    `events` answers the event route (with role `ingest`), `pages` everything behind the sign-in (with role
    `app`); `addresses`: where its pages are, None: it says so itself. `lifespans` are entered in order before
    the first request and left in reverse.
    """
    shared = SharedLimits(services.database)
    app = _fastapi(services, roles, (*lifespans, shared.lifespan))
    if events is not None and "ingest" in roles:
        app.router.routes.append(Route(EVENTS_PATH, _Endpoint(events), methods=["POST"]))
    settings = services.settings
    gate = PageGate(pages, services, addresses) if pages is not None and "app" in roles else None
    owned = _owned(roles)
    held = services.extra["metrics"] = HttpMetrics(services)
    limits = services.extra["rate_limits"] = RateLimits(settings, shared)
    framed = RequestFrame(
        _Split(app, gate, owned),
        rules=BrowserRules(settings, app=gate is not None, owned=owned),
        limits=limits,
        https=is_https(settings),
        observe=held.observe,
    )
    proxies = TrustedProxies(services.settings.trusted_proxies)
    return Platform(framed, events if "ingest" in roles else None, app, proxies)


class Platform:
    """The outermost application: events go straight to their route, the rest through the frame.

    `api`: the FastAPI application inside, whose routes tests walk.
    """

    def __init__(
        self, framed: ASGIApp, events: ASGIApp | None, api: FastAPI, proxies: TrustedProxies
    ) -> None:
        self.api = api
        self.openapi = api.openapi
        self._framed = framed
        self._events = events
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            self._proxies.apply(scope)
        if self._events is not None and scope["type"] == "http" and is_event_path(scope["path"]):
            await self._events(scope, receive, send)
        else:
            await self._framed(scope, receive, send)


class _Split:
    """What the API owns goes to FastAPI, and so do unknown paths where there are no pages."""

    def __init__(self, api: ASGIApp, pages: ASGIApp | None, owned: frozenset[str]) -> None:
        self._api = api
        self._pages = pages
        self._owned = owned

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._pages is None or scope["type"] == "lifespan" or _first_part(scope["path"]) in self._owned:
            await self._api(scope, receive, send)
        else:
            await self._pages(scope, receive, send)


class _Endpoint:
    """An instance, so that Starlette's router takes it for an ASGI application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def _fastapi(
    services: ApiServices, roles: frozenset[Part] | set[Part], lifespans: Sequence[Lifespan]
) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for part in lifespans:
                await stack.enter_async_context(part(app))
            yield

    app = FastAPI(
        title="Sluiceway",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        generate_unique_id_function=_operation_id,
        redirect_slashes=False,
    )
    app.state.services = services
    errors.install(app)
    for router in _chosen(roles):
        app.include_router(router)
    openapi.install(app, with_events="ingest" in roles)
    return app


def _owned(roles: frozenset[Part] | set[Part]) -> frozenset[str]:
    """First parts of the paths that FastAPI answers, known or not; all others are the pages'."""
    paths = [route.path for router in _chosen(roles) for route in router.routes if isinstance(route, Route)]
    return _ALWAYS_OWNED | {part for path in paths if (part := _first_part(path)) and "{" not in part}


def _first_part(path: str) -> str:
    return path.split("/", 2)[1] if path.startswith("/") else ""


def _chosen(roles: frozenset[Part] | set[Part]) -> list[APIRouter]:
    """The routers of a process with these roles."""
    found = sorted(_routers().items())
    return [router for name, router in found if name in _EVERY_PROCESS or "api" in roles]


def _routers() -> dict[str, APIRouter]:
    """The `router` of every module in `api.routes`, by module name: a new noun is a new file."""
    found = {}
    for module in iter_modules(routes.__path__):
        router = getattr(import_module(f"{routes.__name__}.{module.name}"), "router", None)
        if isinstance(router, APIRouter):
            found[module.name] = router
    return found


def _operation_id(route: APIRoute) -> str:
    return route.name
