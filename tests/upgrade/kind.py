"""What an execution of the walk is: its playbooks, how it ends and which effects it has; and what these are made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.constructs import PATIENT, Step, Tool, again, document

# a worker sleeps that long by itself; longer waits are timers in the log, and leave it free
IN_THE_WORKER = 1.0
ATTEMPTS = 1000

Given = dict[str, Any]

# what a playbook gives to one that it calls
PASS_ON = {"n": "{{ workload.n }}", "gate": "{{ workload.gate }}", "at": "{{ workload.at }}"}


@dataclass(frozen=True, slots=True)
class Kind:
    """`texts`: what must be registered, children first. `result` of its payload, and the names of its `effects`."""

    name: str
    texts: tuple[str, ...]
    effects: tuple[str, ...]
    result: Callable[[int], Any] = lambda n: None
    end: str = "COMPLETED"
    # the code of its error, if it fails
    error: str | None = None

    @property
    def path(self) -> str:
        """Of the last of its texts."""
        path: str = json.loads(self.texts[-1])["metadata"]["path"]
        return path

    def payload(self, n: int, gate: str, at: str) -> Given:
        """`n`, another for each execution, tells its effects from others'; `at`: our server."""
        return {"n": n, "gate": gate, "at": at}


def playbook(name: str, *steps: Step, **spec: Any) -> str:
    return document("upgrade", name, list(steps), {"n": 0, "gate": "", "at": ""}, spec)


def effect(name: str, **more: Any) -> Tool:
    url = f"{{{{ workload.at }}}}/effects/{{{{ workload.n }}}}/{name}"
    return {"kind": "http", "method": "POST", "url": url, "spec": PATIENT, **more}


def gate(delay: float, name: str = "{{ workload.gate }}") -> Tool:
    """Asks again and again, until the gate is open."""
    then = {"do": "retry", "attempts": ATTEMPTS, "backoff": "fixed", "delay": delay}
    url = f"{{{{ workload.at }}}}/gates/{name}/{{{{ workload.n }}}}"
    return {
        "kind": "http",
        "method": "GET",
        "url": url,
        "spec": again({"when": "{{ not output.data.data.open }}", "then": then}),
    }


def both(*tasks: Tool) -> list[Tool]:
    return [{"name": f"task{index}", **task} for index, task in enumerate(tasks)]
