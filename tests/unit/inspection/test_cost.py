"""What was used, from the log alone, and what it costs by a table."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from tests.unit.engine.plays import CHAIN, LOOP, WORKFLOWS, play
from tests.unit.engine.run import Run

from noetl_serverless.engine import events as e
from noetl_serverless.engine.canonical import canonical
from noetl_serverless.inspection.cost import cost
from noetl_serverless.prices import DEFAULT_PRICES, PRICES, BadPrices, load, parse

PLAIN = replace(
    load(), request=1.0, gb_second=0.0, vcpu_second=0.0, object_put=0.0, object_gb_month=0.0, log_gb_month=0.0
)


def meta(duration: float, worker: str = "w", second: int = 0) -> dict[str, Any]:
    return {"duration_ms": duration, "worker": worker, "started_at": f"2026-01-01T00:00:{second:02d}.000Z"}


def test_each_command_is_billed_for_its_time_and_two_requests() -> None:
    run = Run(CHAIN)
    run.done("a", {"v": 1}, meta=meta(12.3))
    run.done("b", meta=meta(0.2))
    run.done("c", meta=meta(1000))
    found = cost("7", run.log, PLAIN)
    assert [(row["step"], row["invocations"], row["billed_ms"]) for row in found["steps"]] == [
        ("a", 1, 13),
        ("b", 1, 1),
        ("c", 1, 1000),
    ]
    assert found["total"]["cost"] == 6.0
    assert found["total"]["billed_ms"] == 1014
    assert found["ended"]


def test_time_is_billed_in_the_table_s_steps() -> None:
    run = Run(CHAIN)
    run.done("a", {"v": 1}, meta=meta(101))
    found = cost("7", run.log, load("gcp-2025-06"))
    assert found["total"]["billed_ms"] == 200
    expected = 2 * 0.0000004 + 0.2 * (2 * 0.0000025 + 0.000024) + 0.1 * (0.5 * 0.0000025 + 0.333 * 0.000024)
    table = replace(load("gcp-2025-06"), log_gb_month=0.0)
    assert cost("7", run.log, table)["total"]["cost"] == pytest.approx(expected)


def test_a_worker_that_runs_two_at_once_is_busy_once() -> None:
    run = Run(WORKFLOWS["diamond"])
    run.done("split", meta=meta(1000, "w", 0))
    run.done("left", meta=meta(1000, "w", 5))
    run.done("right", meta=meta(1000, "w", 5))
    assert cost("7", run.log, PLAIN)["total"]["busy_ms"] == 2000
    run.done("more", meta=meta(1000, "other", 5))
    assert cost("7", run.log, PLAIN)["total"]["busy_ms"] == 3000


def test_bytes_are_listed_by_tier() -> None:
    run = Run(CHAIN)
    ref = {
        "kind": "result_ref",
        "ref": "noetl://execution/7/result/a/00000000",
        "key": "7/a/0.json",
        "extracted": {"v": 1},
    }
    run.report("a#1", ref={**ref, "store": "s3", "meta": {"bytes": 5_000_000, "sha256": "0" * 64}}, meta=meta(1))
    table = replace(PLAIN, object_put=1.0, object_gb_month=1.0, request=0.0)
    found = cost("7", run.log, table)
    assert found["steps"][0]["bytes"]["s3"] == 5_000_000
    assert found["steps"][0]["bytes"]["log"] > 100
    assert found["total"]["cost"] == pytest.approx(1 + 5_000_000 / 1024**3)


def test_the_steps_and_what_no_step_made_come_to_the_total() -> None:
    run = play(Run(LOOP), 1)
    found = cost("7", run.log, load())
    assert found["total"]["invocations"] == sum(row["invocations"] for row in found["steps"])
    assert found["total"]["cost"] >= sum(row["cost"] for row in found["steps"])
    assert found["total"]["wall_ms"] == run.log[-1].at - run.log[0].at
    assert found == json.loads(json.dumps(found))


def test_every_table_of_the_release_can_be_read() -> None:
    assert DEFAULT_PRICES in PRICES
    for name in PRICES:
        table = load(name)
        assert table.name == name
        assert table.date in name or table.date.startswith(name[-7:])
        assert parse(asdict(table)) == table
    with pytest.raises(KeyError):
        load("elsewhere")


@pytest.mark.parametrize(
    "change", [{"request": -1}, {"request": "much"}, {"request": True}, {"tax": 1}, {"gb_second": float("nan")}]
)
def test_a_table_with_something_wrong_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadPrices):
        parse({**asdict(load()), **change})


def test_a_table_without_a_price_is_refused() -> None:
    table = asdict(load())
    del table["gb_second"]
    with pytest.raises(BadPrices, match="gb_second"):
        parse(table)


def test_the_time_of_a_step_is_from_its_first_event_to_its_last_and_the_total_over_all() -> None:
    run = Run(CHAIN)
    for step, took in {"a": 300, "b": 20, "c": 5}.items():
        run.now += took - 1
        run.done(step, {"v": 1}, meta=meta(10))
    found = cost("7", run.log, PLAIN)
    assert {row["step"]: row["wall_ms"] for row in found["steps"]} == {"a": 300, "b": 20, "c": 5}
    assert found["total"]["wall_ms"] == 325


def test_what_stands_in_no_step_is_weighed_and_paid_for_too() -> None:
    run = Run(CHAIN, payload={"given": "x" * 1000})
    table = replace(PLAIN, request=0.0, log_gb_month=float(1024**3))
    found = cost("7", run.log, table)
    sizes = [len(canonical(event.payload)) for event in run.log]
    assert found["total"]["bytes"] == {"log": sum(sizes)}
    assert found["total"]["cost"] == sum(sizes), "the start belongs to no step, and is kept like the rest"
    assert found["steps"][0]["cost"] == sizes[1]


def test_what_began_first_may_be_recorded_last() -> None:
    run = Run(WORKFLOWS["diamond"])
    run.done("split", meta=meta(1000, "w", 0))
    run.done("left", meta=meta(1000, "w", 12))
    run.done("right", meta=meta(5000, "w", 10))
    assert cost("7", run.log, PLAIN)["total"]["busy_ms"] == 6000


def test_times_are_given_to_the_microsecond() -> None:
    run = Run(CHAIN)
    run.done("a", {"v": 1}, meta=meta(1.23456))
    total = cost("7", run.log, PLAIN)["total"]
    assert (total["duration_ms"], total["busy_ms"]) == (1.235, 1.235)


def test_a_report_with_times_that_cannot_be_read_counts_as_an_invocation() -> None:
    run = Run(CHAIN)
    run.done("a", {"v": 1}, meta={"started_at": "yesterday", "duration_ms": "long", "worker": "w"})
    run.done("b", meta={"started_at": 5, "duration_ms": True})
    total = cost("7", run.log, PLAIN)["total"]
    assert (total["invocations"], total["duration_ms"], total["busy_ms"]) == (2, 0, 0)


@pytest.mark.parametrize(("store", "written"), [("s3", 1), ("disk", 1), ("postgres", 0), ("kv", 0)])
def test_what_is_kept_in_a_database_is_priced_as_the_log_is(store: str, written: int) -> None:
    run = Run(CHAIN)
    ref = {"ref": "noetl://execution/7/result/a/00000000", "key": "7/a/0.json", "store": store}
    run.report("a#1", ref={**ref, "meta": {"bytes": 1000}}, meta=meta(1))
    table = replace(PLAIN, request=0.0, object_put=0.5, object_gb_month=2.0 * 1024**3, log_gb_month=3.0 * 1024**3)
    step = cost("7", run.log, table)["steps"][0]
    assert step["bytes"][store] == 1000
    assert step["cost"] == 3 * step["bytes"]["log"] + (2 * 1000 + 0.5 if written else 3 * 1000)


def test_of_no_events_nothing_was_used() -> None:
    found = cost("7", [], PLAIN)
    assert (found["ended"], found["steps"], found["total"]["wall_ms"]) == (False, [], 0)


def test_while_it_runs_its_time_is_up_to_the_last_event() -> None:
    run = Run(CHAIN)
    run.now += 400
    run.done("a", {"v": 1})
    found = cost("7", run.log, PLAIN)
    assert (found["ended"], found["total"]["wall_ms"]) == (False, 401)


def test_what_comes_after_the_end_does_not_make_it_longer() -> None:
    run = Run(WORKFLOWS["failing"])
    run.done("split")
    run.error("bad")
    ended = cost("7", run.log, PLAIN)["total"]["wall_ms"]
    run.now += 1000
    run.fact(e.CALL_DONE, step="slow", generation=1, command_id="slow#1", payload={"meta": meta(5)})
    total = cost("7", run.log, PLAIN)["total"]
    assert (total["wall_ms"], total["invocations"]) == (ended, 3), "the late report was run, and is paid for"


@pytest.mark.parametrize(
    ("duration", "step", "billed"),
    [(0, 1, 1), (0.2, 1, 1), (1, 1, 1), (1.1, 1, 2), (100, 100, 100), (101, 100, 200), (0, 100, 100), (5.5, 0, 6)],
)
def test_time_is_billed_in_whole_steps_and_at_least_one(duration: float, step: float, billed: float) -> None:
    assert replace(PLAIN, granularity_ms=step).billed_ms(duration) == billed


def test_a_command_is_a_worker_for_its_time_and_the_control_plane_for_an_estimate() -> None:
    table = replace(PLAIN, request=0.5, gb_second=2.0, vcpu_second=3.0, granularity_ms=1, control_ms=500.0)
    table = replace(table, worker_gb=4.0, worker_vcpu=5.0, control_gb=6.0, control_vcpu=7.0)
    assert table.command(2000) == 2 * 0.5 + 2.0 * (4 * 2 + 5 * 3) + 0.5 * (6 * 2 + 7 * 3)


def test_a_reference_to_what_something_else_has_stored_costs_nothing_more() -> None:
    run = Run(CHAIN)
    manifest = {
        "kind": "manifest",
        "ref": "noetl://execution/8/manifest/each/1",
        "store": "manifest",
        "extracted": {"v": 1},
    }
    run.report("a#1", ref={**manifest, "meta": {"bytes": 1000}}, meta=meta(1))
    found = cost("7", run.log, replace(PLAIN, request=0.0, object_put=1.0))
    assert found["steps"][0]["bytes"].keys() == {"log"}
    assert found["total"]["cost"] == 0.0


def test_the_time_of_what_left_quarantine_is_given_to_its_end() -> None:
    run = Run(CHAIN)
    began = run.now
    run.fact(e.FAILED, payload={"error": {"code": e.UNDECIDABLE}, e.QUARANTINED: {"type": e.CALL_DONE}})
    apart = run.now
    found = cost("7", run.log, PLAIN)
    assert (found["ended"], found["total"]["wall_ms"], found["total"]["quarantined_ms"]) == (True, apart - began, 0)
    run.now += 60_000
    run.fact(e.RETRIED, payload={"seq": len(run.log)})
    out = run.now
    assert not cost("7", run.log, PLAIN)["ended"], "it runs again"
    run.now = apart
    run.done("a", {"v": 1}, meta=meta(10))
    found = cost("7", run.log, PLAIN)
    assert [row["wall_ms"] for row in found["steps"]] == [out - began, 0], "b was issued after the retry"
    run.now = out
    run.done("b", meta=meta(10))
    run.done("c", meta=meta(10))
    found = cost("7", run.log, PLAIN)
    assert found["ended"]
    assert (found["total"]["wall_ms"], found["total"]["quarantined_ms"]) == (run.now - began, out - apart)
