"""The proxy that other tests trust: each fault does what its name says, and passing changes no byte."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.fault_proxy import Cut, FaultProxy, Faults

PATIENCE_S = 30.0
MANY = 3_000_000


class Echo:
    """A server that sends back what it gets, and says what it got once the client is done."""

    def __init__(self, listener: socket.socket) -> None:
        self.got: list[bytes] = []
        self.done = threading.Condition()
        self._listener = listener
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,))
            thread.start()
            self._threads.append(thread)

    def _serve(self, client: socket.socket) -> None:
        got = b""
        with client:
            try:
                while data := client.recv(65536):
                    got += data
                    client.sendall(data)
            except OSError:
                got += b"<reset>"
        with self.done:
            self.got.append(got)
            self.done.notify_all()

    def wait_for_end(self, connections: int = 1) -> list[bytes]:
        with self.done:
            assert self.done.wait_for(lambda: len(self.got) >= connections, PATIENCE_S)
            return self.got

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in [self._accepting, *self._threads]:
            thread.join(PATIENCE_S)


@pytest.fixture
def echo() -> Iterator[tuple[Echo, tuple[str, int]]]:
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    with closing(Echo(listener)) as server:
        yield server, address


@pytest.fixture
def proxy(echo: tuple[Echo, tuple[str, int]]) -> Iterator[FaultProxy]:
    with FaultProxy(echo[1]) as found:
        yield found


@pytest.fixture
def server(echo: tuple[Echo, tuple[str, int]]) -> Echo:
    return echo[0]


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE_S)


def receive(client: socket.socket, size: int) -> bytes:
    """`size` bytes, or what there was before the end."""
    found = b""
    while len(found) < size and (data := client.recv(65536)):
        found += data
    return found


def test_what_passes_is_unchanged_and_counted(proxy: FaultProxy, server: Echo) -> None:
    sent = os.urandom(MANY)
    with connect(proxy) as client:
        sender = threading.Thread(target=client.sendall, args=(sent,))
        sender.start()
        assert receive(client, MANY) == sent
        sender.join()
        client.shutdown(socket.SHUT_WR)
        assert client.recv(10) == b""
    assert server.wait_for_end() == [sent]
    counts = proxy.wait_for(lambda counts: counts.open == 0)
    assert (counts.connections, counts.bytes_up, counts.bytes_down) == (1, MANY, MANY)
    assert (counts.cuts, counts.held, counts.delayed, counts.unreachable) == (0, 0, 0, 0)


def test_a_unix_socket_behind(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    with closing(Echo(listener)), FaultProxy(tmp_path / "s") as proxy, connect(proxy) as client:
        client.sendall(b"hello")
        assert receive(client, 5) == b"hello"


def test_refusing_and_taking_again(proxy: FaultProxy) -> None:
    with connect(proxy) as before:
        proxy.wait_for(lambda counts: counts.open == 1)
        proxy.set(Faults(refuse=True))
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        before.sendall(b"still open")
        assert receive(before, 10) == b"still open"
        proxy.set(Faults())
        with connect(proxy) as again:
            again.sendall(b"x")
            assert receive(again, 1) == b"x"


def test_a_server_that_is_not_there_resets_the_client() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        with FaultProxy(taken.getsockname()) as proxy:
            with pytest.raises(ConnectionResetError), connect(proxy) as client:
                client.recv(1)
            proxy.wait_for(lambda counts: counts.unreachable == 1)


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_cut_in_the_middle_of_an_upload(proxy: FaultProxy, server: Echo, how: str) -> None:
    proxy.set(Faults(cut=Cut("up", 100_000, how, times=1)))  # type: ignore[arg-type]
    with connect(proxy) as client:
        # Whether the reset is met by sending or by receiving is a matter of time.
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            client.sendall(b"x" * MANY)
            while client.recv(65536):
                pass
            client.sendall(b"x")
            client.sendall(b"x" * MANY)
        counts = proxy.wait_for(lambda counts: counts.cuts == 1)
        assert counts.bytes_up == 100_000
    (got,) = server.wait_for_end()
    assert got.removesuffix(b"<reset>") == b"x" * len(got.removesuffix(b"<reset>"))
    assert len(got.removesuffix(b"<reset>")) <= 100_000
    with connect(proxy) as client:  # it was to be one connection
        client.sendall(b"y" * 200_000)
        assert receive(client, 200_000) == b"y" * 200_000


def test_an_answer_cut_off_after_the_server_had_everything(proxy: FaultProxy, server: Echo) -> None:
    proxy.set(Faults(cut=Cut("down", 3)))
    with connect(proxy) as client:
        client.sendall(b"everything")
        proxy.wait_for(lambda counts: counts.cuts == 1)
    assert server.wait_for_end()[0].startswith(b"everything")
    assert (proxy.counts.bytes_up, proxy.counts.bytes_down) == (10, 3)


def test_one_direction_ends_and_the_other_goes_on(proxy: FaultProxy, server: Echo) -> None:
    proxy.set(Faults(cut=Cut("up", 5, "half")))
    with connect(proxy) as client:
        client.sendall(b"12345678")
        assert receive(client, 100) == b"12345"  # the echo of what came through, then its end
    assert server.wait_for_end() == [b"12345"]


def test_a_stall_holds_everything_back_and_lets_it_go(proxy: FaultProxy, server: Echo) -> None:
    with connect(proxy) as client:
        client.sendall(b"1")
        assert receive(client, 1) == b"1"
        proxy.set(Faults(stall="down"))
        client.sendall(b"2")
        counts = proxy.wait_for(lambda counts: counts.held == 1)
        assert (counts.bytes_up, counts.bytes_down) == (2, 1)
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(1)
        proxy.set(Faults())
        client.settimeout(PATIENCE_S)
        assert receive(client, 1) == b"2"


def test_slow_is_whole(proxy: FaultProxy) -> None:
    proxy.set(Faults(connect_delay_s=0.01, chunk_delay_s=0.01, bytes_per_s=1_000_000))
    sent = os.urandom(100_000)
    with connect(proxy) as client:
        client.sendall(sent)
        assert receive(client, len(sent)) == sent
    assert proxy.counts.delayed > 0


def test_every_open_connection_is_dropped(proxy: FaultProxy) -> None:
    with connect(proxy) as one, connect(proxy) as two:
        proxy.wait_for(lambda counts: counts.open == 2)
        for client in (one, two):
            client.sendall(b"x")
            assert receive(client, 1) == b"x"
        assert proxy.drop() == 2
        for client in (one, two):
            with pytest.raises(ConnectionResetError):
                client.recv(1)
    proxy.wait_for(lambda counts: counts.open == 0)


def test_leaving_ends_everything_at_once(echo: tuple[Echo, tuple[str, int]]) -> None:
    with FaultProxy(echo[1], Faults(stall="both")) as proxy:
        client = connect(proxy)
        client.sendall(b"never passed on")
        proxy.wait_for(lambda counts: counts.held == 1)
    with client:
        assert receive(client, 1) == b""
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
