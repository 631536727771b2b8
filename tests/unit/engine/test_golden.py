"""Logs of every schema version that was released fold to what they folded to then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from noetl_serverless.capsule.recording import events_of
from noetl_serverless.engine.canonical import plain
from noetl_serverless.engine.digest import digest
from noetl_serverless.engine.replay import fold
from noetl_serverless.engine.upcast import FIRST_VERSION, VERSION
from noetl_serverless.inspection.expected_projections import expected_projections

HOME = Path(__file__).parents[2] / "golden"
LOGS = sorted(HOME.glob("v*/*.json"))


@pytest.fixture(params=LOGS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def golden(request: pytest.FixtureRequest) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(request.param.read_text())
    return document


def test_there_are_logs_of_every_version() -> None:
    assert {file.parent.name for file in LOGS} == {f"v{version}" for version in range(FIRST_VERSION, VERSION + 1)}


def test_the_log_folds_to_the_state_that_it_folded_to(golden: dict[str, Any]) -> None:
    state = plain(fold("7", events_of(golden["events"])))
    # what was added to the state since then begins empty
    assert {name: state[name] for name in golden["state"]} == golden["state"]
    assert not any(state[name] for name in state.keys() - golden["state"].keys())


def test_and_to_the_same_projections(golden: dict[str, Any]) -> None:
    said = plain(expected_projections("7", events_of(golden["events"])))
    assert {name: said[name] for name in golden["surfaces"]} == golden["surfaces"]


def test_and_to_the_same_digest(golden: dict[str, Any]) -> None:
    assert digest("7", events_of(golden["events"])).value == golden["digest"]
