"""A stack, driven as a user drives it: through the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOKS = ROOT / "playbooks"
# seconds; what takes longer hangs
PATIENCE = 120


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Stack:
    """`noetls` on one data directory, and what runs there."""

    def __init__(self, data: Path) -> None:
        self.data = data

    def __call__(self, *words: str, input: str | None = None, data: bool = True) -> Done:
        """One command; without `data` it is not told the directory."""
        where = ["--data", str(self.data)] if data else []
        done = subprocess.run(
            [sys.executable, "-m", "noetl_serverless.cli", *words, *where],
            input=input,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def ask(self, *words: str, status: int = 0) -> Any:
        """The document that a command prints; AssertionError if it ends with another exit status."""
        done = self(*words, "--json")
        assert done.status == status, f"exit {done.status}\n{done.out}\n{done.err}"
        return done.json

    def run(self, playbook: Path | str, workload: dict[str, Any] | None = None, *, status: int = 0) -> dict[str, Any]:
        """{execution_id, status, result, duration_ms, error} of a run to its end."""
        outcome: dict[str, Any] = self.ask("run", str(playbook), "--payload", json.dumps(workload or {}), status=status)
        return outcome

    def start(self, playbook: Path | str, workload: dict[str, Any]) -> str:
        """The id of an execution that goes on by itself."""
        return str(self.ask("run", str(playbook), "--no-wait", "--payload", json.dumps(workload))["execution_id"])

    def events(self, execution_id: str, *, follow: bool = False) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("events", execution_id, *(["--follow"] if follow else []))
        return found

    def steps_that_ran(self, execution_id: str) -> list[str]:
        """In the order in which they were first issued."""
        issued = [event["step"] for event in self.events(execution_id) if event["event_type"] == "command.issued"]
        return list(dict.fromkeys(issued))


@contextmanager
def running() -> Iterator[Stack]:
    """One that runs, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="noetl-e2e-") as folder:
        data = Path(folder)
        # under root PostgreSQL runs as somebody else, who must get through
        data.chmod(0o711)
        stack = Stack(data)
        stack.ask("up", "--detach")
        try:
            yield stack
        finally:
            stack.ask("down")
