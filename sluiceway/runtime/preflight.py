"""What must be true before anything is started: one supervisor a data folder, free ports, some disk.

Each failure is one line that says what to do.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sluiceway.infra.settings import Settings
from sluiceway.kit.errors import Conflict, Unavailable

LOCK_FILE = "supervisor.lock"
FREE_BYTES = 512 * 1024 * 1024


class AlreadyRunning(Conflict):
    code = "already_running"
    title = "Another process has this data folder"


class PortInUse(Conflict):
    code = "port_in_use"
    title = "A port is in use"


class DiskFull(Unavailable):
    code = "disk_full"
    title = "There is too little free disk"


class HomeUnusable(Unavailable):
    code = "home_unusable"
    title = "The data folder cannot be used"


@contextmanager
def hold_home(home: Path, purpose: str = "sluiceway up") -> Iterator[None]:
    """Be the one process in charge of the data folder. Raises `AlreadyRunning`, `HomeUnusable`."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(home / LOCK_FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise HomeUnusable(
            f"The data folder {home} cannot be used ({error.strerror}): "
            "make it writable, or set SLUICEWAY_HOME to another folder."
        ) from None
    with os.fdopen(descriptor, "r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = file.read().strip() or "another process"
            raise AlreadyRunning(
                f"Sluiceway already runs on {home} ({holder}): stop it first, "
                "or set SLUICEWAY_HOME to another folder."
            ) from None
        file.seek(0)
        file.truncate()
        file.write(f"{purpose}, process {os.getpid()}")
        file.flush()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                file.seek(0)
                file.truncate()


def check_ports(settings: Settings, *, dagster: bool = True) -> None:
    """Raise `PortInUse` naming the variable to set, if a port cannot be listened on."""
    wanted = [("SLUICEWAY_PORT", settings.port)]
    if dagster:
        wanted.append(("SLUICEWAY_DAGSTER_PORT", settings.dagster_port))
        if settings.port == settings.dagster_port:
            raise PortInUse(
                f"SLUICEWAY_PORT and SLUICEWAY_DAGSTER_PORT are both {settings.port}: choose two ports."
            )
    for variable, port in wanted:
        _check_port(settings.host, variable, port)


def _check_port(host: str, variable: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortInUse(_port_problem(error, host, variable, port)) from None


def _port_problem(error: OSError, host: str, variable: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} is in use{_port_owner(port)}: stop that program, or set {variable} to another port."
        )
    if error.errno == errno.EACCES:
        return f"Port {port} may not be used by this account: set {variable} to a port above 1023."
    return f"{host}:{port} cannot be listened on ({error.strerror}): check SLUICEWAY_HOST and {variable}."


def _port_owner(port: int) -> str:
    """` by name (process 123)` where the system tells, else nothing."""
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and local and local.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except (psutil.Error, OSError):
        pass
    return ""


def check_disk(settings: Settings, needed: int | None = None) -> None:
    """Raise `DiskFull` if less than the reserve and half a gigabyte is free where the data lies."""
    wanted = settings.disk_reserve_bytes + FREE_BYTES if needed is None else needed
    free = shutil.disk_usage(settings.home).free
    if free < wanted:
        raise DiskFull(
            f"Only {free // 2**20} MB are free on the disk of {settings.home}: free at least "
            f"{wanted // 2**20} MB, or set SLUICEWAY_HOME to a folder on another disk."
        )


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
