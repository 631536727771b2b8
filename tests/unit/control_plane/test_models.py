from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from pydantic import BaseModel, ValidationError

from noetl_serverless import protocol
from noetl_serverless.control_plane import app  # noqa: F401, which imports every model
from noetl_serverless.control_plane.models import RequestModel
from noetl_serverless.control_plane.models.executions import Execute, duration, human, progress
from noetl_serverless.control_plane.models.keychain import GiveSecret
from noetl_serverless.control_plane.models.replay import CommandRow
from noetl_serverless.control_plane.models.runs import under_way
from noetl_serverless.control_plane.models.variables import SetVariables
from noetl_serverless.control_plane.routes.execute import merged
from noetl_serverless.engine.state import State, Token
from noetl_serverless.store.executions import Execution, OutstandingCommands

AT = datetime(2025, 7, 1, tzinfo=UTC)


def execution(status: str, finished: int, steps: int | None) -> Execution:
    return Execution(
        execution_id=1,
        catalog_id=1,
        path="p",
        version=1,
        parent_execution_id=None,
        status=status,
        result=None,
        error=None,
        head=0,
        created_at=AT,
        ended_at=None,
        steps=steps,
        finished=finished,
    )


def test_no_field_has_a_pattern_that_the_one_of_its_type_hides() -> None:
    """Of two patterns of one field, pydantic checks only one: that of `StorableText`, say, instead of the field's."""
    models = {model for base in (RequestModel, protocol.Message) for model in descendants(base)}
    assert len(models) > 50
    hidden = [
        f"{model.__name__}.{name}"
        for model in models
        for name, field in model.model_fields.items()
        if sum(getattr(constraint, "pattern", None) is not None for constraint in field.metadata) > 1
    ]
    assert hidden == [], "give such a field the type str, and a pattern without NUL"


def descendants(model: type[BaseModel]) -> set[type[BaseModel]]:
    below = set(model.__subclasses__())
    return below.union(*(descendants(child) for child in below))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0.0s"), (59.94, "59.9s"), (60, "1m"), (3725, "1h 2m 5s"), (90000, "1d 1h")],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert human(seconds) == text


def test_a_clock_that_runs_behind_makes_no_negative_duration() -> None:
    assert duration(AT, None, AT.replace(year=2024)) == 0.0


@pytest.mark.parametrize(
    ("status", "finished", "steps", "part"),
    [
        ("COMPLETED", 1, 4, 100),
        ("RUNNING", 1, 4, 25),
        ("RUNNING", 4, 4, 99),
        ("FAILED", 3, 4, 75),
        ("RUNNING", 3, None, 0),
    ],
)
def test_only_what_is_completed_is_at_a_hundred(status: str, finished: int, steps: int | None, part: int) -> None:
    assert progress(execution(status, finished, steps)) == part


def test_merging_goes_into_objects_and_replaces_the_rest() -> None:
    under = {"a": {"b": 1, "c": [1]}, "d": 1}
    assert merged(under, {"a": {"c": [2]}, "d": {"e": 1}}) == {"a": {"b": 1, "c": [2]}, "d": {"e": 1}}
    assert under == {"a": {"b": 1, "c": [1]}, "d": 1}


def test_a_path_from_the_root_is_that_of_the_catalog() -> None:
    paths = [Execute(path=path).path for path in ("/a/b", "a/b", "//a", None)]
    assert paths == ["a/b", "a/b", "//a", None]


def test_an_id_may_come_as_a_number_and_the_payload_under_its_old_name() -> None:
    body = Execute.model_validate_json('{"catalog_id": 310764862443520001, "workload": {"a": 1}}')
    assert (body.catalog_id, body.payload) == ("310764862443520001", {"a": 1})


def limit(key: str, used: int) -> dict[str, Any]:
    return {"unit": "command", "kind": "concurrency", "key": key, "limit": 2, "used": used}


@pytest.mark.parametrize(
    ("limits", "shown"),
    [
        ([limit("full", 2), limit("free", 1)], ["full"]),
        ([limit("full", 2), limit("over", 3)], ["full", "over"]),
        # what was used up is free again by now
        ([limit("a", 1), limit("b", 0)], []),
    ],
)
def test_only_limits_that_are_used_up_are_said_to_keep_commands_waiting(
    limits: list[dict[str, Any]], shown: list[str]
) -> None:
    none: dict[str, Any] = dict.fromkeys(("queued_since", "running_since", "queued_ms", "due_at", "worker"))
    counts: dict[str, Any] = {"queued": 1, "running": 0, "delayed": 0, "deliveries": 0}
    queued = OutstandingCommands(step="a", generation=1, **counts, **none, limits=limits)
    state = State("7", status="running", tokens={"a#1": Token("a", 1, "running")})
    [found] = under_way(state, [queued])
    assert [use.key for use in found.limits] == shown
    row = {"command_id": "a#1", "status": "limited", "worker": None, "deliveries": 0, "lease_until": None}
    command = CommandRow.of({**row, "due_at": None, "issued_at": AT, "limits": limits})
    assert [use.key for use in command.limits or ()] == shown


@pytest.mark.parametrize("ttl", [True, False])
def test_a_time_of_true_is_no_second(ttl: bool) -> None:
    with pytest.raises(ValidationError, match=r"ttl\n.*this must be a number, not (true|false)"):
        SetVariables.model_validate_json(orjson.dumps({"variables": {"a": 1}, "ttl": ttl}))
    with pytest.raises(ValidationError, match=r"ttl_seconds\n.*this must be a number, not (true|false)"):
        GiveSecret.model_validate_json(orjson.dumps({"token_data": {"a": "x"}, "ttl_seconds": ttl}))
    given = SetVariables.model_validate_json(orjson.dumps({"variables": {"a": 1}, "ttl": 1}))
    assert given.ttl == 1
