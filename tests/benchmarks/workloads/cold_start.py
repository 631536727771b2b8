"""cold_start: from the start of the interpreter to a handler that may be called, for each function."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from noetl_serverless.hosts.table import FunctionSpec, functions_folder, load_functions

from ..result import Result, median
from ..stack import Bench

TIMES = 7
LOAD = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("main", sys.argv[1])
main = importlib.util.module_from_spec(spec)
sys.modules["main"] = main
spec.loader.exec_module(main)
getattr(main, sys.argv[2])
"""
READY = LOAD + "print(len(sys.modules), flush=True)\nsys.stdin.read()\n"
IMPORT = re.compile(r"import time:\s*(\d+) \|\s*(\d+) \| ( *)(\S+)")
LARGEST = 12


async def cold_start(bench: Bench) -> list[Result]:
    """`value`: ms, the median of 7; `cpu_ms` is what it takes of a core, however busy others are. The floor is an
    interpreter that does nothing. `packages_ms`: the time that their modules take by themselves."""
    floor, _, _ = _measure([sys.executable, "-c", "import sys; print(0, flush=True); sys.stdin.read()"], {})
    # those of the other pools are the same worker
    specs = [spec for spec in load_functions(functions_folder()) if spec.pool in (None, "shared")]
    return [_function(bench, spec, floor) for spec in specs]


def _function(bench: Bench, spec: FunctionSpec, floor: float) -> Result:
    source = functions_folder() / spec.source / "main.py"
    environment = bench.environment(spec.name)
    argv = [sys.executable, "-c", READY, str(source), spec.entry_point]
    milliseconds, cpu, modules = _measure(argv, environment)
    extra = {
        "cpu_ms": cpu,
        "modules": modules,
        "packages_ms": _packages(source, spec, environment),
        "target_ms": 350,
        "with": "bytecode cached",
    }
    return Result(f"cold_start.{spec.name}", milliseconds, "ms", floor, extra)


def _measure(argv: list[str], environment: dict[str, str]) -> tuple[float, float, int]:
    """(ms, CPU ms, modules loaded)."""
    times = []
    spent = []
    modules = 0
    for _ in range(TIMES + 1):
        started = time.perf_counter()
        process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        assert process.stdin is not None and process.stdout is not None
        modules = int(process.stdout.readline() or -1)
        times.append(1000 * (time.perf_counter() - started))
        used = psutil.Process(process.pid).cpu_times()
        spent.append(1000 * (used.user + used.system))
        process.stdin.close()
        process.stdout.close()
        process.wait()
        if modules < 0:
            raise RuntimeError(f"{argv[-2:]} did not load")
    # the first one may have had to compile
    return median(times[1:]), median(spent[1:]), modules


def _packages(source: Path, spec: FunctionSpec, environment: dict[str, str]) -> dict[str, Any]:
    """The time that the modules of each package take by themselves, the most costly packages first."""
    argv = [sys.executable, "-X", "importtime", "-c", LOAD, str(source), spec.entry_point]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
    spent: dict[str, float] = {}
    for own, _, _, name in IMPORT.findall(done.stderr):
        package = ".".join(name.split(".")[: 2 if name.startswith("noetl_serverless") else 1])
        spent[package] = spent.get(package, 0.0) + int(own) / 1000
    largest = sorted(spent.items(), key=lambda item: -item[1])[:LARGEST]
    return {**dict(largest), "all": sum(spent.values())}
