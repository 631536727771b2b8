"""Writes the golden logs of the schema version that is current: python -m tests.golden.record

Once a version is released its logs stay as they are: what they fold to must not change, whatever the code becomes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.unit.engine.plays import WORKFLOWS, play
from tests.unit.engine.run import Run

from noetl_serverless.capsule.recording import line_of
from noetl_serverless.engine.canonical import plain
from noetl_serverless.engine.digest import digest
from noetl_serverless.engine.replay import fold
from noetl_serverless.engine.upcast import VERSION
from noetl_serverless.inspection.expected_projections import expected_projections

HOME = Path(__file__).parent


def golden(run: Run) -> dict[str, Any]:
    """A log, and what it must fold to for ever."""
    state = plain(fold("7", run.log))
    said = plain(expected_projections("7", run.log))
    del said["state"]
    return {
        "schema": VERSION,
        "events": [plain(line_of(event)) for event in run.log],
        "state": state,
        "surfaces": said,
        "digest": digest("7", run.log).value,
    }


def middle(run: Run) -> Run:
    """The first half of a log, so that there are states of what is under way."""
    facts = [event.seq for event in run.log if event.cause is None]
    run.log = run.log[: facts[len(facts) // 2] - 1]
    return run


def main() -> None:
    folder = HOME / f"v{VERSION}"
    folder.mkdir(exist_ok=True)
    cuts: dict[str, Callable[[Run], Run]] = {"": lambda run: run, "_half": middle}
    for name, workflow in WORKFLOWS.items():
        for suffix, cut in cuts.items():
            document = golden(cut(play(Run(workflow), 11)))
            file = folder / f"{name.replace(' ', '_')}{suffix}.json"
            file.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
