"""Every setting the platform reads from its environment, in one place.

Nothing else reads `os.environ`. A wrong value stops the process at start with an error that names the
variable and what it should be. `SETTINGS` is also what the table in `docs/settings.md` is made from.
"""

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formataddr, parseaddr
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sluiceway.kit.errors import FieldError, InvalidInput


class WrongSetting(InvalidInput):
    code = "wrong_setting"
    title = "A setting is wrong"


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError(f"a whole number from {low} to {high}") from None
        if not low <= number <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return number

    return parse


def _url(*schemes: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        parts = urlsplit(text)
        if parts.scheme not in schemes or not (parts.netloc or parts.path.strip("/")):
            raise ValueError("an address that begins with " + " or ".join(f"{s}://" for s in schemes))
        return text

    return parse


def _one_of(*values: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in values:
            raise ValueError("one of " + ", ".join(values))
        return text

    return parse


def plain_name(text: str) -> str:
    """A name, of a node say, as it was given. Raises ValueError that says what it should be."""
    if not text or len(text) > 63 or not all(c.isalnum() or c in "-_." for c in text):
        raise ValueError("up to 63 letters, digits, '-', '_' or '.'")
    return text


def _some_of(*values: str) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        found = tuple(part.strip() for part in text.split(","))
        if any(part not in values for part in found):
            raise ValueError("one of " + ", ".join(values))
        return found

    return parse


def _smtp(text: str) -> str:
    wanted = (
        "smtp://host, smtps://host or with user:password@, a port, and ?starttls=no for a server without TLS"
    )
    try:
        parts = urlsplit(text)
        query = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
        fits = parts.scheme in ("smtp", "smtps") and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        raise ValueError(wanted) from None
    if not fits or parts.path.strip("/") or parts.fragment:
        raise ValueError(wanted)
    if query not in ({}, {"starttls": ["no"]}, {"starttls": ["required"]}):
        raise ValueError(wanted)
    return text


def _mailbox(text: str) -> str:
    name, address = parseaddr(text)
    if any(ord(c) < 32 for c in text) or address.count("@") != 1 or not all(address.split("@")):
        raise ValueError("an e-mail address, or a name with one: Sluiceway <data@example.com>")
    return formataddr((name, address))


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    found = tuple(part.rpartition("=") for part in _words(text))
    if not all(name.strip() and value.strip() for name, _, value in found):
        raise ValueError("name=value, with commas between")
    return tuple((name.strip(), value.strip()) for name, _, value in found)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("true or false")
    return text.lower() == "true"


def _directory(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _directories(text: str) -> tuple[Path, ...]:
    return tuple(_directory(part.strip()) for part in text.split(",") if part.strip())


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    if text == "none":
        return ()
    try:
        return tuple(ip_network(part.strip(), strict=False) for part in text.split(","))
    except ValueError:
        raise ValueError("addresses or networks (10.0.0.0/8) with commas between, or none") from None


def _ancestors(text: str) -> tuple[str, ...]:
    """Sources of `frame-ancestors`; a wildcard would let every site frame the app."""
    found = tuple(text.split())
    for part in found:
        site = urlsplit(part)
        whole = site.scheme in ("http", "https") and bool(site.hostname) and part.count("/") == 2
        if part != "'self'" and (not whole or any(c in part for c in "*;,@?#\\")):
            raise ValueError("'self' or addresses like https://intranet.example.com, with spaces between")
    return found


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable: its name, its default as text (None: computed or absent), how it is read, what it means."""

    variable: str
    default: str | None
    parse: Callable[[str], Any]
    meaning: str
    secret: bool = False


SETTINGS: dict[str, Setting] = {
    "home": Setting(
        "SLUICEWAY_HOME",
        ".sluiceway",
        _directory,
        "Folder of all local data: database, spool, lake, keys, logs.",
    ),
    "host": Setting("SLUICEWAY_HOST", "127.0.0.1", str, "Address the web process and Dagster listen on."),
    "port": Setting("SLUICEWAY_PORT", "8000", _integer(1, 65535), "Port for people and programs."),
    "dagster_port": Setting("SLUICEWAY_DAGSTER_PORT", "3000", _integer(1, 65535), "Port of the Dagster UI."),
    "public_url": Setting(
        "SLUICEWAY_PUBLIC_URL",
        None,
        _url("http", "https"),
        "Address under which people reach the platform; default: host and port.",
    ),
    "internal_url": Setting(
        "SLUICEWAY_INTERNAL_URL",
        None,
        _url("http", "https"),
        "Address under which the platform's own processes reach the web process; default: this machine's port.",
    ),
    "dagster_url": Setting(
        "SLUICEWAY_DAGSTER_URL",
        None,
        _url("http", "https"),
        "Address under which the platform's own processes reach Dagster; default: this machine's port.",
    ),
    "dagster_code_host": Setting(
        "SLUICEWAY_DAGSTER_CODE_HOST", "127.0.0.1", str, "Where Dagster's code server listens and is found."
    ),
    "dagster_code_port": Setting(
        "SLUICEWAY_DAGSTER_CODE_PORT",
        None,
        _integer(1, 65535),
        "Port of Dagster's code server; default: one that is free.",
    ),
    "node": Setting(
        "SLUICEWAY_NODE", None, plain_name, "Name of this machine's spool; default: the host's name."
    ),
    "database_url": Setting(
        "SLUICEWAY_DATABASE_URL",
        None,
        _url("postgresql"),
        "A PostgreSQL or TimescaleDB server and an account that may create roles; default: the embedded server.",
        secret=True,
    ),
    "lake_url": Setting(
        "SLUICEWAY_LAKE_URL",
        None,
        _url("file", "s3"),
        "Where bronze is kept: file:///folder or s3://bucket/prefix; default: a folder under SLUICEWAY_HOME.",
        secret=True,
    ),
    "s3_endpoint": Setting(
        "SLUICEWAY_S3_ENDPOINT", None, _url("http", "https"), "Endpoint of an S3 other than AWS (MinIO, R2)."
    ),
    "s3_region": Setting("SLUICEWAY_S3_REGION", "us-east-1", plain_name, "Region of the bucket."),
    "s3_access_key_id": Setting(
        "SLUICEWAY_S3_ACCESS_KEY_ID", None, str, "Access key for the bucket.", secret=True
    ),
    "s3_secret_access_key": Setting(
        "SLUICEWAY_S3_SECRET_ACCESS_KEY", None, str, "Secret key for the bucket.", secret=True
    ),
    "secret_key": Setting(
        "SLUICEWAY_SECRET_KEY",
        None,
        str,
        "At least 32 characters; passwords of the database roles and encryption keys are derived from it; default: a key file made on first start with mode 0600.",
        secret=True,
    ),
    "log_level": Setting(
        "SLUICEWAY_LOG_LEVEL", "info", _one_of("debug", "info", "warning", "error"), "How much is logged."
    ),
    "log_days": Setting(
        "SLUICEWAY_LOG_DAYS",
        "30",
        _integer(1, 3650),
        "How long log files, and the output of Dagster's steps, are kept at least; twice as long at most.",
    ),
    "max_body_bytes": Setting(
        "SLUICEWAY_MAX_BODY_BYTES",
        str(16 * 1024 * 1024),
        _integer(1024, 1 << 30),
        "Largest body of one request to the event route, after decompression.",
    ),
    "max_event_bytes": Setting(
        "SLUICEWAY_MAX_EVENT_BYTES", str(1024 * 1024), _integer(1024, 64 << 20), "Largest single event."
    ),
    "max_request_events": Setting(
        "SLUICEWAY_MAX_REQUEST_EVENTS", "50000", _integer(1, 10_000_000), "Most events in one request."
    ),
    "spools": Setting(
        "SLUICEWAY_SPOOLS",
        None,
        _directories,
        "Further spool folders this machine's loader reads (with commas between): shared ones, or handed over.",
    ),
    "spool_segment_bytes": Setting(
        "SLUICEWAY_SPOOL_SEGMENT_BYTES",
        str(64 * 1024 * 1024),
        _integer(65536, 1 << 32),
        "Size at which a spool segment is closed and the next begun.",
    ),
    "spool_max_bytes": Setting(
        "SLUICEWAY_SPOOL_MAX_BYTES",
        str(8 * 1024**3),
        _integer(1 << 20, 1 << 44),
        "High-water mark of the spool: past it the event route answers 503.",
    ),
    "disk_reserve_bytes": Setting(
        "SLUICEWAY_DISK_RESERVE_BYTES",
        str(256 * 1024 * 1024),
        _integer(0, 1 << 44),
        "Free disk below which the event route answers 503.",
    ),
    "max_lag_s": Setting(
        "SLUICEWAY_MAX_LAG_S",
        "86400",
        _integer(1, 1 << 31),
        "Age of the oldest event that waits to be loaded past which the event route answers 503, in seconds.",
    ),
    "pipeline_backlog_percent": Setting(
        "SLUICEWAY_PIPELINE_BACKLOG_PERCENT",
        "50",
        _integer(1, 100),
        "How much of SLUICEWAY_SPOOL_MAX_BYTES one pipeline's waiting events may fill; past it that pipeline's senders are answered 429.",
    ),
    "bronze_flush_s": Setting(
        "SLUICEWAY_BRONZE_FLUSH_S",
        "10",
        _integer(1, 3600),
        "Longest wait before waiting events are written to the lake.",
    ),
    "lake_timeout_s": Setting(
        "SLUICEWAY_LAKE_TIMEOUT_S",
        "30",
        _integer(1, 3600),
        "Longest time one request to the bucket may take, for each 8 MB it carries.",
    ),
    "trusted_proxies": Setting(
        "SLUICEWAY_TRUSTED_PROXIES",
        "127.0.0.1,::1",
        _networks,
        "Proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed: addresses or networks with commas between, or `none`. Keep this machine's own among them: the app's pages reach the API from there.",
    ),
    "frame_ancestors": Setting(
        "SLUICEWAY_FRAME_ANCESTORS",
        None,
        _ancestors,
        "Sites whose pages may show the app and linked dashboards in a frame: `'self'` or addresses like `https://intranet.example.com`, with spaces between; default: none. Sign-in is never framed.",
    ),
    "user_requests_per_minute": Setting(
        "SLUICEWAY_USER_REQUESTS_PER_MINUTE",
        "3000",
        _integer(0, 10_000_000),
        "Requests to the API that one person may make in a minute; 0: no limit.",
    ),
    "key_requests_per_minute": Setting(
        "SLUICEWAY_KEY_REQUESTS_PER_MINUTE",
        "6000",
        _integer(0, 10_000_000),
        "The same for one API key (but for the event route, whose limits are the pipeline's and the key's own).",
    ),
    "address_requests_per_minute": Setting(
        "SLUICEWAY_ADDRESS_REQUESTS_PER_MINUTE",
        "600",
        _integer(0, 10_000_000),
        "The same for requests from one address that show no good session or key, by each web process.",
    ),
    "smtp_url": Setting(
        "SLUICEWAY_SMTP_URL",
        None,
        _smtp,
        "Mail server: smtp://user:password@host:587 (STARTTLS is required unless `?starttls=no`) or smtps://…:465; default: no mail is sent, and links are shown to whoever makes them.",
        secret=True,
    ),
    "mail_from": Setting(
        "SLUICEWAY_MAIL_FROM",
        None,
        _mailbox,
        "Sender of the mail, `Name <address>`; default: sluiceway@ and the host of SLUICEWAY_PUBLIC_URL.",
    ),
    "audit_days": Setting(
        "SLUICEWAY_AUDIT_DAYS",
        "400",
        _integer(30, 36500),
        "How long entries of the audit log are kept, in days.",
    ),
    "session_days": Setting(
        "SLUICEWAY_SESSION_DAYS",
        "14",
        _integer(1, 365),
        "How long a sign-in that is to be remembered lasts; any other lasts until the browser is closed, a day at most.",
    ),
    "session_idle_minutes": Setting(
        "SLUICEWAY_SESSION_IDLE_MINUTES",
        "480",
        _integer(5, 43_200),
        "After how long without a request a sign-in that is not remembered ends; a workspace can set its own.",
    ),
    "private_hosts": Setting(
        "SLUICEWAY_PRIVATE_HOSTS",
        None,
        _words,
        "Hosts of your own network that the platform may ask where somebody names an address (`host` or `host:port`, with commas between), an identity provider say; over http, too.",
    ),
    "oidc_issuer": Setting(
        "SLUICEWAY_OIDC_ISSUER",
        None,
        _url("http", "https"),
        "An OpenID Connect provider for the first organization (docs/sign-in.md); more by API and CLI.",
    ),
    "oidc_name": Setting(
        "SLUICEWAY_OIDC_NAME", "single sign-on", str, "What its button says after `Continue with`."
    ),
    "oidc_client_id": Setting("SLUICEWAY_OIDC_CLIENT_ID", None, str, "The client's id at the provider."),
    "oidc_client_secret": Setting(
        "SLUICEWAY_OIDC_CLIENT_SECRET",
        None,
        str,
        "The client's secret; default: a public client.",
        secret=True,
    ),
    "oidc_scopes": Setting(
        "SLUICEWAY_OIDC_SCOPES", "openid,email,profile", _words, "What is asked of the provider."
    ),
    "oidc_groups_claim": Setting(
        "SLUICEWAY_OIDC_GROUPS_CLAIM", "groups", str, "Claim that names a person's groups (dots go deeper)."
    ),
    "oidc_group_roles": Setting(
        "SLUICEWAY_OIDC_GROUP_ROLES",
        None,
        _pairs,
        "Which group is which role in the first workspace: `group=role`, with commas between.",
    ),
    "oidc_default_role": Setting(
        "SLUICEWAY_OIDC_DEFAULT_ROLE",
        None,
        str,
        "Role in the first workspace of those whom no group places; default: they are not let in.",
    ),
    "oidc_domains": Setting(
        "SLUICEWAY_OIDC_DOMAINS",
        None,
        _words,
        "Domains of the e-mail addresses it may speak for; default: any that it has verified.",
    ),
    "demo_speed": Setting(
        "SLUICEWAY_DEMO_SPEED",
        "60",
        _integer(1, 100000),
        "How many times faster than the clock the demo replays today's flights.",
    ),
    "metrics_port": Setting(
        "SLUICEWAY_METRICS_PORT",
        None,
        _integer(1, 65534),
        "Port on which the loader serves its own Prometheus metrics, and the worker on the next one; default: only the web process's `/metrics`, which holds theirs as well.",
    ),
    "traces_exporter": Setting(
        "OTEL_TRACES_EXPORTER",
        None,
        _some_of("otlp", "console", "none"),
        "Where OpenTelemetry traces go; default: `otlp` if an endpoint is set, else nowhere. OpenTelemetry's other variables count too (docs/observability.md).",
    ),
    "otlp_endpoint": Setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        None,
        _url("http", "https"),
        "Address of an OTLP/HTTP collector, to which `/v1/traces` is added; turns tracing on.",
    ),
    "otlp_traces_endpoint": Setting(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        None,
        _url("http", "https"),
        "The same for traces alone, taken as it is.",
    ),
    "otlp_protocol": Setting(
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "http/protobuf",
        _one_of("http/protobuf"),
        "How the collector is spoken to.",
    ),
    "otel_service_name": Setting(
        "OTEL_SERVICE_NAME", "sluiceway", str, "`service.name` of the traces of every process."
    ),
    "otel_sdk_disabled": Setting(
        "OTEL_SDK_DISABLED", "false", _boolean, "`true` turns tracing off whatever else is set."
    ),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one process, checked. Secrets do not show in its `repr`."""

    home: Path
    host: str
    port: int
    dagster_port: int
    public_url: str
    internal_url: str
    dagster_url: str
    dagster_code_host: str
    dagster_code_port: int | None
    node: str
    lake_url: str = field(repr=False)
    s3_endpoint: str | None
    s3_region: str
    log_level: str
    log_days: int
    max_body_bytes: int
    max_event_bytes: int
    max_request_events: int
    spools: tuple[Path, ...]
    spool_segment_bytes: int
    spool_max_bytes: int
    disk_reserve_bytes: int
    max_lag_s: int
    pipeline_backlog_percent: int
    bronze_flush_s: int
    lake_timeout_s: int
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...]
    frame_ancestors: tuple[str, ...]
    user_requests_per_minute: int
    key_requests_per_minute: int
    address_requests_per_minute: int
    mail_from: str | None
    audit_days: int
    session_days: int
    session_idle_minutes: int
    private_hosts: tuple[str, ...]
    oidc_issuer: str | None
    oidc_name: str
    oidc_client_id: str | None
    oidc_scopes: tuple[str, ...]
    oidc_groups_claim: str
    oidc_group_roles: tuple[tuple[str, str], ...]
    oidc_default_role: str | None
    oidc_domains: tuple[str, ...]
    demo_speed: int
    metrics_port: int | None
    traces_exporter: tuple[str, ...] | None
    otlp_endpoint: str | None
    otlp_traces_endpoint: str | None
    otlp_protocol: str
    otel_service_name: str
    otel_sdk_disabled: bool
    database_url: str | None = field(default=None, repr=False)
    oidc_client_secret: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    smtp_url: str | None = field(default=None, repr=False)
    s3_access_key_id: str | None = field(default=None, repr=False)
    s3_secret_access_key: str | None = field(default=None, repr=False)

    @property
    def spool_dir(self) -> Path:
        return self.home / "spool" / self.node

    @property
    def trace_exporters(self) -> tuple[str, ...]:
        """Where traces go (`otlp`, `console`); empty: tracing is off."""
        if self.otel_sdk_disabled:
            return ()
        chosen = self.traces_exporter
        if chosen is None:
            chosen = ("otlp",) if self.otlp_endpoint or self.otlp_traces_endpoint else ()
        return tuple(exporter for exporter in dict.fromkeys(chosen) if exporter != "none")

    @property
    def embedded(self) -> bool:
        """Whether the database is the embedded server."""
        return self.database_url is None


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read and check every setting.

    Raises `WrongSetting` naming each variable that is wrong and what it should be (never its value if secret).
    """
    source = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    wrong: list[FieldError] = []
    for name, setting in SETTINGS.items():
        text = source.get(setting.variable) or setting.default
        try:
            values[name] = None if text is None else setting.parse(text)
        except ValueError as error:
            shown = "" if setting.secret else f", not {text!r}"
            wrong.append(FieldError(setting.variable, f"should be {error}{shown}"))
    known = {setting.variable for setting in SETTINGS.values()}
    wrong += [
        FieldError(variable, "is not a setting; docs/settings.md lists them")
        for variable in sorted(source)
        if variable.startswith("SLUICEWAY_") and variable not in known
    ]
    if values.get("secret_key") is not None and len(values["secret_key"]) < 32:
        wrong.append(FieldError("SLUICEWAY_SECRET_KEY", "should have at least 32 characters"))
    if values.get("oidc_issuer") and not values.get("oidc_client_id"):
        wrong.append(FieldError("SLUICEWAY_OIDC_CLIENT_ID", "goes with SLUICEWAY_OIDC_ISSUER"))
    if wrong:
        raise WrongSetting("; ".join(f"{e.field} {e.message}" for e in wrong), errors=wrong)
    values["node"] = values["node"] or _default_node()
    values["spools"] = values["spools"] or ()
    for name in ("private_hosts", "oidc_group_roles", "oidc_domains"):
        values[name] = values[name] or ()
    values["frame_ancestors"] = values["frame_ancestors"] or ()
    values["lake_url"] = values["lake_url"] or f"file://{values['home'] / 'lake'}"
    values["public_url"] = (values["public_url"] or _default_public_url(values)).rstrip("/")
    values["internal_url"] = (values["internal_url"] or _local_url(values["host"], values["port"])).rstrip(
        "/"
    )
    values["dagster_url"] = (
        values["dagster_url"] or _local_url(values["host"], values["dagster_port"])
    ).rstrip("/")
    return Settings(**values)


def _default_node() -> str:
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in socket.gethostname())[:63] or "node"


def _default_public_url(values: Mapping[str, Any]) -> str:
    host = "localhost" if values["host"] in ("0.0.0.0", "::", "127.0.0.1") else values["host"]  # noqa: S104
    return f"http://{host}:{values['port']}"


def _local_url(host: str, port: int) -> str:
    """Where this machine reaches what listens on `host`."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{reached}:{port}"
