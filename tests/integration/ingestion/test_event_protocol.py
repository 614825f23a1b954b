"""The short way of plain requests: framing, order, and that its answers are those of the ordinary way."""

import gzip
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.event_heads import HeadBook, parse
from api.events import EventRoute, Limits
from sluiceway.ingestion.contracts import Form
from sluiceway.ingestion.spool import SpoolWriter
from sluiceway.ingestion.spool.segments import FileOps
from tests.support.event_server import KEY, WAYS, Edge, edge, event_server
from tests.support.raw_http import Reader, exchange, request


@pytest.fixture(params=WAYS)
def running(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Edge]:
    with edge(tmp_path / "spool", way=request.param) as found:
        yield found


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Edge]:
    with edge(tmp_path / "spool") as found:
        yield found


class Gate(FileOps):
    """Syncs wait while the gate is shut."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.waiting = threading.Event()
        self.error: OSError | None = None

    def sync(self, descriptor: int) -> None:
        self.waiting.set()
        assert self.open.wait(60)
        if self.error is not None:
            raise self.error
        super().sync(descriptor)


def warm(running: Edge) -> socket.socket:
    """A connection whose key is known: what follows can go the short way."""
    connection = running.connect()
    assert exchange(connection, request(b'{"warm":1}')).status == 202
    return connection


@pytest.fixture
def ordinary_requests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one for every request that goes through ASGI."""
    seen: list[str] = []
    real = EventRoute.__call__

    async def counted(self, scope, receive, send):  # type: ignore[no-untyped-def]
        seen.append(scope["path"])
        await real(self, scope, receive, send)

    monkeypatch.setattr(EventRoute, "__call__", counted)
    return seen


def test_plain_requests_never_reach_asgi(plain: Edge, ordinary_requests: list[str]) -> None:
    with warm(plain) as connection:
        assert len(ordinary_requests) == 1
        for n in range(20):
            answer = exchange(connection, request(b'{"n":%d}' % n, f"x-request: {n % 3}"))
            assert answer.status == 202
            assert answer.headers["content-type"] == "application/json"
    assert len(ordinary_requests) == 1
    bodies = [record.body for record in plain.records()]
    assert bodies == [b'{"warm":1}', *(b'{"n":%d}' % n for n in range(20))]
    assert plain.route.counts == {"accepted": 21, "events": 21}
    assert plain.server.server.server_state.total_requests == 21
    assert plain.route.in_flight_bytes == 0


UNUSUAL = {
    "other version": request().replace(b"HTTP/1.1", b"HTTP/1.0"),
    "to be closed": request(b"{}", "connection: close"),
    "asks first": request(b"{}", "expect: 100-continue"),
    "chunked": request(b"2\r\n{}\r\n0\r\n\r\n", "transfer-encoding: chunked", length=False),
    "compressed": request(gzip.compress(b"{}"), "content-encoding: gzip"),
    "other media type": request(b"{}", "content-type: text/plain"),
    "no key": request(b"{}").replace(KEY.encode(), b""),
    "two keys": request(b"{}", "authorization: Bearer slw_other"),
    "query": request(b"{}").replace(b"/events", b"/events?a=1"),
    "escaped path": request(b"{}", pipeline="%61ny"),
    "other path": request(b"{}", pipeline="a/b"),
    "upgrade": request(b"{}", "connection: upgrade", "upgrade: h2c"),
    "other method": request(b"{}").replace(b"POST", b"PUT"),
    "no length": request(b"", length=False),
    "two lengths": request(b"{}", "content-length: 2"),
    "broken": request(b"{}").replace(b"host: x", b"host x"),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_an_unusual_head_is_not_plain(name: str) -> None:
    head = UNUSUAL[name].partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    assert parse(head) is None


def test_a_plain_head_keeps_no_secret() -> None:
    found = parse(request(b"{}", "x-kept: 1", "Cookie: a=b", "content-type: application/x-ndjson")[:-2])
    assert found is not None
    assert (found.ndjson, found.length, found.name[1]) == (True, 2, "any")
    assert (b"x-kept", b"1") in found.headers
    assert KEY not in repr(found) and "a=b" not in repr(found)


def test_the_book_of_heads_does_not_grow_for_ever() -> None:
    book = HeadBook(most=10)
    for n in range(100):
        assert book.read(request(b"", f"x-n: {n}")) is not None
        assert len(book) <= 10


def test_headers_that_the_pipeline_reads_are_kept(plain: Edge) -> None:
    with warm(plain) as connection:
        exchange(connection, request(b"{}", "X-Kept: yes", "x-other: no"))
    assert plain.records()[1].headers == {"x-kept": "yes"}


def test_answers_of_pipelined_requests_come_in_order(running: Edge) -> None:
    """Plain and others in turn, all in one piece and again in small ones."""
    bodies = [
        (b'{"n":1}', (), 202), (b"{", (), 400), (b'{"n":2}', (), 202), (b'{"n":3}', (), 202),
        (gzip.compress(b'{"n":4}'), ("content-encoding: gzip",), 202), (b'{"n":5}', (), 202), (b"", (), 400),
        (b"{}\n{}", ("content-type: application/x-ndjson",), 202), (b"[]", (), 202), (b'{"n":6}', (), 202),
    ]  # fmt: skip
    wire = b"".join(request(body, *extra) for body, extra, _ in bodies)
    for size in (len(wire), 1000, 37):
        with warm(running) as connection:
            sender = threading.Thread(
                target=lambda c=connection, s=size: [
                    c.sendall(wire[at : at + s]) for at in range(0, len(wire), s)
                ]
            )
            sender.start()
            answers = Reader(connection).answers(len(bodies))
            sender.join()
        assert [a.status for a in answers] == [status for _, _, status in bodies]
        assert [a.json.get("accepted") for a in answers] == [1, None, 1, 1, 1, 1, None, 2, 0, 1]
    kept = [record.body for record in running.records()]
    once = [b'{"warm":1}', *(b'{"n":%d}' % n for n in (1, 2, 3, 4, 5)), b"{}\n{}", b'{"n":6}']
    assert kept == once * 3


def test_a_request_may_come_in_any_two_pieces(running: Edge) -> None:
    whole = request(b'{"n":"\xc3\xa9"}')
    with warm(running) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for cut in range(1, len(whole), 3):
            connection.sendall(whole[:cut])
            connection.sendall(whole[cut:])
            assert Reader(connection).answer().status == 202
    assert {r.body for r in running.records()} == {b'{"warm":1}', b'{"n":"\xc3\xa9"}'}


def test_a_body_that_keeps_us_waiting_goes_the_ordinary_way(
    plain: Edge, ordinary_requests: list[str]
) -> None:
    body = b'{"text":"' + b"x" * 5000 + b'"}'
    whole = request(body)
    with warm(plain) as connection:
        for at in range(0, len(whole), 700):
            connection.sendall(whole[at : at + 700])
        assert Reader(connection).answer().status == 202
        connection.sendall(whole[:-3])
        # The watch gives it up to the ordinary way, which takes the rest when it comes.
        while len(ordinary_requests) < 2 or plain.route.in_flight_bytes == 0:
            threading.Event().wait(0.01)
        connection.sendall(whole[-3:])
        assert Reader(connection).answer().status == 202
    assert [r.body for r in plain.records()][1:] == [body, body]


def test_a_client_that_does_not_read_its_answers_is_not_read_from(tmp_path: Path) -> None:
    """Far more answers than all buffers hold: the server stops, and goes on when the client reads."""
    whole = request(b'{"n":1}')
    with event_server(tmp_path, buffer_bytes=16_384) as (port, _), socket.socket() as connection:
        for kind in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            connection.setsockopt(socket.SOL_SOCKET, kind, 16_384)
        connection.settimeout(60)
        connection.connect(("127.0.0.1", port))
        reader = Reader(connection)
        connection.sendall(whole)
        assert reader.answer().status == 202
        connection.settimeout(2)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 1 << 30:  # until the server reads no more
                sent += connection.send((whole * 200)[sent % len(whole) :])
        connection.settimeout(60)
        missing = -sent % len(whole)
        sender = threading.Thread(target=lambda: connection.sendall(whole[len(whole) - missing :]))
        sender.start()
        answers = reader.answers((sent + missing) // len(whole))
        sender.join()
    assert {a.status for a in answers} == {202}
    places = [tuple(map(int, a.json["position"].split("-")[1:])) for a in answers]
    assert places == sorted(set(places))


def test_expect_continue_and_close(running: Edge) -> None:
    with warm(running) as connection:
        head, _, body = request(b'{"n":1}', "Expect: 100-continue").partition(b"\r\n\r\n")
        connection.sendall(head + b"\r\n\r\n")
        reader = Reader(connection)
        assert reader.answer().status == 100
        connection.sendall(body)
        assert reader.answer().status == 202
        answer = exchange(connection, request(b"{}", "Connection: close"))
        assert (answer.status, answer.headers["connection"]) == (202, "close")
        assert reader.ended()


def test_a_request_to_upgrade_is_answered_in_http_1(running: Edge) -> None:
    with warm(running) as connection:
        offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
        for body in (b'{"n":1}', b'{"n":2}'):
            assert exchange(connection, request(body, *offer)).status == 202
        parts = request(b'{"n":3}', *offer)
        connection.sendall(parts[:-4])
        connection.sendall(parts[-4:])
        assert Reader(connection).answer().status == 202
    assert [r.body for r in running.records()][1:] == [b'{"n":1}', b'{"n":2}', b'{"n":3}']


def test_stopping_answers_what_was_begun(tmp_path: Path) -> None:
    disk = Gate()
    writer = SpoolWriter(tmp_path / "spool", files=disk)
    with edge(tmp_path / "spool", writer=writer) as running, warm(running) as busy, running.connect() as idle:
        disk.open.clear()
        disk.waiting.clear()
        busy.sendall(request(b'{"n":1}') + request(b'{"n":2}'))
        assert disk.waiting.wait(60)
        running.server.server.should_exit = True
        assert Reader(idle).ended()
        disk.open.set()
        reader = Reader(busy)
        first, second = reader.answers(2)
        assert (first.status, second.status) == (202, 202)
        assert "connection" not in first.headers
        assert second.headers["connection"] == "close"
        assert reader.ended()
        running.server.thread.join(60)
    assert [r.body for r in running.records()] == [b'{"warm":1}', b'{"n":1}', b'{"n":2}']


def test_a_failing_disk_and_a_client_that_left(tmp_path: Path) -> None:
    disk = Gate()
    writer = SpoolWriter(tmp_path / "spool", files=disk)
    with edge(tmp_path / "spool", writer=writer) as running:
        with warm(running) as connection:
            disk.error = OSError(5, "Input/output error")
            answer = exchange(connection, request(b'{"n":1}'))
            assert (answer.status, answer.code) == (503, "spool_write_failed")
            assert (
                answer.headers["retry-after"] and answer.headers["x-request-id"] == answer.json["request_id"]
            )
            disk.error = None
            disk.open.clear()
            disk.waiting.clear()
            connection.sendall(request(b'{"n":2}'))
            assert disk.waiting.wait(60)
        disk.open.set()
        with warm(running):
            assert running.route.in_flight_bytes == 0
    assert [r.body for r in running.records()] == [b'{"warm":1}', b'{"n":2}', b'{"warm":1}']


def test_one_pipeline_may_hold_half_of_what_is_on_its_way(tmp_path: Path) -> None:
    limits = Limits(1 << 20, 1 << 20, in_flight_bytes=100_000)
    with (
        edge(tmp_path / "spool", limits=limits) as running,
        running.connect() as slow,
        running.connect() as other,
    ):
        slow.sendall(request(b" " * 45_000 + b"{}", pipeline="noisy")[:-2])
        while running.route.in_flight_bytes < 45_000:
            threading.Event().wait(0.01)
        text = b'{"text":"' + b"x" * 10_000 + b'"}'
        refused = exchange(other, request(text, pipeline="noisy"))
        assert (refused.status, refused.code) == (429, "too_much_in_flight")
        for _ in range(2):  # through ASGI, then by the short way
            assert exchange(other, request(text, pipeline="quiet")).status == 202
        slow.sendall(b"{}")
        assert Reader(slow).answer().status == 202
        assert exchange(other, request(text, pipeline="noisy")).status == 202
    assert running.route.in_flight_bytes == 0


def test_forms_of_plain_bodies(plain: Edge) -> None:
    with warm(plain) as connection:
        exchange(connection, request(b"[{},{}]"))
        exchange(connection, request(b"{}\n{}\n{}", "content-type: application/x-ndjson"))
    assert [(r.form, r.events) for r in plain.records()][1:] == [(Form.ARRAY, 2), (Form.NDJSON, 3)]
