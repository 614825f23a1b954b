"""The embedded server trusts whoever reaches its socket: nobody but its own account and root does."""

import os
import pwd
import socket
import stat
from pathlib import Path

import pytest

from sluiceway.infra.embedded import EmbeddedPostgres, EmbeddedServerFailed


def test_folder_and_socket_are_closed_to_others(cluster) -> None:
    folder = cluster.server.socket_dir
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    [found] = [path for path in folder.iterdir() if stat.S_ISSOCK(path.stat().st_mode)]
    assert stat.S_IMODE(found.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_account_of_the_machine_is_not_let_in(cluster) -> None:
    nobody = pwd.getpwnam("nobody")
    child = os.fork()
    if child == 0:  # nothing but system calls: the other threads of the test are not here
        code = 1
        try:
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)
            socket.socket(socket.AF_UNIX).connect(str(cluster.server.socket_dir / ".s.PGSQL.5432"))
            code = 0
        except PermissionError:
            code = 13
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 13


def test_a_socket_folder_that_somebody_else_made_is_not_used(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "pg")
    server.socket_dir.parent.mkdir(parents=True, exist_ok=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    server.socket_dir.symlink_to(elsewhere)
    with pytest.raises(EmbeddedServerFailed, match="somebody else"):
        server.start()
    server.socket_dir.unlink()
    if os.geteuid() == 0:
        server.socket_dir.mkdir()
        os.chown(server.socket_dir, pwd.getpwnam("daemon").pw_uid, -1)
        with pytest.raises(EmbeddedServerFailed, match="somebody else"):
            server.start()
        server.socket_dir.rmdir()
