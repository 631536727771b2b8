"""The stack that chaos is made on: its functions by the local host, its servers its own, with wires between."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.e2e.faults import FUNCTIONS, Away, BrokenStack, children, eventually, lives

from .servers import Servers

# seconds; short, so that what a dead worker held is soon another's
LEASE = 4.0
# a command may be in the hands of a killed worker often, and is none the worse
MAX_DELIVERIES = 1000


class ChaosStack(BrokenStack):
    def __init__(self, data: Path, servers: Servers) -> None:
        super().__init__(
            data,
            database_url=servers.database_url,
            nats_url=servers.nats_url,
            lease=LEASE,
            max_deliveries=MAX_DELIVERIES,
        )
        self.servers = servers

    @property
    def database_url(self) -> str:
        """Past the wire: for those who look on."""
        return self.servers.direct_database_url

    def pid(self, part: str) -> int | None:
        if part in ("postgres", "nats"):
            return self.servers.pids().get(part)
        with contextlib.suppress(Away):
            return super().pid(part)
        return None

    def processes(self, role: str) -> list[int]:
        """Every process of the role, those of this moment; `postgres` and `worker` with all that they started."""
        if role == "postgres":
            pid = self.pid("postgres")
            return [pid, *children(pid)] if pid else []
        if role == "worker":
            servers = children(self.pid("worker"))
            return [*servers, *(child for server in servers for child in children(server))]
        if role in FUNCTIONS:
            return children(self.pid(role))
        return self.victims().get(role, [])

    def crash(self) -> None:
        """Kill the supervisor and all functions at once, as when the machine goes down."""
        run = self.running
        pids = [run["pid"], *run["pids"].values()]
        pids += [grandchild for pid in run["pids"].values() for grandchild in children(pid)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: not lives(run["pid"]))


@contextlib.contextmanager
def chaos_stack(keep: bool = False) -> Iterator[ChaosStack]:
    """Running; stopped and removed at the end, whatever is left of it. `keep`: its folder stays."""
    home = Path(tempfile.mkdtemp(prefix="noetl-chaos-"))
    servers = Servers(home / "servers")
    # under root PostgreSQL runs as somebody else, who must get through
    for folder in (home, servers.home):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o711)
    stack: ChaosStack | None = None
    try:
        servers.start()
        stack = ChaosStack(home / "stack", servers)
        stack.up()
        yield stack
    finally:
        if stack is not None:
            stack("down")
        servers.stop()
        if not keep:
            shutil.rmtree(home, ignore_errors=True)
