"""`noetls up` for chaos: one gateway, and some clocks wrong. `python -m tests.chaos.supervise DATA`."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from pathlib import Path

from noetl_serverless.hosts.local import stack as local
from noetl_serverless.hosts.local.layout import Layout
from noetl_serverless.hosts.local.stack import Stack, log_file, stop_on_signals
from noetl_serverless.hosts.local.supervisor import Supervised
from noetl_serverless.hosts.table import FunctionSpec
from noetl_serverless.settings import Settings

from . import clocks

# a dozen functions start at once, on a machine that has other work
START = 300.0


class ChaosSupervisor(Stack):
    def __init__(self, layout: Layout, given: Settings, library: Path | None) -> None:
        super().__init__(layout, given)
        self._library = library

    def _instances(self, spec: FunctionSpec) -> list[str]:
        # nobody calls it
        return [spec.name] if spec.name == "gateway" else super()._instances(spec)

    def _supervised(
        self,
        name: str,
        argv: list[str],
        environment: Callable[[], dict[str, str]],
        input: Callable[[], bytes] = bytes,
    ) -> Supervised:
        # who gets SIGSEGV writes down where it is; SIGABRT is the arbiter's
        more = {"PYTHONFAULTHANDLER": "1"}
        seconds = clocks.skew(name)
        if self._library and seconds:
            more |= clocks.environment(self._library, seconds)
        return super()._supervised(name, argv, lambda: environment() | more, input)


async def supervise(layout: Layout, library: Path | None) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    stack = ChaosSupervisor(layout, Settings.from_environment(), library)
    await stack.run(lambda started: None, stop)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--faketime", type=Path)
    given = parser.parse_args()
    local.FUNCTION_START_SECONDS = START
    layout = Layout(given.data)
    layout.create()
    log_file(layout.log("supervisor"))
    asyncio.run(supervise(layout, given.faketime))


if __name__ == "__main__":
    main()
