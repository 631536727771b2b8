"""Copies of the checkout, in which faults are planted: the checkout itself is never changed."""

from __future__ import annotations

import compileall
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Any

FORK_SERVER = Path(__file__).with_name("fork_server.py")

# imported once, before all runs, where they are installed. None of them is the product
PRELOADED = (
    *("asyncio", "aiohttp", "croniter", "cryptography.hazmat.primitives.ciphers.aead", "fsspec", "graphql"),
    *("hypothesis", "jinja2", "jwt", "nats", "orjson", "pg8000", "prometheus_client", "psutil", "pydantic", "rich"),
    *("starlette.applications", "typer", "uvloop", "yaml"),
)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things stand below the root: the package, the tests, what Python is to find first."""

    root: Path
    package: str = "shared/noetl_serverless"
    tests: str = "tests"
    path: tuple[str, ...] = ("shared", ".")
    preloaded: tuple[str, ...] = PRELOADED

    def files(self) -> list[str]:
        """All that git knows or would take."""
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        output = subprocess.run(command, cwd=self.root, check=True, capture_output=True, text=True).stdout
        return sorted({name for name in output.split("\0") if name and (self.root / name).is_file()})


@dataclass(slots=True)
class Outcome:
    exit: int
    late: str | None
    tests: dict[str, dict[str, Any]]
    seconds: float
    log: str = field(repr=False, default="")

    @property
    def failed(self) -> list[str]:
        return [name for name, test in self.tests.items() if test["outcome"] == "failed"]

    @property
    def noticed(self) -> bool:
        """5: pytest found none of the tests."""
        return self.late is not None or self.exit not in (0, 5)


class Tree:
    """One copy, and the fork server that works in it."""

    def __init__(self, layout: Layout, folder: Path) -> None:
        self.layout = layout
        # servers that give up root need to pass through
        folder.mkdir(mode=0o711)
        self.root = folder / "tree"
        self.temporary = folder / "tmp"
        self.log = folder / "log"
        for name in layout.files():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(layout.root / name, self.root / name, follow_symlinks=False)
        for name in (layout.package, layout.tests):
            # judged by the text and not by its age: a file that changes twice in a second is compiled twice
            compileall.compile_dir(self.root / name, quiet=2, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
        self._fork_server: subprocess.Popen[str] | None = None

    def text(self, file: str) -> str:
        return (self.root / file).read_text()

    @contextmanager
    def with_text(self, file: str, text: str) -> Iterator[None]:
        path = self.root / file
        before = path.read_bytes()
        path.write_text(text)
        try:
            yield
        finally:
            path.write_bytes(before)

    def run(self, args: list[str], **options: Any) -> Outcome:
        self.temporary.mkdir(mode=0o711, exist_ok=True)
        fork_server = self._fork_server or self._start()
        assert fork_server.stdin is not None and fork_server.stdout is not None
        fork_server.stdin.write(json.dumps({"args": args, "log": str(self.log), **options}) + "\n")
        fork_server.stdin.flush()
        line = fork_server.stdout.readline()
        if not line:
            self.stop()
            raise RuntimeError("the fork server ended before its answer")
        shutil.rmtree(self.temporary, ignore_errors=True)
        return Outcome(**json.loads(line), log=self.log.read_text(errors="replace"))

    def _start(self) -> subprocess.Popen[str]:
        path = os.pathsep.join(str(self.root / part) for part in self.layout.path)
        self._fork_server = subprocess.Popen(
            [sys.executable, "-P", str(FORK_SERVER), json.dumps(self.layout.preloaded)],
            cwd=self.root,
            env=os.environ
            | {
                "PYTHONPATH": path,
                "PYTHONDONTWRITEBYTECODE": "1",
                "TMPDIR": str(self.temporary),
                "PYTHONHASHSEED": "0",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        return self._fork_server

    def stop(self) -> None:
        """At the end of its input the fork server ends, and what it runs."""
        if self._fork_server is not None:
            assert self._fork_server.stdin is not None
            self._fork_server.stdin.close()
            self._fork_server.wait()
            self._fork_server = None
