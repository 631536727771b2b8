"""Cold and warm figures of the functions under Lambda's runtime client: `python -m tests.benchmarks.lambda_functions`,
or the workload `lambda_functions` among the others.

The packages are those that `make package` makes, for the Python that measures. Cold: from the start of the process to
its first request for work, secrets read; first: the invocation that follows. Warm: what an invocation takes at the
caller's side; a worker looks for work for a twentieth of a second before it gives up. The floor is a handler that does
nothing. One JSON line for each figure.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.infra.deployment import Deployment
from tests.infra.lambda_service import http_event, sqs_record
from tests.infra.runtime_api import Environment

from noetl_serverless.hosts.local.nats import Nats
from noetl_serverless.hosts.local.ports import free_port
from noetl_serverless.hosts.local.postgres import Postgres, create_database
from noetl_serverless.hosts.table import functions_folder
from noetl_serverless.packaging.build import build
from noetl_serverless.packaging.target import Target

from .result import Result, median, percentile
from .stack import Bench

STARTS, WARM = 5, 200
EMPTY = "def function(event, context):\n    return {}\n"
ARN = "arn:aws:sqs:eu-west-1:123456789012:noetl-shared"
# what each is asked when warm: the control plane with one round trip to the database, the others with one to theirs
EVENTS: dict[str, Any] = {
    "gateway": http_event("GET", "/livez"),
    "control_plane": http_event("GET", "/readyz"),
    "reconciler": {"noetl": "tick"},
    "worker": {"Records": [sqs_record('{"function": "shared", "pool": "shared"}', ARN)]},
    "worker_data": {"Records": [sqs_record('{"function": "data", "pool": "data"}', ARN)]},
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.lambda_functions", description=__doc__)
    parser.add_argument("--starts", type=int, default=STARTS, help=f"cold starts of each function (default {STARTS})")
    parser.add_argument("--warm", type=int, default=WARM, help=f"warm invocations of each (default {WARM})")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="noetl-bench-") as folder, deployed(Path(folder)) as deployment:
        for result in measure(deployment, Path(folder), given.starts, given.warm):
            print(result.line(), flush=True)
    return 0


async def lambda_functions(bench: Bench) -> list[Result]:
    """On servers of their own: the functions read where these are from secrets, and not from this stack."""
    return await asyncio.to_thread(_all)


def _all() -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="noetl-bench-") as folder, deployed(Path(folder)) as deployment:
        return list(measure(deployment, Path(folder), STARTS, WARM))


def measure(deployment: Deployment, folder: Path, starts: int, warm: int) -> Iterator[Result]:
    empty = folder / "empty"
    empty.mkdir()
    (empty / "main.py").write_text(EMPTY)
    spec = deployment.specs["gateway"]
    floor = _figures(lambda: Environment("main.function", empty, deployment.variables(spec)), {}, starts, warm)
    for name, event in EVENTS.items():
        found = _figures(partial(deployment.environment, deployment.specs[name]), event, starts, warm)
        for figure, values in found.items():
            extra = {"p99": percentile(values, 0.99), "of": len(values)}
            yield Result(f"lambda.{name}.{figure}", median(values), "ms", median(floor[figure]), extra)


def _figures(start: Callable[[], Environment], event: Any, starts: int, warm: int) -> dict[str, list[float]]:
    """Milliseconds. The first start may have to read the files from the disk, and is left out."""
    found: dict[str, list[float]] = {"cold": [], "first": [], "warm": []}
    for index in range(starts + 1):
        environment = start()
        try:
            first = environment.invoke(event)
            assert not first.failed, first.payload
            if index:
                found["cold"].append(1000 * environment.init_seconds)
                found["first"].append(1000 * first.seconds)
            if index == starts:
                found["warm"] = [1000 * environment.invoke(event).seconds for _ in range(warm)]
        finally:
            environment.stop()
    return found


@contextmanager
def deployed(folder: Path, **options: Any) -> Iterator[Deployment]:
    """With servers of its own, and migrated. `options`: of `Deployment`."""
    folder.chmod(0o711)
    postgres = Postgres(folder / "postgres", free_port(), secrets.token_hex(24), folder / "postgres.log")
    nats = Nats(folder / "nats", free_port(), secrets.token_hex(24), folder / "nats.log")
    servers = [postgres.start(), nats.start()]
    try:
        create_database(postgres.url, "bench")
        deployment = Deployment(postgres.url_of("bench"), nats.url, folders=packages(folder / "dist"), **options)
        try:
            assert not deployment.migrate().failed
            yield deployment
        finally:
            deployment.stop()
    finally:
        for server in servers:
            server.stop()


def packages(out: Path) -> dict[str, Path]:
    """The unpacked package of each function."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = build(functions_folder().parent, "aws", Target(version, "x86_64"), out)  # type: ignore[arg-type]
    found = {}
    for path in sorted(folder.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder / path.stem)
        found[path.stem] = folder / path.stem
    return found


if __name__ == "__main__":
    sys.exit(main())
