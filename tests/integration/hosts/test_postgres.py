from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pg8000.native
import psutil
import pytest
from tests.e2e.faults import eventually

from noetl_serverless.hosts.local.os_user import OsUser, unprivileged
from noetl_serverless.hosts.local.ports import free_port
from noetl_serverless.hosts.local.postgres import USER, Postgres
from noetl_serverless.hosts.local.process import Process

AsUser = Callable[[int, int, Callable[[], None]], None]

PASSWORD = "a password of the test"


def server_in(folder: Path, port: int | None = None, *, durable: bool = False) -> Postgres:
    port = port or free_port()
    return Postgres(folder / "postgres", port, PASSWORD, folder / "postgres.log", durable=durable)


@contextlib.contextmanager
def started(server: Postgres) -> Iterator[Process]:
    process = server.start()
    try:
        yield process
    finally:
        process.stop()


def query(server: Postgres, sql: str, password: str = PASSWORD) -> list[list[object]]:
    connection = pg8000.native.Connection(
        USER, host="127.0.0.1", port=server.port, password=password, database="noetl", timeout=10
    )
    with contextlib.closing(connection):
        return connection.run(sql) or []


def test_data_survives_a_restart_on_another_port(data_dir: Path) -> None:
    first = server_in(data_dir)
    with started(first):
        query(first, "CREATE TABLE kept (n int)")
        query(first, "INSERT INTO kept VALUES (7)")
    second = server_in(data_dir)
    with started(second):
        assert query(second, "SELECT n FROM kept") == [[7]]


def test_it_never_runs_as_root_and_its_data_is_closed_to_others(data_dir: Path) -> None:
    server = server_in(data_dir)
    with started(server) as process:
        assert psutil.Process(process.pid).uids().real == unprivileged().uid != 0
        assert (server.home / "data").stat().st_mode & 0o077 == 0


def test_it_asks_for_the_password(postgres_server: Postgres) -> None:
    with pytest.raises(pg8000.native.DatabaseError, match="password authentication failed"):
        query(postgres_server, "SELECT 1", password="another")


def test_it_listens_on_this_machine_alone(data_dir: Path) -> None:
    server = server_in(data_dir)
    with started(server) as process:
        listening = [
            socket.laddr
            for socket in psutil.Process(process.pid).net_connections()
            if socket.status == psutil.CONN_LISTEN
        ]
        assert [tuple(address) for address in listening] == [("127.0.0.1", server.port)]


def test_a_stack_of_ones_own_is_durable(data_dir: Path) -> None:
    server = Postgres(data_dir / "postgres", free_port(), PASSWORD, data_dir / "postgres.log")
    with started(server):
        assert query(server, "SELECT current_setting('fsync'), current_setting('synchronous_commit')") == [["on", "on"]]


def test_a_killed_server_is_recovered(data_dir: Path) -> None:
    server = server_in(data_dir, durable=True)
    process = server.start()
    query(server, "CREATE TABLE kept AS SELECT 1 AS n")
    os.kill(process.pid, signal.SIGKILL)
    again = server_in(data_dir, durable=True)
    with started(again):
        assert query(again, "SELECT n FROM kept") == [[1]]
    process.kill()


def test_a_server_that_still_runs_after_a_crash_is_replaced(data_dir: Path) -> None:
    left = server_in(data_dir).start()
    again = server_in(data_dir)
    with started(again):
        assert not left.alive
        assert query(again, "SELECT 1") == [[1]]


def test_a_pid_file_that_names_somebody_elses_process_is_no_obstacle(data_dir: Path) -> None:
    server = server_in(data_dir)
    with started(server):
        pass
    with subprocess.Popen(["sleep", "60"]) as stranger:
        (server.home / "data" / "postmaster.pid").write_text(f"{stranger.pid}\n{server.home / 'data'}\n")
        with started(server):
            assert query(server, "SELECT 1") == [[1]]
        assert stranger.poll() is None
        stranger.kill()


def test_a_killed_server_that_is_still_a_zombie_is_no_obstacle_on_the_same_port(data_dir: Path) -> None:
    server = server_in(data_dir)
    killed = server.start()
    os.kill(killed.pid, signal.SIGKILL)
    # nobody asks for its status, as where process 1 does not
    eventually(lambda: psutil.Process(killed.pid).status() == psutil.STATUS_ZOMBIE)
    with started(server):
        assert query(server, "SELECT 1") == [[1]]
        assert psutil.Process(killed.pid).status() == psutil.STATUS_ZOMBIE
    killed.kill()


def test_locks_of_sockets_that_name_somebody_elses_process_are_no_obstacle(data_dir: Path) -> None:
    server = server_in(data_dir)
    with started(server):
        pass
    # one that a server may not ask about does not count for it
    with subprocess.Popen(["sleep", "60"], user=unprivileged().uid) as stranger:
        for port in (server.port, 1):
            lock = f"{stranger.pid}\n{server.home / 'data'}\n1\n{port}\n{server.home}\n"
            (server.home / f".s.PGSQL.{port}.lock").write_text(lock)
        with started(server):
            assert query(server, "SELECT 1") == [[1]]
            assert {path.name for path in server.home.glob(".s.*")} == {
                f".s.PGSQL.{server.port}",
                f".s.PGSQL.{server.port}.lock",
            }
        assert stranger.poll() is None
        stranger.kill()


def test_a_server_that_is_shutting_down_is_ended_before_the_next_starts(data_dir: Path) -> None:
    server = server_in(data_dir)
    left = server.start()
    with contextlib.closing(
        pg8000.native.Connection(USER, host="127.0.0.1", port=server.port, password=PASSWORD, database="noetl")
    ):
        # it waits for that client, and refuses all others
        os.kill(left.pid, signal.SIGTERM)
        eventually(lambda: "received smart shutdown request" in server.log.read_text())
        with pytest.raises(pg8000.native.DatabaseError, match="the database system is shutting down"):
            query(server, "SELECT 1")
        with started(server):
            assert not left.alive
            assert query(server, "SELECT 1") == [[1]]


def test_a_taken_port_is_reported_with_the_words_of_this_start_alone(data_dir: Path, postgres_server: Postgres) -> None:
    first = server_in(data_dir)
    with started(first):
        pass
    with pytest.raises(RuntimeError) as raised:
        server_in(data_dir, postgres_server.port).start()
    first_line, *others = str(raised.value).splitlines()
    assert first_line == (
        f"postgres stopped while starting, with exit status 1; {data_dir / 'postgres.log'} has its log, which says of "
        "this start:"
    )
    assert "could not bind IPv4 address" in "\n".join(others)
    assert "database system is ready" not in "\n".join(others)


def test_data_of_another_version_is_refused_by_name(data_dir: Path) -> None:
    data = data_dir / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("15\n")
    with pytest.raises(RuntimeError, match="was created by PostgreSQL 15; this is PostgreSQL 18"):
        server_in(data_dir).prepare()


@pytest.mark.parametrize("as_root", [True, False])
def test_it_runs_for_root_and_for_an_ordinary_user(data_dir: Path, as_root: bool, as_user: AsUser) -> None:
    server = server_in(data_dir)

    def work() -> None:
        ours = server if os.geteuid() == 0 else server_in(data_dir)
        with started(ours):
            assert query(ours, "SELECT current_user") == [[USER]]

    if as_root or os.geteuid() != 0:
        # whoever runs the tests
        work()
        return
    nobody = unprivileged()
    os.chown(data_dir, nobody.uid, nobody.gid)
    as_user(nobody.uid, nobody.gid, work)


def test_what_a_closed_folder_would_hide_is_put_where_the_server_can_reach_it(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        # an ordinary user's server reaches what the user reaches
        assert unprivileged().can_read(data_dir)
        return
    closed = data_dir / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr("noetl_serverless.hosts.local.postgres._REACHABLE_HOME", data_dir / "reachable")
    server = server_in(closed)
    with started(server):
        assert query(server, "SELECT 1") == [[1]]
    assert server.home.resolve().is_relative_to(data_dir / "reachable")
    assert closed.stat().st_mode & 0o777 == 0o700
    with started(server_in(closed)):
        pass


def test_binaries_that_the_server_cannot_reach_are_copied_once(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noetl_serverless.hosts.local.postgres._REACHABLE_HOME", data_dir / "reachable")
    monkeypatch.setattr(OsUser, "can_read", lambda self, path: "site-packages" not in str(path))
    server = server_in(data_dir)
    program = server.prepare()
    assert program.argv[0].startswith(str(data_dir / "reachable"))
    with started(server):
        assert query(server, "SELECT 1") == [[1]]
    assert server.prepare().argv[0] == program.argv[0]
