"""Run the benchmarks on a stack of their own; one JSON line per workload on standard output."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import platform
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import results_page
from .floors import floors
from .lambda_functions import lambda_functions
from .result import Result
from .stack import Bench, running, stack
from .usage import machine
from .workloads.beside import beside
from .workloads.chain import chain100, chain100_pipelined
from .workloads.cold_start import cold_start
from .workloads.concurrent import concurrent, concurrent_impure
from .workloads.crowd import crowd
from .workloads.fanout import fanout100k, fanout1000, fanout10000
from .workloads.fibo import fibo
from .workloads.history import history, history_pipelined
from .workloads.idle import idle
from .workloads.lambda_chain import lambda_chain
from .workloads.log_size import log_size
from .workloads.payload import payload
from .workloads.results_kv import results_kv
from .workloads.results_remote import results_gcs, results_s3
from .workloads.start import start
from .workloads.storm import storm
from .workloads.tables import tables

Workload = Callable[[Bench], Awaitable[list[Result]]]

WORKLOADS: dict[str, Workload] = {
    # before there is anything to vacuum
    "idle": idle,
    "chain100": chain100,
    "chain100_pipelined": chain100_pipelined,
    "concurrent": concurrent,
    "concurrent_impure": concurrent_impure,
    "fanout1000": fanout1000,
    "fanout10000": fanout10000,
    "start": start,
    "cold_start": cold_start,
    "lambda_functions": lambda_functions,
    "lambda_chain": lambda_chain,
    "log_size": log_size,
    "fibo": fibo,
    "payload": payload,
    "tables": tables,
    "results_s3": results_s3,
    "results_gcs": results_gcs,
    "results_kv": results_kv,
    "history": history,
    "history_pipelined": history_pipelined,
    "fanout100k": fanout100k,
    "storm": storm,
    "crowd": crowd,
    "beside": beside,
}
GROUPS = {
    "fanout": ("fanout1000", "fanout10000"),
    "quick": (
        "chain100",
        "chain100_pipelined",
        "concurrent",
        "fanout1000",
        "fanout10000",
        "start",
        "log_size",
        "history",
    ),
    "all": tuple(WORKLOADS),
    "floors": (),
}
DEFAULT = ("quick",)


def main() -> int:
    given = _arguments()
    names = [name for word in given.workloads or DEFAULT for name in GROUPS.get(word, (word,))]
    return asyncio.run(_run(names, given))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    known = [*WORKLOADS, *GROUPS]
    parser.add_argument("workloads", nargs="*", metavar="workload", help=f"default {' '.join(DEFAULT)}; of {known}")
    parser.add_argument("--runs", type=int, default=3, help="measure so often, give the median (default 3)")
    parser.add_argument("--out", type=Path, help="also write all of it as one JSON document")
    parser.add_argument("--page", type=Path, help="also write it as a page, below which what people wrote is kept")
    parser.add_argument("--data", type=Path, help="use the stack that runs on this data directory")
    parser.add_argument("--where", type=Path, help="make the data directory below this folder, on a real disk")
    parser.add_argument("--no-floors", action="store_true", help="do not measure the floors")
    parser.add_argument("--steps", type=int, help="of history (default 2000)")
    parser.add_argument("--seconds", type=float, help="of idle (default 60)")
    parser.add_argument(
        "--patience", type=float, default=0.0, help="wait up to so many seconds per workload for others to be quiet"
    )
    parser.add_argument("--keep", action="store_true", help="keep the data directory")
    given = parser.parse_args()
    unknown = [name for name in given.workloads if name not in known]
    if unknown:
        parser.error(f"there is no workload {unknown[0]!r}; there are {', '.join(known)}")
    return given


async def _run(names: list[str], given: argparse.Namespace) -> int:
    options = {name: getattr(given, name) for name in ("where", "steps", "seconds", "keep", "patience")}
    document: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "python": platform.python_version(),
        "commit": _commit(),
        "lines": [],
    }
    print(json.dumps(document["machine"]), file=sys.stderr)
    opened = running(given.data, given.runs, options) if given.data else stack(given.runs, options)
    failed = False
    async with opened as bench:
        document["postgres"] = bench.database.run("SHOW server_version")[0][0]
        todo: dict[str, Workload] = {name: WORKLOADS[name] for name in names}
        if not given.no_floors:
            todo = {"floors": floors, **todo}
        for name, workload in todo.items():
            print(f"{name} ...", file=sys.stderr, flush=True)
            try:
                lines = await workload(bench)
            except Exception as error:
                lines = [Result(name, None, "", extra={"error": f"{type(error).__name__}: {error}"[:2000]})]
                failed = True
            for line in lines:
                print(line.line(), flush=True)
                document["lines"].append(line.to_dict())
    if given.out:
        given.out.write_text(json.dumps(document, indent=1) + "\n")
    if given.page:
        results_page.write(document, given.page)
    return 1 if failed else 0


def _commit() -> str:
    """Empty where this is not a clone."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
