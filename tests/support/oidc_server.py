"""A real OpenID Connect provider in a process of its own: whoever is named at it, it signs in."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

START_LIMIT_S = 60.0


@dataclass(frozen=True)
class OidcServer:
    """`issuer` is its address."""

    issuer: str

    def know(self, subject: str, **claims: Any) -> None:
        """What the provider says of this person from now on."""
        answer = httpx.put(f"{self.issuer}/users/{quote(subject, safe='')}", json=claims, trust_env=False)
        answer.raise_for_status()

    def authorize(self, url: str, subject: str) -> str:
        """The person signs in at the provider; returns where it sends the browser."""
        answer = httpx.post(url, data={"sub": subject}, trust_env=False)
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]

    def deny(self, url: str) -> str:
        answer = httpx.post(url, data={"action": "deny"}, trust_env=False)
        assert answer.status_code == 302, answer.text
        return answer.headers["location"]


@contextmanager
def oidc_server() -> Iterator[OidcServer]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    issuer = f"http://127.0.0.1:{port}"
    try:
        _wait_until_it_answers(process, issuer)
        yield OidcServer(issuer)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_until_it_answers(process: "subprocess.Popen[bytes]", issuer: str) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        assert process.poll() is None, "the provider ended by itself"
        assert time.monotonic() < deadline, "the provider does not answer"
        try:
            if httpx.get(f"{issuer}/jwks", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
