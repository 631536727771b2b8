"""A process that forks pytest: what all tests import has been loaded before, the product has not.

It runs as a file of its own in the tree that is tested, so it imports nothing from beside it. Each line on its
standard input asks for one run of pytest, each line on its standard output answers one. A run ends at its first
failure, at the first test that takes too long, or when all tests have passed; whatever it started ends with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.metadata
import importlib.util
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

# of importing and collecting
COLLECT = 120.0
PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    # the servers of a run that was killed come back to this process, which ends them too
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    preload(json.loads(sys.argv[1]))
    for line in sys.stdin:
        print(json.dumps(Run(json.loads(line)).answer()), flush=True)


def preload(names: list[str]) -> None:
    for plugin in importlib.metadata.entry_points(group="pytest11"):
        plugin.load()
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


class Run:
    """One run. `args` are pytest's; with `only`, tests that it does not name are left out, and those that it does
    run in its order, each within its limit in seconds; `gather` is where the covered lines are to be written."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.args: list[str] = request["args"]
        self.log: str = request["log"]
        self.only: dict[str, float] | None = request.get("only")
        self.limit: float = request.get("limit", 120.0)
        # for the servers that the first and the last test start and stop
        self.settle: float = request.get("settle", 30.0)
        self.gather: dict[str, str] | None = request.get("gather")
        self.all: bool = request.get("all", False)
        self.tests: dict[str, dict[str, Any]] = {}
        self.running: str | None = None

    def answer(self) -> dict[str, Any]:
        began = time.monotonic()
        receive, send = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(receive)
            self._test(send)
        os.close(send)
        late = self._watch(receive)
        os.close(receive)
        if late is not None:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        _end_all()
        return {
            "exit": os.waitstatus_to_exitcode(status),
            "late": late,
            "tests": self.tests,
            "seconds": time.monotonic() - began,
        }

    def _watch(self, pipe: int) -> str | None:
        """Until the run ends. What took too long, if anything did."""
        kept = b""
        deadline = time.monotonic() + COLLECT
        while True:
            ready, _, _ = select.select([pipe, sys.stdin], [], [], max(0.0, deadline - time.monotonic()))
            if sys.stdin in ready:
                # nothing is asked before the answer: whoever asked is gone
                _end_all()
                sys.exit()
            if not ready:
                return self.running or ("the end" if self.tests else "the start")
            part = os.read(pipe, 65536)
            if not part:
                return None
            *lines, kept = (kept + part).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if "outcome" in message:
                    self.running = None
                    self.tests[message["test"]] = {"outcome": message["outcome"], "seconds": message["seconds"]}
                    deadline = time.monotonic() + self.settle
                else:
                    self.running = message["test"]
                    limit = self.limit if self.only is None else self.only.get(message["test"], self.limit)
                    deadline = time.monotonic() + limit + (self.settle if not self.tests else 0.0)

    def _test(self, pipe: int) -> None:
        """In the child, which never returns."""
        code = 70
        try:
            os.setpgid(0, 0)
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            # a tree is imported from its own folders, not from this file's
            sys.path[:0] = [os.getcwd()]
            plugins: list[Any] = [Teller(pipe, self.only)]
            if self.gather is not None:
                plugins.append(Gatherer(self.gather))
            stop = [] if self.all or self.gather else ["-x"]
            quiet = ["-q", "--tb=short", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
            # a fault may be for a slow test to notice
            still = ["-p", "no:cacheprovider", "-p", "no:xdist", "-m", ""]
            if importlib.util.find_spec("hypothesis"):
                still.append("--hypothesis-seed=0")
            code = int(pytest.main([*stop, *quiet, *still, *self.args], plugins))
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)


class Teller:
    """Tells through the pipe which test begins, and how it ended."""

    def __init__(self, pipe: int, only: dict[str, float] | None) -> None:
        self._pipe = pipe
        self._only = only
        self._failed = False
        self._skipped = False
        self._seconds = 0.0

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        if self._only is None:
            return
        places = {name: place for place, name in enumerate(self._only)}
        others = [item for item in items if item.nodeid not in places]
        items[:] = sorted((item for item in items if item.nodeid in places), key=lambda item: places[item.nodeid])
        config.hook.pytest_deselected(items=others)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._failed, self._skipped, self._seconds = False, False, 0.0
        self._tell(test=nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds += report.duration
        self._failed |= report.failed
        self._skipped |= report.skipped

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        outcome = "failed" if self._failed else "skipped" if self._skipped else "passed"
        self._tell(test=nodeid, outcome=outcome, seconds=round(self._seconds, 4))

    def _tell(self, **what: Any) -> None:
        os.write(self._pipe, json.dumps(what).encode() + b"\n")


class Gatherer:
    """Notes which lines each test ran, by coverage.py's contexts. A process that a test starts tells its lines
    under the test that runs at that moment, if it keeps the environment and ends on its own or by SIGTERM."""

    def __init__(self, where: dict[str, str]) -> None:
        import coverage

        self._out = Path(where["out"])
        self._source = where["source"]
        self._data = Path(where["data"])
        self._cover = coverage.Coverage(config_file=where["config"], data_suffix="main")
        self._cover.start()
        # for the processes that tests start
        os.environ["COVERAGE_PROCESS_START"] = where["config"]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._cover.switch_context(nodeid)
        os.environ["MUTANTS_TEST"] = nodeid

    def pytest_runtest_logfinish(self) -> None:
        self._cover.switch_context("")
        os.environ["MUTANTS_TEST"] = ""

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        import coverage

        self._cover.stop()
        self._cover.save()
        whole = coverage.Coverage(config_file=False, data_file=str(self._data.parent.with_name(self._data.name)))
        whole.combine([str(self._data.parent)])
        data = whole.get_data()
        lines = {
            str(Path(file).relative_to(self._source)): {
                line: sorted(contexts) for line, contexts in data.contexts_by_lineno(file).items()
            }
            for file in sorted(data.measured_files())
            if Path(file).is_relative_to(self._source)
        }
        self._out.write_text(json.dumps(lines))


def _end_all() -> None:
    """All that the run left behind. What it started is a descendant of this process, and nothing else is."""
    for _ in range(50):
        left = psutil.Process().children(recursive=True)
        if not left:
            return
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)


if __name__ == "__main__":
    main()
