"""moto's S3 behind a real HTTP server, with answers that are errors when a test wants them.

Like S3 itself, and unlike moto, it refuses a body that is not whole or not the one that was signed. Faults of
the network belong to `fault_proxy`, which stands in front of this.
"""

import hashlib
import io
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

import boto3
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from sluiceway.infra.settings import Settings, load_settings

if TYPE_CHECKING:
    from pathlib import Path

KEY = "key"
SECRET = "a secret of the test"

Environ = dict[str, Any]
StartResponse = Callable[..., Any]


@dataclass
class HttpFault:
    """The next `times` requests with `method` (None: until cleared) are answered with `status`.

    `before`: nothing was done. `after`: everything was done, and the client does not hear of it.
    """

    status: int
    method: str = "PUT"
    when: Literal["before", "after"] = "before"
    times: int | None = None


class _Quiet(MotoRequestHandler):
    def log(self, *arguments: object, **named: object) -> None:
        return None


class S3Server:
    """A context manager; `address` is where it listens. Thread-safe."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._lock = threading.Lock()
        self._fault: HttpFault | None = None
        self.faults = 0
        self.refused_bodies = 0
        self.address: tuple[str, int] = ("127.0.0.1", self._server.server_port)

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    def set(self, fault: HttpFault | None) -> None:
        with self._lock:
            self._fault = fault

    def client(self) -> Any:
        """A client of another make, straight to the server, past every fault of the network."""
        return boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id=KEY, aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )  # fmt: skip

    def make_bucket(self, name: str) -> str:
        client = self.client()
        client.create_bucket(Bucket=name)
        client.close()
        return name

    def objects(self, bucket: str) -> dict[str, bytes]:
        """What anyone can see in the bucket just now."""
        client = self.client()
        try:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
            keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
            found = {}
            for key in keys:
                try:
                    found[key] = client.get_object(Bucket=bucket, Key=key)["Body"].read()
                except client.exceptions.NoSuchKey:
                    continue  # deleted since it was listed
            return found
        finally:
            client.close()

    def unfinished_uploads(self, bucket: str) -> list[str]:
        client = self.client()
        try:
            answer = client.list_multipart_uploads(Bucket=bucket)
            return [upload["Key"] for upload in answer.get("Uploads", [])]
        finally:
            client.close()

    def __enter__(self) -> "S3Server":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        if not _is_whole(environ, body):
            with self._lock:
                self.refused_bodies += 1
            return _error(start_response, 400, "IncompleteBody")
        fault = self._take(environ["REQUEST_METHOD"])
        if fault is None:
            return self._moto(environ, start_response)  # type: ignore[no-any-return]
        if fault.when == "after":
            for _ in self._moto(environ, lambda *given: None):
                pass
        return _error(start_response, fault.status, "SlowDown" if fault.status == 503 else "InternalError")

    def _take(self, method: str) -> HttpFault | None:
        with self._lock:
            fault = self._fault
            if fault is None or fault.method != method:
                return None
            if fault.times is not None:
                fault.times -= 1
                if fault.times <= 0:
                    self._fault = None
            self.faults += 1
            return fault


def s3_settings(endpoint: str, bucket: str, home: "Path", **more: str) -> Settings:
    """Settings of an installation whose lake is in the bucket."""
    own = {"SLUICEWAY_HOME": str(home), "SLUICEWAY_NODE": "node-1"}
    return load_settings(own | s3_environment(endpoint, bucket, **more))


def s3_environment(endpoint: str, bucket: str, **more: str) -> dict[str, str]:
    """The variables that put the lake into the bucket."""
    return {
        "SLUICEWAY_LAKE_URL": f"s3://{bucket}/some/prefix",
        "SLUICEWAY_S3_ENDPOINT": endpoint,
        "SLUICEWAY_S3_ACCESS_KEY_ID": KEY,
        "SLUICEWAY_S3_SECRET_ACCESS_KEY": SECRET,
        **more,
    }


def _is_whole(environ: Environ, body: bytes) -> bool:
    if len(body) != int(environ.get("CONTENT_LENGTH") or 0):
        return False
    signed = environ.get("HTTP_X_AMZ_CONTENT_SHA256", "")
    return len(signed) != 64 or signed == hashlib.sha256(body).hexdigest()


def _error(start_response: StartResponse, status: int, code: str) -> list[bytes]:
    body = f"<Error><Code>{quote(code)}</Code><Message>A fault of the test</Message></Error>".encode()
    start_response(
        f"{status} {code}", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
    )
    return [body]
