"""What the oracle says of the examples that users are given; that the engine says the same, the chaos shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .playbook import Playbook, read
from .prediction import predict
from .tools import answer

FOLDER = Path(__file__).parents[2] / "playbooks"
NOT_OURS = {"loop", "flight_delays", "big_result"}


def books() -> dict[str, Playbook]:
    files = [path for path in sorted(FOLDER.glob("*.yaml")) if not path.name.endswith(".test.yaml")]
    found = [read(path.read_text()) for path in files]
    return {book.path: book for book in found}


@pytest.mark.parametrize(
    ("name", "payload", "result"),
    [
        ("hello", {"name": "Ada"}, "Hello, Ada!"),
        ("routing", {"celsius": 15}, {"fahrenheit": 59.0, "advice": "go out"}),
        ("fan_out", {"numbers": [1, 3]}, {"total": 4, "largest": 3, "share": 0.75}),
        ("pipeline", {"pages": 7, "rows_per_page": 3}, {"pages": 7, "rows": 21}),
        ("factorial", {"n": 5}, {"value": 120}),
        ("poll", {"ready_after": 2}, {"state": "ready", "asks": 2}),
        ("timer", {}, {"attempt": 2, "ready": True}),
        ("admission", {"amount": 2000}, {"booked": 2000, "reviewed": True}),
        ("pipelined", {"number": 6}, {"number": 6, "steps_to_one": 8}),
    ],
)
def test_an_example_comes_to_what_its_first_line_says(name: str, payload: dict[str, Any], result: Any) -> None:
    all = books()
    found = predict(all[f"examples/{name}"], payload, answer, all)
    assert (found.status, found.result) == ("completed", result)


def test_recovery_recovers() -> None:
    all = books()
    found = predict(all["examples/recovery"], {}, answer, all)
    assert found.status == "completed"
    assert found.result["numbers"] == [12, 0, 30]
    assert "'seven'" in found.result["because"]
