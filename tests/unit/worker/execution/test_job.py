from __future__ import annotations

from dataclasses import fields
from typing import Any

from tests.unit.worker import builders as make

from noetl_serverless.worker.execution.job import Job


def test_an_item_has_all_that_its_command_has_but_what_is_its_own() -> None:
    own = {"ctx", "iter", "loop", "resume"}
    given: dict[str, Any] = {field.name: object() for field in fields(Job)}
    item = Job(**given).of_item(make.loop(), "p", 3, last=False, length=5, ctx={"a": 1}, resume={"b": 2})
    lost = {name for name, value in given.items() if name not in own and getattr(item, name) is not value}
    assert not lost, f"an item lacks {sorted(lost)} of its command"
    assert (item.ctx, item.resume, item.iter, item.loop) == (
        {"a": 1},
        {"b": 2},
        {"item": "p", "_index": 3, "_first": False, "_last": False},
        {"index": 3, "first": False, "last": False, "length": 5, "done": False},
    )
