"""Run the same workloads on other engines and on this one, in turn; write the table into a page.

Each round starts each engine anew, alone, runs every workload, and stops it. What an engine needs is installed in a
folder of its own the first time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from noetl_serverless.hosts.local.ports import free_port
from noetl_serverless.hosts.local.postgres import Postgres, create_database

from ..floors import floors
from ..stack import stack
from ..usage import machine
from . import page
from .drivers.measure import fib
from .environments import ABSURD, DBOS, RESTATE, TEMPORAL, CannotInstall, Peer, install, restate_server, version

ROOT = Path(__file__).resolve().parents[3]
HOME = Path("build/peers")
# no further round begins after so many seconds
LONGEST = 3000.0
DRIVER_SECONDS = 900.0
PEERS: dict[str, Peer] = {peer.name: peer for peer in (RESTATE, DBOS)}
# measured once, and only with --full
SLOW_PEERS: dict[str, Peer] = {peer.name: peer for peer in (ABSURD, TEMPORAL)}
KNOWN_PEERS = {**PEERS, **SLOW_PEERS}


def main() -> int:
    given = _arguments()
    pythons: dict[str, Path] = {}
    document: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "python": platform.python_version(),
        "commit": _commit(),
        "titles": {page.OURS: "NoETL Serverless"},
        "versions": {page.OURS: ""},
        "rounds": {},
    }
    for name in given.engines:
        if name == page.OURS:
            continue
        peer = KNOWN_PEERS[name]
        print(f"installing {peer.title} ...", file=sys.stderr, flush=True)
        pythons[name] = install(peer, given.home.resolve())
        document["titles"][name] = peer.title
        document["versions"][name] = version(peer, pythons[name])
    document["floors"] = asyncio.run(_floors())
    started = time.monotonic()
    for number in range(1, given.rounds + 1):
        if time.monotonic() - started > LONGEST:
            print(f"no round {number}: the time is over", file=sys.stderr)
            break
        for name in given.engines:
            if name in SLOW_PEERS and number > 1:
                continue
            print(f"round {number}: {name} ...", file=sys.stderr, flush=True)
            lines = _measure(name, pythons.get(name, Path(sys.executable)), given)
            document["rounds"].setdefault(name, []).append({line["workload"]: line for line in lines})
            for line in lines:
                print(json.dumps({"round": number, "engine": name, **line}), flush=True)
    if given.out:
        given.out.write_text(json.dumps(document, indent=1) + "\n")
    print(page.section(document), file=sys.stderr)
    if given.page:
        page.write(document, given.page)
    return 0


async def _floors() -> dict[str, str]:
    """Name -> value with its unit: what one commit, message, request and Python call cost here."""
    async with stack(3, {}) as bench:
        found = {line.workload.removeprefix("floor."): f"{line.value:.3g} {line.unit}" for line in await floors(bench)}
    for n, count in ((10, 40), (33, 10)):
        began = time.perf_counter()
        for _ in range(count):
            fib(n)
        found[f"{count} x fib({n}), plain Python"] = f"{time.perf_counter() - began:.3g} s"
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers", description=__doc__)
    known = [page.OURS, *KNOWN_PEERS]
    usual = [page.OURS, *PEERS]
    parser.add_argument("engines", nargs="*", metavar="engine", help=f"default {' '.join(usual)}; of {' '.join(known)}")
    parser.add_argument(
        "--full", action="store_true", help="also absurd, if ABSURD_SQL names its sql/absurd.sql, and Temporal, once"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workloads", default="", help="comma-separated; default all")
    parser.add_argument("--home", type=Path, default=HOME, help=f"where the engines are installed (default {HOME})")
    parser.add_argument("--out", type=Path, help="also write all of it as one JSON document")
    parser.add_argument("--page", type=Path, help="write the table into this page")
    given = parser.parse_args()
    given.engines = given.engines or [*usual, *(SLOW_PEERS if given.full else ())]
    if ABSURD.name in given.engines and not os.environ.get("ABSURD_SQL"):
        print("absurd is left out: ABSURD_SQL names no file", file=sys.stderr)
        given.engines.remove(ABSURD.name)
    if unknown := [name for name in given.engines if name not in known]:
        parser.error(f"there is no engine {unknown[0]!r}; there are {', '.join(known)}")
    return given


def _measure(name: str, python: Path, given: argparse.Namespace) -> list[dict[str, Any]]:
    """The lines of one round of one engine."""
    with _folder() as folder, contextlib.ExitStack() as opened:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PEERS_DIR": str(folder),
            "PEERS_WORKLOADS": given.workloads,
        }
        driver = "ours"
        if name == page.OURS:
            environment["PEERS_NOETLS"] = str(Path(sys.executable).with_name("noetls"))
        else:
            driver = KNOWN_PEERS[name].driver
        if name == RESTATE.name:
            environment["PEERS_RESTATE_SERVER"] = str(restate_server(given.home.resolve()))
        if name == ABSURD.name:
            environment["PEERS_ABSURD_SQL"] = str(Path(os.environ["ABSURD_SQL"]).resolve())
        if name in (DBOS.name, ABSURD.name):
            environment["PEERS_DATABASE_URL"] = opened.enter_context(_database(folder))
        done = subprocess.run(
            [str(python), "-m", f"{__package__}.drivers.{driver}"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            timeout=DRIVER_SECONDS,
            check=False,
        )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode and not lines:
        raise RuntimeError(f"the driver of {name} ended with status {done.returncode}")
    return lines


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="noetl-peers-", ignore_cleanup_errors=True) as folder:
        # under root PostgreSQL runs as somebody else, who must get there
        Path(folder).chmod(0o711)
        yield Path(folder)


@contextlib.contextmanager
def _database(folder: Path) -> Iterator[str]:
    """An empty database on a server like ours."""
    server = Postgres(folder / "postgres", free_port(), "peers", folder / "postgres.log")
    process = server.start()
    try:
        create_database(server.url_of("postgres"), "peers")
        yield server.url_of("peers")
    finally:
        process.stop()


def _commit() -> str:
    """Empty where this is not a clone."""
    command: Sequence[str] = ("git", "describe", "--always", "--dirty")
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CannotInstall as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
