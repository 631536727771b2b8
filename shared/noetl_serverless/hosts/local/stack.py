"""The whole engine on a laptop: two servers, the functions, the schedule, and their supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from ...playbook.plan import SHARED
from ...settings import ORCHESTRATORS, Settings
from ..table import FunctionSpec, directly, functions_folder, load_functions, worker_pools
from .balancer import Balancer
from .environment import Addresses, environment_of, inherited, variables_of
from .external_servers import check_database, check_nats, check_results
from .layout import Layout
from .nats import Nats
from .orphans import stop_orphans
from .ports import free_port
from .postgres import Postgres
from .process import Process, Program, check_starting
from .program import FunctionProgram, to_input
from .secrets import Secrets, service_token
from .supervisor import Supervised, Supervisor
from .tick import tick
from .workspace import create_workspace, workspace_credential

_log = logging.getLogger(__name__)

PROCESSES = ("together", "separate")
# a command that waits in its worker costs a laptop less than one that waits to be claimed
LOCAL_DEFAULTS = {"NOETL_MAX_IN_FLIGHT": "64"}
# without its working folder, the stack's, in the path of imports, which task code has, too
INTERPRETER = (sys.executable, "-P")
# serves all functions of a stack
SHARED_PROCESS = "noetl_serverless.hosts.local.functions"
# the function that all others talk to
CONTROL_PLANE = "control_plane"
SERVER_START_SECONDS = 60.0
FUNCTION_START_SECONDS = 60.0
# a worker that drains releases the commands that it holds
FUNCTION_STOP_SECONDS = 20.0
READY_POLL_SECONDS = 0.03


class Stack:
    """One stack on one data directory. `given` holds the URLs of external servers, if any, and the tuning.

    With several instances, each function is started that often, as `worker.1`, `worker.2`, ..., each on its own port,
    and the function's port is that of a balancer in front of them. Together, the first instances of all functions share
    a process, and so do the second, ...; separate, each has its own, and so have workers beyond those.
    """

    def __init__(self, layout: Layout, settings: Settings, functions: Path | None = None) -> None:
        """Raises ValueError for a setting that it does not know."""
        # a worker that refuses it would be started again and again
        for name, known in (("processes", PROCESSES), ("orchestrator", ORCHESTRATORS)):
            if (value := getattr(settings, name)) not in known:
                raise ValueError(f"NOETL_{name.upper()}={value!r}: expected {' or '.join(known)}")
        self.layout = layout
        self.settings = settings
        self._folder = functions or functions_folder()
        self._specs: list[FunctionSpec] = []
        self._supervisor = Supervisor(self._write_run)
        self._balancers: list[Balancer] = []
        self._run: dict[str, Any] = {}

    async def run(self, on_ready: Callable[[dict[str, Any]], None], stop: asyncio.Event) -> None:
        """Start everything, call `on_ready` with run.json, and supervise it until `stop` is set.

        InUse if a stack runs here already; RuntimeError, with the end of a log, if a part does not start.
        """
        self.layout.create()
        with self.layout.locked():
            if crashed := self.layout.last_run():
                stop_orphans(crashed.get("pids", {}).values(), self.layout.home)
            self.layout.delete_run()
            try:
                await _run_until_stopped(stop, self._start())
                if not stop.is_set():
                    on_ready(self._run)
                    await self._supervise(stop)
            finally:
                self.layout.delete_run()
                await self._supervisor.stop()
                for balancer in self._balancers:
                    await balancer.stop()

    async def _start(self) -> None:
        self._specs = [spec for spec in load_functions(self._folder) if self._is_wanted(spec)]
        self._secrets = Secrets.load(self.layout.secrets)
        ports = self._choose_ports()
        database_url, function_database_url, nats_url = await self._start_servers(ports)
        self._addresses = self._addresses_of(function_database_url, nats_url, ports)
        await asyncio.to_thread(_migrate, database_url)
        if not self.settings.database_url:
            # on a server of somebody else's no role is created that nobody has asked for
            await asyncio.to_thread(_create_reader_role, database_url, self._secrets.reader_password)
        if self.settings.orchestrator == "direct":
            await asyncio.to_thread(_create_worker_role, database_url, self._secrets.worker_password)
        parts = self._parts(ports)
        # it stops after the others: a worker that ends releases its commands through it
        first = [part for part, names in parts if CONTROL_PLANE in {_function_of(name) for name in names}]
        self._supervisor.start(first)
        self._supervisor.start([part for part, _ in parts if part not in first])
        await self._balance(ports)
        await asyncio.gather(*(self._wait_ready(part, ports[name]) for part, names in parts for name in names))
        if not self.settings.database_url:
            await self._register_workspace(database_url)
        self._run = {
            "pid": os.getpid(),
            "data": str(self.layout.home),
            **{f"{name}_url": _url(port) for name, port in ports.items() if name not in ("postgres", "nats")},
            "functions": {part.name: names for part, names in parts},
            "options": {name: getattr(self.settings, name) for name in ("instances", "workers", "processes")},
            "database_url": database_url,
            "nats_url": nats_url,
            "started_at": datetime.now(UTC).isoformat(),
        }
        self._write_run()

    def _is_wanted(self, spec: FunctionSpec) -> bool:
        chosen = self.settings.local_pools
        return spec.pool in (None, SHARED) or chosen == "all" or spec.pool in chosen.split(",")

    def _instances(self, spec: FunctionSpec) -> list[str]:
        count = self.settings.instances
        if spec.pool == SHARED:
            count = max(count, self.settings.workers)
        return [spec.name] if count == 1 else [f"{spec.name}.{number}" for number in range(1, count + 1)]

    async def _balance(self, ports: dict[str, int]) -> None:
        for spec in self._specs:
            names = self._instances(spec)
            if names == [spec.name]:
                continue
            balancer = Balancer(ports[spec.name], [ports[name] for name in names])
            self._balancers.append(balancer)
            await balancer.start()

    def _choose_ports(self) -> dict[str, int]:
        """The ports of last time where they are still free."""
        previous = self.layout.ports()
        instance_names = (name for spec in self._specs for name in self._instances(spec))
        names = dict.fromkeys(("postgres", "nats", *(spec.name for spec in self._specs), *instance_names))
        ports: dict[str, int] = {}
        for name in names:
            port = free_port(previous.get(name, 0))
            while port in ports.values():
                port = free_port()
            ports[name] = port
        self.layout.write_ports(ports)
        return ports

    async def _start_servers(self, ports: dict[str, int]) -> tuple[str, str, str]:
        """The URL of the database that is shown, that which the functions use, and NATS's."""
        readiness_checks = []
        parts = []
        database_url = function_database_url = self.settings.database_url
        nats_url = self.settings.nats_url
        if database_url:
            await check_database(database_url)
        if nats_url:
            await check_nats(nats_url)
        if self.settings.result_url:
            await check_results(self.settings.result_url, os.environ)
        if not database_url:
            postgres = Postgres(
                self.layout.postgres,
                ports["postgres"],
                self._secrets.postgres_password,
                self.layout.log("postgres"),
            )
            database_url, function_database_url = postgres.url, postgres.socket_url
            parts.append(Supervised("postgres", postgres.prepare))
            readiness_checks.append(postgres.is_ready)
        if not nats_url:
            nats = Nats(self.layout.nats, ports["nats"], self._secrets.nats_password, self.layout.log("nats"))
            nats_url = nats.url
            parts.append(Supervised("nats", nats.prepare))
            readiness_checks.append(nats.is_ready)
        self._supervisor.start(parts)
        for part, is_ready in zip(parts, readiness_checks, strict=True):
            await _wait_until(is_ready, _process_of(part), SERVER_START_SECONDS)
        return database_url, function_database_url, nats_url

    def _addresses_of(self, database_url: str, nats_url: str, ports: dict[str, int]) -> Addresses:
        from ...store.reader_role import url_as_reader
        from ...store.worker_role import url_as_worker

        urls = {spec.name: _url(ports[spec.name]) for spec in self._specs}
        function_urls = {
            key: f"{urls[spec.name]}/"
            for spec in self._specs
            if any(trigger.kind == "queue" for trigger in spec.triggers)
            for key in (spec.name, spec.pool)
            if key
        }
        return Addresses(
            database_url,
            nats_url,
            urls,
            function_urls=function_urls,
            worker_pools=worker_pools(self._specs, self._is_direct),
            worker_database_url=url_as_worker(database_url, self._secrets.worker_password),
            reader_database_url=(
                "" if self.settings.database_url else url_as_reader(database_url, self._secrets.reader_password)
            ),
        )

    def _is_direct(self, spec: FunctionSpec) -> bool:
        if self.settings.processes == "separate":
            return self.settings.orchestrator == "direct"
        return spec.orchestrator.get("local") == "direct"

    def _parts(self, ports: dict[str, int]) -> list[tuple[Supervised, list[str]]]:
        """The processes of the functions, each with the names of those that it serves."""
        instances = {name: spec for spec in self._specs for name in self._instances(spec)}
        if self.settings.processes == "separate":
            return [(self._separate(spec, name, ports[name]), [name]) for name, spec in instances.items()]
        parts: list[tuple[Supervised, list[str]]] = []
        for number in range(1, self.settings.instances + 1):
            names = [name for name in instances if _number_of(name) == number]
            # the control plane makes what the others share, and the worker ends first
            names.sort(key=lambda name: (_function_of(name) != CONTROL_PLANE, instances[name].pool is not None))
            together = "functions" if self.settings.instances == 1 else f"functions.{number}"
            parts.append((self._together(together, {name: instances[name] for name in names}, ports), names))
        more = [name for name in instances if _number_of(name) > self.settings.instances]
        return parts + [(self._separate(instances[name], name, ports[name]), [name]) for name in more]

    def _separate(self, spec: FunctionSpec, name: str, port: int) -> Supervised:
        if spec.pool is not None and self.settings.orchestrator == "direct":
            spec = directly(spec, self._folder)
        argv = [
            *(*INTERPRETER, "-m", "functions_framework", "--asgi"),
            *("--target", spec.entry_point, "--source", str(self._source(spec))),
            *("--host", "127.0.0.1", "--port", str(port)),
        ]
        return self._supervised(
            name, argv, lambda: environment_of(spec, self._addresses, self._secrets, self.layout, self.settings)
        )

    def _together(self, name: str, functions: dict[str, FunctionSpec], ports: dict[str, int]) -> Supervised:
        def programs() -> bytes:
            found = [
                FunctionProgram(
                    name=instance,
                    source=str(self._source(spec)),
                    target=spec.entry_point,
                    port=ports[instance],
                    environment={
                        **variables_of(spec, self._addresses, self._secrets, self.layout, self.settings),
                        "NOETL_ORCHESTRATOR": spec.orchestrator.get("local", "remote"),
                    },
                )
                for instance, spec in functions.items()
            ]
            return to_input(found)

        return self._supervised(name, [*INTERPRETER, "-m", SHARED_PROCESS], inherited, programs)

    def _supervised(
        self,
        name: str,
        argv: list[str],
        environment: Callable[[], dict[str, str]],
        input: Callable[[], bytes] = bytes,
    ) -> Supervised:
        def prepare() -> Program:
            return Program(
                name=name,
                argv=argv,
                log=self.layout.log(name),
                environment=environment(),
                input=input(),
                directory=self.layout.home,
                stop_timeout=FUNCTION_STOP_SECONDS,
            )

        return Supervised(name, prepare)

    def _source(self, spec: FunctionSpec) -> Path:
        return self._folder / spec.source / "main.py"

    async def _wait_ready(self, part: Supervised, port: int) -> None:
        process = _process_of(part)
        url = f"{_url(port)}/readyz"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            deadline = time.monotonic() + FUNCTION_START_SECONDS
            while True:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                    async with session.get(url) as response:
                        if response.status == 200:
                            return
                check_starting(process, deadline, FUNCTION_START_SECONDS)
                await asyncio.sleep(READY_POLL_SECONDS)

    async def _register_workspace(self, database_url: str) -> None:
        password = self._secrets.workspace_password
        await asyncio.to_thread(create_workspace, database_url, password)
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {self._secrets.operator_token}"}) as session,
            session.post(
                f"{self._addresses.functions['control_plane']}/api/credentials",
                json=workspace_credential(database_url, password),
            ) as response,
        ):
            if response.status >= 400:
                raise RuntimeError(f"the workspace's credential was refused: {await response.text()}")

    async def _supervise(self, stop: asyncio.Event) -> None:
        jobs: list[asyncio.Task[Any]] = [asyncio.create_task(self._supervisor.watch())]
        for spec in self._specs:
            if spec.every is not None:
                token = service_token(self._secrets.token_key, spec.role, "schedule@local")
                for name in self._instances(spec):
                    url = f"{self._run[f'{name}_url']}/"
                    jobs.append(asyncio.create_task(tick(url, token, spec.every, float(spec.timeout_s))))
        stopping = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([stopping, *jobs], return_when=asyncio.FIRST_COMPLETED)
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        stopping.cancel()
        for job in done - {stopping}:
            job.result()

    def _write_run(self) -> None:
        if self._run:
            self.layout.write_run({**self._run, "pids": self._supervisor.pids()})


def _function_of(instance: str) -> str:
    return instance.partition(".")[0]


def _number_of(instance: str) -> int:
    return int(instance.partition(".")[2] or 1)


def local_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """As `Settings.from_environment`, with a laptop's defaults."""
    return Settings.from_environment({**LOCAL_DEFAULTS, **environ})


def stop_on_signals(stop: asyncio.Event) -> None:
    """Let SIGTERM, SIGINT and SIGHUP set `stop`."""
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(signal_number, stop.set)


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _migrate(database_url: str) -> None:
    from ...store.migrate import migrate

    migrate(database_url)


def _create_worker_role(database_url: str, password: str) -> None:
    from ...errors import Problem
    from ...store.database_role import RoleRefused
    from ...store.worker_role import create_worker_role, worker_role

    role = worker_role(database_url)
    try:
        create_worker_role(database_url, role, password)
    except (Problem, RoleRefused) as error:
        raise RuntimeError(f"direct workers need a database role {role}, which cannot be created: {error}") from error


def _create_reader_role(database_url: str, password: str) -> None:
    from ...store.database_role import RoleRefused
    from ...store.reader_role import create_reader_role

    try:
        create_reader_role(database_url, password)
    except RoleRefused as error:
        raise RuntimeError(f"the database role for SQL of operators cannot be created: {error}") from error


def _process_of(part: Supervised) -> Process:
    assert part.process is not None
    return part.process


async def _wait_until(is_ready: Callable[[], bool], process: Process, limit: float) -> None:
    deadline = time.monotonic() + limit
    while not await asyncio.to_thread(is_ready):
        check_starting(process, deadline, limit)
        await asyncio.sleep(0.01)


async def _run_until_stopped(stop: asyncio.Event, work: Any) -> None:
    """Do the work, or cancel it when `stop` is set."""
    task = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not task.done():
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return
    task.result()


def log_file(path: Path) -> None:
    """Send the supervisor's own log there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=path, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
