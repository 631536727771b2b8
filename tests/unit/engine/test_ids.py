"""Names of commands and ids of executions, made of what they are for."""

from __future__ import annotations

from noetl_serverless.engine.ids import EPOCH_MS, LOW_BITS, command_id, execution_id, started_at, without_attempt


def test_a_command_is_named_by_its_run_its_part_and_its_attempt() -> None:
    assert command_id("a", 2) == "a#2"
    assert command_id("a", 2, attempt=2) == "a#2@2"
    assert command_id("a", 2, 0) == "a#2.0"
    assert command_id("a", 2, 7, 3) == "a#2.7@3"
    assert command_id("a", 2, opening=True) == "a#2.open"


def test_a_command_has_the_name_of_its_first_attempt_in_it() -> None:
    for first in (command_id("a@2", 2), command_id("a#1@3", 2, 7), command_id("a", 2, opening=True)):
        assert without_attempt(first) == first == without_attempt(f"{first}@2")


def test_an_id_tells_when_and_is_the_same_for_the_same() -> None:
    at = 1_800_000_000_123
    first = execution_id(at, "x")
    assert first == execution_id(at, "x") != execution_id(at, "y")
    assert started_at(first) == at
    assert int(execution_id(at + 1, "a")) >> LOW_BITS == (int(first) >> LOW_BITS) + 1
    assert int(first) < 2**63
    # as every release has made it
    assert execution_id(at, "7/a#1/3") == "402371327291188104"
    assert (EPOCH_MS, LOW_BITS) == (1_704_067_200_000, 22)


def test_before_its_epoch_there_is_no_time() -> None:
    assert started_at(execution_id(0, "x")) == EPOCH_MS
    assert len({execution_id(0, str(n)) for n in range(1000)}) > 990
