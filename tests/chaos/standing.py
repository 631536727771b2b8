"""Where the functions stand when one does not answer: what each says, and of a silent one where its code is."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Sequence

from tests.e2e.faults import Away, children

from noetl_serverless.hosts.local.process import tail

from .stack import ChaosStack

# seconds in which a process answers that is not stuck, and in which it writes down where it is
ANSWER = 10.0
TRACE = 1.0
LINES = 60


def standing(stack: ChaosStack) -> str:
    """One line for each process; of one that is silent its trace, too: it is ended by that."""
    try:
        run = stack.running
    except Away as error:
        return str(error)
    lines = []
    for process, names in sorted(run["functions"].items()):
        pid = run["pids"].get(process)
        # of its own, a function is served by a child of the one that the supervisor started
        servers = [] if pid is None else [pid] if stack.is_together else children(pid)
        for name in names:
            said = _said(f"{run[f'{name}_url']}/readyz")
            lines.append(f"{name} {said or 'is silent'}")
            if said is None:
                lines.append(_trace(stack, process, servers))
    return "\n".join(lines)


def _said(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=ANSWER) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()}"
    except OSError as error:
        # nobody listens: it is being started, or it is stopped
        return repr(error) if isinstance(getattr(error, "reason", error), ConnectionError) else None


def _trace(stack: ChaosStack, process: str, servers: Sequence[int]) -> str:
    """By faulthandler, which `supervise` has turned on."""
    for server in servers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server, signal.SIGSEGV)
    time.sleep(TRACE)
    return tail(stack.layout.log(process), LINES)
