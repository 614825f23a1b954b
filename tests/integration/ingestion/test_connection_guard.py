"""What a client may not do to a connection: floods, endless and crawling requests, what is not HTTP."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from api.connection_guard import GuardLimits
from api.events import Limits
from tests.support.event_server import WAYS, Edge, edge
from tests.support.raw_http import Reader, exchange, is_taken, request

QUICK = GuardLimits(head_s=1.5, body_s=1.0, least_bytes_per_s=1e6, linger_s=1.5, look_s=0.05)


@pytest.fixture(params=WAYS)
def running(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Edge]:
    with edge(tmp_path / "spool", way=request.param) as found:
        yield found


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Edge]:
    with edge(tmp_path / "spool", guard=QUICK, keep_alive_s=2) as found:
        yield found


def still_works(running: Edge) -> None:
    assert is_taken(running.port)


def refused(running: Edge, data: bytes, status: int, code: str) -> None:
    with running.connect() as connection:
        connection.sendall(data)
        reader = Reader(connection)
        answer = reader.answer()
        assert (answer.status, answer.code) == (status, code), answer
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["connection"] == "close"
        assert answer.headers["x-request-id"] == answer.json["request_id"]
        assert reader.ended()
    assert running.refusals[code] >= 1


FLOODS = {
    "many": (request(b"{}", *(f"x-{n}: 1" for n in range(101))), 431, "headers_too_large"),
    "large": (request(b"{}", *(f"x-{n}: {'y' * 2000}" for n in range(40))), 431, "headers_too_large"),
    "one large": (request(b"{}", "x-large: " + "y" * 70_000), 431, "headers_too_large"),
    "without end": (request(b"{}", "x-large: " + "y" * 600_000)[:600_000], 431, "headers_too_large"),
    "name without end": (request(b"")[:-2] + b"y" * 600_000, 431, "headers_too_large"),
    "line": (request(b"{}", pipeline="x" * 8200), 414, "uri_too_long"),
    "line without end": (b"POST /" + b"x" * 500_000, 414, "uri_too_long"),
    "empty lines": (b"\r\n" * 300_000, 431, "headers_too_large"),
    "trailers": (
        request(b"2\r\n{}\r\n0\r\n" + b"x: y\r\n" * 101, "transfer-encoding: chunked", length=False),
        431, "headers_too_large",
    ),
    "trailer without end": (
        request(b"2\r\n{}\r\n0\r\nx: " + b"y" * 600_000, "transfer-encoding: chunked", length=False),
        431, "headers_too_large",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOODS)
def test_floods_of_headers(running: Edge, name: str) -> None:
    refused(running, *FLOODS[name])
    still_works(running)


def test_headers_within_the_limits_are_fine(running: Edge) -> None:
    with running.connect() as connection:
        for _ in range(2):
            many = request(b"{}", *(f"x-{n}: {'y' * 600}" for n in range(96)))
            assert exchange(connection, many).status == 202
            assert exchange(connection, request(b"{}", "x-large: " + "y" * 60_000)).status == 202
            long = exchange(connection, request(b"{}", pipeline="x" * 8000))
            assert long.status == 202


NOT_HTTP = {
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "both lengths": request(b"2\r\n{}\r\n0\r\n\r\n", "transfer-encoding: chunked"),
    "absurd length": request(b"").replace(b"length: 0", b"length: 99999999999999999999999"),
    "negative length": request(b"").replace(b"length: 0", b"length: -1"),
    "two lengths": request(b"{}", "content-length: 3"),
    "length with sign": request(b"{}").replace(b"length: 2", b"length: +2"),
    "header without colon": request(b"{}", "x-nothing"),
    "space before colon": request(b"{}", "x-nothing : 1"),
    "nul": request(b"{}", "x: \0"),
    "folded": request(b"{}", "x: 1\r\n 2"),
    "unknown method": request(b"{}").replace(b"POST", b"POTS"),
    "bad chunk": request(b"zz\r\n{}\r\n", "transfer-encoding: chunked", length=False),
}


@pytest.mark.parametrize("name", NOT_HTTP)
def test_what_is_not_http_is_told_so(running: Edge, name: str) -> None:
    refused(running, NOT_HTTP[name], 400, "malformed_request")
    still_works(running)
    assert running.route.in_flight_bytes == 0


def test_a_length_beyond_the_limit_is_refused_before_the_body(running: Edge) -> None:
    with running.connect() as connection:
        answer = exchange(connection, request(b"").replace(b"length: 0", b"length: 999999999999999"))
        assert (answer.status, answer.code) == (413, "body_too_large")


def test_what_came_before_is_answered_first(running: Edge) -> None:
    still_works(running)
    with running.connect() as connection:
        connection.sendall(request(b'{"n":1}') + request(b'{"n":2}') + b"nonsense\r\n\r\n")
        reader = Reader(connection)
        assert [a.status for a in reader.answers(3)] == [202, 202, 400]
        assert reader.ended()


def _crawl(connection: socket.socket, data: bytes, stop: threading.Event) -> None:
    """A byte now and then, for as long as the server takes them."""
    try:
        for at in range(len(data)):
            connection.sendall(data[at : at + 1])
            if stop.wait(0.02):
                return
    except OSError:
        return


SLOW: dict[str, Callable[[], bytes]] = {
    "head": lambda: request(b"{}", "x-long: " + "y" * 50_000),
    "body": lambda: request(b'{"a":"' + b"x" * 50_000),
    "chunks": lambda: request(b"1\r\nx\r\n" * 10_000, "transfer-encoding: chunked", length=False),
}


@pytest.mark.parametrize("name", SLOW)
def test_crawling_requests_have_their_time(quick: Edge, name: str) -> None:
    stop = threading.Event()
    with quick.connect() as connection:
        data = SLOW[name]()
        begin = data.find(b"\r\n\r\n") + 4 if name != "head" else 10
        connection.sendall(data[:begin])
        crawler = threading.Thread(target=_crawl, args=(connection, data[begin:], stop))
        crawler.start()
        try:
            still_works(quick)
            reader = Reader(connection)
            answer = reader.answer()
            assert (answer.status, answer.code) == (408, "request_timeout")
            assert reader.ended()
        finally:
            stop.set()
            crawler.join()
    still_works(quick)
    assert quick.route.in_flight_bytes == 0


def test_the_route_itself_wants_a_least_rate(tmp_path: Path) -> None:
    limits = Limits(1 << 20, 1 << 20, body_s=0.5, least_bytes_per_s=1e6)
    stop = threading.Event()
    with edge(tmp_path / "spool", limits=limits) as running, running.connect() as connection:
        data = SLOW["chunks"]()
        crawler = threading.Thread(target=_crawl, args=(connection, data, stop))
        crawler.start()
        try:
            answer = Reader(connection).answer()
            assert (answer.status, answer.code) == (408, "request_timeout")
        finally:
            stop.set()
            crawler.join()
    assert running.route.counts["request_timeout"] == 1


def test_a_sender_that_hangs_in_mid_body(quick: Edge) -> None:
    for data in (
        request(b"{}" + b" " * 100)[:-1],
        request(b"5\r\n{}", "transfer-encoding: chunked", length=False),
    ):
        with quick.connect() as connection:
            answer = exchange(connection, data)
            assert (answer.status, answer.code) == (408, "request_timeout")
            still_works(quick)


def test_a_chunked_body_without_end_is_cut(tmp_path: Path) -> None:
    limits = Limits(1 << 20, 1 << 20)
    with edge(tmp_path / "spool", guard=QUICK, limits=limits) as running, running.connect() as connection:
        connection.sendall(request(b"", "transfer-encoding: chunked", length=False))
        ended = threading.Event()

        def pour() -> None:
            try:
                while not ended.is_set():
                    connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
            except OSError:
                ended.set()  # as it should: nobody listens for ever

        pouring = threading.Thread(target=pour)
        pouring.start()
        answer = Reader(connection).answer()
        assert (answer.status, answer.code) == (413, "body_too_large")
        assert ended.wait(60)
        pouring.join()
        assert running.route.in_flight_bytes == 0
        still_works(running)


def test_silent_and_idle_connections_are_let_go(quick: Edge) -> None:
    with quick.connect() as silent, quick.connect() as idle, quick.connect() as plain:
        assert exchange(idle, request()).status == 202
        for _ in range(2):
            assert exchange(plain, request()).status == 202
        assert Reader(silent).ended() and Reader(idle).ended() and Reader(plain).ended()


def test_a_client_that_never_reads_its_answers_is_let_go(tmp_path: Path) -> None:
    guard = GuardLimits(stalled_s=0.5, look_s=0.05)
    bad = request(b"{", key="slw_" + "x" * 20) * 100
    with edge(tmp_path / "spool", guard=guard) as running, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        connection.connect(("127.0.0.1", running.port))
        open_ = running.server.server.server_state.connections

        def pour() -> None:
            try:
                while True:
                    connection.sendall(bad)
            except OSError:
                return

        pouring = threading.Thread(target=pour)
        pouring.start()
        deadline = time.monotonic() + 120
        while running.route.counts["malformed_json"] == 0 or open_:
            assert time.monotonic() < deadline, "its connection is still there"
            time.sleep(0.05)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        pouring.join()
        still_works(running)


def test_waiting_for_the_disk_is_not_the_clients_fault(tmp_path: Path) -> None:
    """Whatever the watch's times: a request that is complete is answered."""
    from sluiceway.ingestion.spool import SpoolWriter
    from sluiceway.ingestion.spool.segments import FileOps

    class Slow(FileOps):
        def sync(self, descriptor: int) -> None:
            time.sleep(0.3)
            super().sync(descriptor)

    guard = GuardLimits(head_s=5.0, body_s=0.1, least_bytes_per_s=1e9, linger_s=0.1, look_s=0.02)
    writer = SpoolWriter(tmp_path / "spool", files=Slow())
    with edge(tmp_path / "spool", guard=guard, writer=writer) as running, running.connect() as connection:
        for _ in range(3):
            assert exchange(connection, request()).status == 202
