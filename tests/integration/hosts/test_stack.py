"""A stack of stand-in functions: what starts, what is restarted, what is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pg8000.native
import psutil
import pytest
from pg8000.exceptions import DatabaseError

from noetl_serverless.hosts.local.layout import InUse, Layout
from noetl_serverless.hosts.local.stack import Stack
from noetl_serverless.hosts.local.workspace import NAME
from noetl_serverless.settings import Settings
from noetl_serverless.store import connection
from noetl_serverless.store.worker_role import worker_role

FUNCTIONS = {"control_plane", "reconciler", "worker"}


@pytest.fixture(params=["together", "separate"])
def processes(request: pytest.FixtureRequest) -> str:
    """Whether the functions share a process."""
    return str(request.param)


def parts(processes: str) -> set[str]:
    return {"postgres", "nats", *({"functions"} if processes == "together" else FUNCTIONS)}


def log_of(processes: str, function: str) -> str:
    return "functions" if processes == "together" else function


@contextlib.asynccontextmanager
async def started(
    home: Path, functions: Path, given: Settings | None = None
) -> AsyncIterator[tuple[Layout, dict[str, Any]]]:
    layout = Layout(home)
    ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    stack = asyncio.create_task(Stack(layout, given or Settings(), functions).run(ready.set_result, stop))
    either: set[asyncio.Future[Any]] = {stack, ready}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if stack.done():
        stack.result()
    try:
        yield layout, await ready
    finally:
        stop.set()
        await stack


def read(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(url, timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


async def ask(url: str) -> dict[str, Any]:
    return await asyncio.to_thread(read, url)


async def until(condition: Callable[[], Awaitable[bool]], limit: float = 60.0) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit
    while True:
        with contextlib.suppress(OSError):
            if await condition():
                return
        assert loop.time() < deadline
        await asyncio.sleep(0.05)


async def test_all_parts_run_and_stop_politely(data_dir: Path, functions: Path, processes: str) -> None:
    async with started(data_dir / "d", functions, Settings(processes=processes)) as (layout, run):
        running = layout.running()
        assert running is not None
        assert running["pids"].keys() == parts(processes)
        assert running["pid"] == os.getpid()
        pids = list(running["pids"].values())
        assert (await ask(run["worker_url"] + "/readyz"))["environment"]["NOETL_POOL"] == "shared"
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert layout.running() is None
    assert "ended politely" in layout.log(log_of(processes, "worker")).read_text()


async def test_a_worker_that_is_stopped_can_still_hand_back_what_it_holds(
    data_dir: Path, functions: Path, processes: str
) -> None:
    async with started(data_dir / "d", functions, Settings(processes=processes)) as (layout, run):
        # the app's end is only its own once it has begun, with the first request
        await ask(run["worker_url"] + "/readyz")
    said = layout.log(log_of(processes, "worker")).read_text()
    assert "heard to the last" in said
    # the control plane ends after the worker
    assert said.count("ended politely") == (3 if processes == "together" else 1)


async def test_the_schedule_ticks_the_reconciler_with_its_token(data_dir: Path, functions: Path) -> None:
    async with started(data_dir / "d", functions) as (_, run):

        async def ticked() -> bool:
            return bool((await ask(run["reconciler_url"] + "/count"))["invoked"] > 2)

        await until(ticked)
        assert (await ask(run["reconciler_url"] + "/count"))["token"].startswith("Bearer ey")


async def test_whatever_is_killed_comes_back_where_it_was(data_dir: Path, functions: Path, processes: str) -> None:
    async with started(data_dir / "d", functions, Settings(processes=processes)) as (layout, run):
        before = (layout.running() or {})["pids"]
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)

        async def back() -> bool:
            now = (layout.running() or {})["pids"]
            return now.keys() == parts(processes) and not set(now.values()) & set(before.values())

        await until(back)
        for name in ("control_plane", "reconciler", "worker"):

            async def answers(url: str = run[f"{name}_url"]) -> bool:
                return bool((await ask(url + "/readyz"))["pid"])

            await until(answers)

        async def signs_in() -> bool:
            try:
                connect(run["database_url"]).close()
            except (pg8000.native.Error, pg8000.native.InterfaceError):
                return False
            return True

        await until(signs_in)


async def test_several_instances_share_a_port_and_the_work_of_one_that_is_gone(data_dir: Path, functions: Path) -> None:
    async with started(data_dir / "d", functions, Settings(instances=2, processes="separate")) as (
        layout,
        run,
    ):
        pids = (layout.running() or {})["pids"]
        assert {"worker.1", "worker.2", "reconciler.1", "control_plane.2"} < pids.keys()
        own = {name: (await ask(run[f"{name}_url"] + "/readyz"))["pid"] for name in ("worker.1", "worker.2")}
        assert {(await ask(run["worker_url"] + "/readyz"))["pid"] for _ in range(4)} == set(own.values())

        async def both_tick() -> bool:
            urls = [run[f"reconciler.{number}_url"] for number in (1, 2)]
            return all([(await ask(url + "/count"))["invoked"] > 0 for url in urls])

        await until(both_tick)
        os.killpg(pids["worker.1"], signal.SIGKILL)

        async def the_other_answers() -> bool:
            return bool((await ask(run["worker_url"] + "/readyz"))["pid"] == own["worker.2"])

        await until(the_other_answers)


async def test_functions_that_share_a_process_get_only_their_own_variables(data_dir: Path, functions: Path) -> None:
    async with started(data_dir / "d", functions) as (_, run):
        found = {name: await ask(run[f"{name}_url"] + "/readyz") for name in sorted(FUNCTIONS)}
        # what the process was started with can be read in /proc, whatever becomes of it
        started_with = await asyncio.to_thread(Path(f"/proc/{found['worker']['pid']}/environ").read_bytes)
    assert b"NOETL_" not in started_with
    assert len({answer["pid"] for answer in found.values()}) == 1
    assert [name for name in found if "NOETL_ENCRYPTION_KEYS" in found[name]["environment"]] == ["control_plane"]
    assert [name for name in found if "NOETL_CONTROL_PLANE_URL" in found[name]["environment"]] == ["worker"]
    tokens = {answer["environment"]["NOETL_SERVICE_TOKEN"] for answer in found.values()}
    assert len(tokens) == 3


async def test_together_each_instance_of_a_function_runs_beside_those_of_the_others(
    data_dir: Path, functions: Path
) -> None:
    async with started(data_dir / "d", functions, Settings(instances=2)) as (layout, run):
        pids = (layout.running() or {})["pids"]
        assert pids.keys() == {"postgres", "nats", "functions.1", "functions.2"}
        for number in (1, 2):
            own = {(await ask(run[f"{name}.{number}_url"] + "/readyz"))["pid"] for name in FUNCTIONS}
            assert own == {pids[f"functions.{number}"]}


async def test_more_workers_are_processes_of_their_own(data_dir: Path, functions: Path) -> None:
    async with started(data_dir / "d", functions, Settings(workers=3)) as (layout, run):
        pids = (layout.running() or {})["pids"]
        assert pids.keys() == {"postgres", "nats", "functions", "worker.2", "worker.3"}
        assert (await ask(run["worker.1_url"] + "/readyz"))["pid"] == pids["functions"]
        served = {(await ask(run["worker_url"] + "/readyz"))["pid"] for _ in range(6)}
        assert len(served) == 3


async def test_a_direct_worker_with_a_process_of_its_own_has_a_role_of_its_own(data_dir: Path, functions: Path) -> None:
    async with started(data_dir / "d", functions, Settings(workers=2, orchestrator="direct")) as (_, run):
        shared, alone = [(await ask(run[f"worker.{number}_url"] + "/readyz"))["environment"] for number in (1, 2)]
        # what runs in the process of the control plane shares its connections
        assert "NOETL_DATABASE_URL" not in shared
        assert alone["NOETL_ORCHESTRATOR"] == "direct"
        with contextlib.closing(connection.connect(alone["NOETL_DATABASE_URL"])) as database:
            assert database.run("SELECT current_user") == [["noetl_worker"]]
            with pytest.raises(DatabaseError, match="permission denied"):
                database.run("SELECT * FROM noetl.credential")


async def test_a_worker_with_a_process_of_its_own_has_no_database_by_default(data_dir: Path, functions: Path) -> None:
    async with started(data_dir / "d", functions, Settings(processes="separate")) as (_, run):
        environment = (await ask(run["worker_url"] + "/readyz"))["environment"]
        assert not {"NOETL_DATABASE_URL", "NOETL_ORCHESTRATOR"} & environment.keys()


async def test_a_database_whose_user_may_not_create_the_role_is_refused(
    data_dir: Path, functions: Path, postgres_url: str
) -> None:
    role = f"{worker_role(postgres_url)}_owner"
    with contextlib.closing(connection.connect(postgres_url)) as owner:
        owner.run(f"CREATE ROLE {role} LOGIN PASSWORD 'password'")
        owner.run(f"GRANT CREATE ON DATABASE {owner.run('SELECT current_database()')[0][0]} TO {role}")
    url = f"postgresql://{role}:password@{postgres_url.rpartition('@')[2]}"
    with pytest.raises(RuntimeError, match="cannot be created: permission denied to create role"):
        async with started(data_dir / "d", functions, Settings(database_url=url, orchestrator="direct")):
            pass


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Settings(processes="alone"), "NOETL_PROCESSES='alone': expected together or separate"),
        (Settings(orchestrator="dirct"), "NOETL_ORCHESTRATOR='dirct': expected remote or direct"),
        (Settings(orchestrator=""), "NOETL_ORCHESTRATOR='': expected remote or direct"),
    ],
)
def test_a_value_that_it_does_not_know_is_refused(
    data_dir: Path, functions: Path, given: Settings, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Stack(Layout(data_dir / "d"), given, functions)


async def test_the_database_and_the_ports_stay_from_one_run_to_the_next(data_dir: Path, functions: Path) -> None:
    async with started(data_dir / "d", functions) as (_, first):
        with contextlib.closing(connect(first["database_url"])) as connection:
            connection.run("CREATE TABLE kept AS SELECT 1 AS n")
    async with started(data_dir / "d", functions) as (_, second):
        with contextlib.closing(connect(second["database_url"])) as connection:
            assert connection.run("SELECT n FROM kept") == [[1]]
    same = ("database_url", "nats_url", "worker_url")
    assert [first[name] for name in same] == [second[name] for name in same]


async def test_two_stacks_run_side_by_side_and_not_two_on_one_directory(data_dir: Path, functions: Path) -> None:
    async with started(data_dir / "a", functions) as (_, a), started(data_dir / "b", functions) as (_, b):
        urls = ("database_url", "nats_url", "control_plane_url", "worker_url")
        assert not {a[name] for name in urls} & {b[name] for name in urls}
        with pytest.raises(InUse):
            async with started(data_dir / "a", functions):
                pass


async def test_a_port_that_somebody_took_is_left_alone(data_dir: Path, functions: Path) -> None:
    async with started(data_dir / "d", functions) as (layout, first):
        pass
    port = layout.ports()["control_plane"]
    taken = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", port)
    async with taken, started(data_dir / "d", functions) as (_, second):
        assert second["control_plane_url"] != first["control_plane_url"]
        assert second["worker_url"] == first["worker_url"]


async def test_ones_own_servers_are_used_instead(
    data_dir: Path, functions: Path, postgres_url: str, nats_url: str
) -> None:
    given = Settings(database_url=postgres_url, nats_url=nats_url)
    async with started(data_dir / "d", functions, given) as (layout, run):
        assert (run["database_url"], run["nats_url"]) == (postgres_url, nats_url)
        assert (layout.running() or {})["pids"].keys() == {"functions"}
    with contextlib.closing(connect(postgres_url)) as connection:
        assert connection.run("SELECT to_regclass('noetl.event') IS NOT NULL") == [[True]]


async def test_a_function_that_does_not_start_ends_the_stack_with_its_words(
    data_dir: Path, functions: Path, processes: str
) -> None:
    (functions / "worker" / "main.py").write_text("raise RuntimeError('the worker is ill')")
    with pytest.raises(RuntimeError, match="the worker is ill"):
        async with started(data_dir / "d", functions, Settings(processes=processes)):
            pass
    assert not Layout(data_dir / "d").is_locked()


async def test_playbooks_cannot_reach_the_engines_tables(data_dir: Path, functions: Path) -> None:
    async with started(data_dir / "d", functions) as (layout, run):
        secrets = json.loads(layout.secrets.read_text())
        url = run["database_url"].rsplit("/", 1)[0].replace(secrets["postgres_password"], secrets["workspace_password"])
        url = url.replace("//noetl:", f"//{NAME}:")
        with contextlib.closing(connect(f"{url}/{NAME}")) as connection:
            connection.run("CREATE TABLE mine (n int)")
        with pytest.raises(pg8000.native.DatabaseError, match="permission denied for database"):
            connect(f"{url}/noetl")


def test_killing_the_supervisor_leaves_nothing_in_the_way(data_dir: Path, functions: Path) -> None:
    code = f"""
import asyncio
from pathlib import Path
from noetl_serverless.hosts.local.layout import Layout
from noetl_serverless.hosts.local.stack import Stack
from noetl_serverless.settings import Settings
ready = lambda run: print("ready", flush=True)
stack = Stack(Layout(Path({str(data_dir / "d")!r})), Settings(), Path({str(functions)!r}))
asyncio.run(stack.run(ready, asyncio.Event()))
"""
    for _ in range(2):
        supervisor = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == "ready\n"
        supervisor.kill()
        supervisor.wait()

    async def again() -> None:
        async with started(data_dir / "d", functions) as (layout, _):
            assert (layout.running() or {})["pids"].keys() == parts("together")

    asyncio.run(again())


def connect(url: str) -> pg8000.native.Connection:
    user, _, rest = url.removeprefix("postgresql://").partition(":")
    password, _, rest = rest.rpartition("@")
    address, _, database = rest.partition("/")
    host, _, port = address.partition(":")
    return pg8000.native.Connection(user, host=host, port=int(port), password=password, database=database, timeout=10)
