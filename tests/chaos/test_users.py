"""Who uses the stack leaves it as it should be left."""

from __future__ import annotations

import itertools
import time
from typing import Any

from tests.log_rules import Finding

from . import users
from .kinds import FAILS
from .users import SCHEDULES, Users

# looks at the schedules until all have run
LOOKS = 4


class Stub:
    """In place of a stack: takes down what is asked of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._looks = itertools.count()

    def register(self, text: str) -> None:
        self.calls.append("register")

    def execute(self, path: str, payload: Any, key: str) -> str:
        return "1"

    def call(self, method: str, path: str, body: Any = None) -> None:
        self.calls.append(path)
        if path.endswith("skipping/disable"):
            raise TimeoutError(path)

    def query(self, sql: str) -> list[list[int]]:
        if "schedule_fire" in sql:
            self.calls.append("look")
            return [[len(SCHEDULES) if next(self._looks) >= LOOKS else 0]]
        return [[0]]


def test_no_schedule_is_stopped_before_all_have_run_and_users_without_an_answer_are_reported(monkeypatch: Any) -> None:
    monkeypatch.setattr(users, "standing", lambda stack: "all stand")
    stub = Stub()
    made = Users(stub, 1, 0.1, [FAILS])  # type: ignore[arg-type]
    with made.at_work():
        time.sleep(0.1)
    at_last = stub.calls[stub.calls.index("look") :]
    assert at_last == ["look"] * (LOOKS + 1) + [f"/api/schedules/{name}/disable" for name in SCHEDULES]
    detail = "TimeoutError('/api/schedules/skipping/disable')\nall stand"
    assert made.findings == [Finding("", "a client is turned away at the end", detail)]
