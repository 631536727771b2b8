"""The stack that chaos is made on: its functions by the local host, its servers its own, with wires between."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.faults import FUNCTIONS, TOGETHER, Away, BrokenStack, children, eventually, lives, with_children
from tests.e2e.stack import ROOT

from noetl_serverless.hosts.local.process import tail

from . import clocks
from .effects import Effects
from .servers import Servers

# seconds; short, so that what a dead worker held is soon another's
LEASE = 4.0
# seconds for a dozen functions on a machine that has other work
START = 300.0


class ChaosStack(BrokenStack):
    """`instances` of each function, the second of each with a clock that is ahead and the third with one that is behind
    where `library` is given. Together, the first instances share a process, and so do the second, ..."""

    def __init__(
        self,
        data: Path,
        servers: Servers,
        effects: Effects,
        instances: int,
        library: Path | None,
        processes: str = "separate",
    ) -> None:
        super().__init__(
            data,
            database_url=servers.database_url,
            nats_url=servers.nats_url,
            lease=LEASE,
            instances=instances,
            processes=processes,
        )
        self.servers = servers
        self.effects = effects
        self.instances = instances
        self.library = library

    def up(self) -> None:
        self.layout.create()
        log = self.layout.log("stack")
        skewed = ["--faketime", str(self.library)] if self.library else []
        with log.open("wb") as output:
            popen = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.supervise", str(self.data), *skewed],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=ROOT,
                env={**os.environ, **self._environment},
            )
        until = time.monotonic() + START
        while self.layout.running() is None:
            if popen.poll() is not None:
                raise RuntimeError(f"the stack ended with status {popen.returncode}:\n{tail(log)}")
            if time.monotonic() > until:
                popen.terminate()
                raise RuntimeError(f"the stack is not ready after {START:g} s; see {self.layout.logs}")
            time.sleep(0.05)

    @property
    def database_url(self) -> str:
        """Past the wire: for those who look on."""
        return self.servers.direct_database_url

    def pid(self, part: str) -> int | None:
        """Of a server, or of a function's first instance."""
        if part in ("postgres", "nats"):
            return self.servers.pids().get(part)
        return next(iter(self.parts(part).values()), None)

    def parts(self, function: str) -> dict[str, int]:
        """The instances of a function: name -> the pid that the supervisor started."""
        with contextlib.suppress(Away):
            pids: dict[str, int] = self.running["pids"]
            return {name: pid for name, pid in pids.items() if name.partition(".")[0] == function}
        return {}

    def victims(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for name in ("postgres", "nats"):
            found[name] = [pid] if (pid := self.pid(name)) else []
        if self.is_together:
            found[TOGETHER] = list(self.parts(TOGETHER).values())
            found["worker python"] = with_children([child for pid in found[TOGETHER] for child in children(pid)])
        else:
            for name in FUNCTIONS:
                arbiters = list(self.parts(name).values())
                found[f"{name} arbiter"] = arbiters
                found[f"{name} server"] = [child for pid in arbiters for child in children(pid)]
            zygotes = [pid for server in found["worker server"] for pid in children(server)]
            found["worker python"] = with_children(zygotes)
        found["postgres backend"] = self.backends()
        return {role: pids for role, pids in found.items() if pids}

    def groups(self, role: str) -> list[list[int]]:
        """The processes of the role at this moment, those of one instance together; with all that they started for
        `postgres`, `worker` and `functions`, one by one for a role of two words."""
        if role == TOGETHER:
            return [[pid, *children(pid)] for pid in self.parts(TOGETHER).values()]
        if role == "postgres":
            pid = self.pid("postgres")
            return [[pid, *children(pid)]] if pid else []
        if role in FUNCTIONS:
            servers = [children(pid) for pid in self.parts(role).values()]
            if role == "worker":
                return [[*ours, *(child for server in ours for child in children(server))] for ours in servers]
            return servers
        return [[pid] for pid in self.victims().get(role, [])]

    def some(self, role: str, choice: float) -> list[int]:
        """Processes of the role: of one instance, or of several; never of none, if there are any."""
        groups = self.groups(role)
        random.Random(choice).shuffle(groups)
        return [pid for group in groups[: 1 + int(choice * len(groups))] for pid in group]

    def crash(self) -> None:
        """Kill the supervisor and all functions at once, as when the machine goes down."""
        run = self.running
        pids = [run["pid"], *run["pids"].values()]
        pids += [grandchild for pid in run["pids"].values() for grandchild in children(pid)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: not lives(run["pid"]))

    def _is_back(self, role: str, part: str, pid: int) -> bool:
        if part not in (*FUNCTIONS, TOGETHER) or role == "worker python":
            return super()._is_back(role, part, pid)
        with contextlib.suppress(Away, KeyError):
            if lives(pid):
                return False
            parts = self.parts(part)
            names = [name for process in parts for name in self.running["functions"][process]]
            return pid not in parts.values() and all(_ready(self.running[f"{name}_url"]) for name in names)
        return False


def _ready(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/readyz", timeout=2) as response:
        return bool(response.status == 200)
    return False


@contextlib.contextmanager
def chaos_stack(
    keep: bool = False, *, instances: int = 1, processes: str = "separate", skewed: bool = False
) -> Iterator[ChaosStack]:
    """Running; stopped and removed at the end, whatever is left of it. `keep`: its folder stays. `skewed`: with clocks
    that differ, where that can be had."""
    home = Path(tempfile.mkdtemp(prefix="noetl-chaos-"))
    library = clocks.library() if skewed else None
    servers = Servers(home / "servers")
    effects = Effects()
    # under root PostgreSQL runs as somebody else, who must get through
    for folder in (home, servers.home):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o711)
    stack: ChaosStack | None = None
    try:
        servers.start()
        stack = ChaosStack(home / "stack", servers, effects, instances, library, processes)
        stack.up()
        yield stack
    finally:
        if stack is not None:
            stack("down")
        servers.stop()
        effects.close()
        if not keep:
            shutil.rmtree(home, ignore_errors=True)
