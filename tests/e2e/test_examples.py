"""Every example runs as it is, and does what its first line says."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.e2e.faults import eventually
from tests.e2e.messages import messages
from tests.e2e.stack import PLAYBOOKS, Stack

NUMBERS = [3, 1, 4, 1, 5, 9, 2, 6]
EXAMPLES = sorted(file for file in PLAYBOOKS.glob("*.yaml") if not file.name.endswith(".test.yaml"))


def completed(outcome: dict[str, Any]) -> Any:
    assert outcome["status"] == "COMPLETED", outcome["error"]
    return outcome["result"]


def run(stack: Stack, example: str, **workload: Any) -> Any:
    return completed(stack.run(PLAYBOOKS / f"{example}.yaml", workload))


def test_hello_is_ten_lines_and_greets(stack: Stack) -> None:
    lines = (PLAYBOOKS / "hello.yaml").read_text().splitlines()

    assert len([line for line in lines if not line.startswith("#")]) == 10
    assert run(stack, "hello") == "Hello, world!"
    assert run(stack, "hello", name="Ada") == "Hello, Ada!"


@pytest.mark.parametrize(
    ("celsius", "advice", "step"), [(31, "drink water", "hot"), (-5, "stay in", "freezing"), (15, "go out", "mild")]
)
def test_routing_takes_the_first_arc_that_holds(stack: Stack, celsius: int, advice: str, step: str) -> None:
    outcome = stack.run(PLAYBOOKS / "routing.yaml", {"celsius": celsius})

    assert completed(outcome) == {"fahrenheit": pytest.approx(celsius * 1.8 + 32), "advice": advice}
    assert stack.steps_that_ran(outcome["execution_id"]) == ["convert", step, "advise"]


def test_fan_out_joins_both_branches_once(stack: Stack) -> None:
    outcome = stack.run(PLAYBOOKS / "fan_out.yaml", {"numbers": NUMBERS})

    assert completed(outcome) == {
        "total": sum(NUMBERS),
        "largest": max(NUMBERS),
        "share": pytest.approx(max(NUMBERS) / sum(NUMBERS), abs=0.001),
    }
    issued = [
        event["step"] for event in stack.events(outcome["execution_id"]) if event["event_type"] == "command.issued"
    ]
    assert Counter(issued) == {"split": 1, "total": 1, "largest": 1, "join": 1}


def test_loop_measures_every_word(stack: Stack) -> None:
    words = yaml.safe_load((PLAYBOOKS / "loop.yaml").read_text())["workload"]["words"]
    by_length = groupby(sorted(words, key=len), key=len)

    assert run(stack, "loop")["rows"] == [
        {"letters": letters, "words": len(found), "example": found[0]}
        for letters, found in ((letters, list(group)) for letters, group in by_length)
    ]


def test_loop_of_nothing_is_done_at_once(stack: Stack) -> None:
    outcome = stack.run(PLAYBOOKS / "loop.yaml", {"words": []}, status=1)

    # the loop is done; then there is no table to rank, and the run says so
    assert outcome["error"]["step"] == "rank"
    (done,) = [event for event in stack.events(outcome["execution_id"]) if event["event_type"] == "loop.done"]
    assert done["payload"]["stats"] == {"total": 0, "success": 0, "failed": 0}


def test_pipeline_reads_every_page_and_survives_one_failure(stack: Stack) -> None:
    assert run(stack, "pipeline") == {"pages": 4, "rows": 100}
    assert run(stack, "pipeline", pages=7, rows_per_page=3) == {"pages": 7, "rows": 21}


def test_factorial_starts_one_child_inside_the_other(stack: Stack) -> None:
    outcome = stack.run(PLAYBOOKS / "factorial.yaml", {"n": 5})

    assert completed(outcome) == {"value": 120}
    kinds = [event["event_type"] for event in stack.events(outcome["execution_id"])]
    assert kinds.count("child.started") == kinds.count("child.ended") == 1


def test_recovery_ends_as_completed(stack: Stack) -> None:
    outcome = stack.run(PLAYBOOKS / "recovery.yaml")

    result = completed(outcome)
    assert result["numbers"] == [12, 0, 30]
    assert "'seven'" in result["because"]
    assert stack.steps_that_ran(outcome["execution_id"]) == ["strict", "lenient", "report"]


def test_recovery_has_nothing_to_do_if_nothing_fails(stack: Stack) -> None:
    outcome = stack.run(PLAYBOOKS / "recovery.yaml", {"texts": ["1", "2"]})

    assert completed(outcome) == {"numbers": [1, 2], "because": ""}
    assert stack.steps_that_ran(outcome["execution_id"]) == ["strict", "report"]


@pytest.mark.parametrize(
    ("ready_after", "result", "asks"),
    [(3, {"state": "ready", "asks": 3}, 3), (99, {"state": "gave up", "asks": 4}, 4)],
)
def test_poll_asks_until_it_is_ready_or_has_enough(
    stack: Stack, ready_after: int, result: dict[str, Any], asks: int
) -> None:
    outcome = stack.run(PLAYBOOKS / "poll.yaml", {"ready_after": ready_after, "most_asks": 4})

    assert completed(outcome) == result
    events = stack.events(outcome["execution_id"])
    generations = {event["generation"] for event in events if event["step"] == "ask"}
    assert generations == set(range(1, asks + 1))


def test_timer_gives_the_worker_back_and_comes_again(stack: Stack) -> None:
    outcome = stack.run(PLAYBOOKS / "timer.yaml")

    assert completed(outcome) == {"attempt": 2, "ready": True}
    kinds = [event["event_type"] for event in stack.events(outcome["execution_id"])]
    assert [kind for kind in kinds if kind.startswith(("timer.", "call."))] == [
        *("call.deferred", "timer.set", "timer.fired", "call.done")
    ]


@pytest.mark.parametrize(("amount", "reviewed"), [(120, False), (5000, True)])
def test_admission_lets_large_amounts_be_reviewed(stack: Stack, amount: int, reviewed: bool) -> None:
    outcome = stack.run(PLAYBOOKS / "admission.yaml", {"amount": amount})

    assert completed(outcome) == {"booked": amount, "reviewed": reviewed}
    assert ("review" in stack.steps_that_ran(outcome["execution_id"])) is reviewed


def test_an_ordinary_order_needs_no_approval(stack: Stack) -> None:
    assert run(stack, "order") == {"shipped": "R-A-17"}


def test_an_order_whose_total_is_no_number_is_not_started(stack: Stack) -> None:
    refused = stack.run(PLAYBOOKS / "order.yaml", {"total": "lots"}, status=2)

    assert "total" in str(refused) and "number" in str(refused)


def test_an_expensive_order_goes_on_when_it_is_approved(stack: Stack) -> None:
    id = stack.start(PLAYBOOKS / "order.yaml", {"total": 5000})
    stack.ask("approve", id, "manager")
    stack.events(id, follow=True)

    assert stack.steps_that_ran(id) == ["reserve", "approve", "charge", "ship"]


def test_an_expensive_order_is_undone_when_it_is_not_approved(stack: Stack) -> None:
    id = stack.start(PLAYBOOKS / "order.yaml", {"total": 5000})
    stack.ask("approve", id, "manager", "--reject", "--comment", "too dear")
    ended = stack.events(id, follow=True)[-1]

    assert stack.steps_that_ran(id) == ["reserve", "approve", "reserve.compensate"]
    assert ended["payload"]["error"]["code"] == "wait.rejected"
    assert ended["payload"]["error"]["compensation"] == {"done": ["reserve"], "failed": []}


def test_an_expensive_order_is_approved_by_the_url_of_a_message(stack: Stack) -> None:
    with messages() as (url, received):
        id = stack.start(PLAYBOOKS / "order.yaml", {"total": 5000, "chat": f"{url}/hook"})
        eventually(lambda: bool(received))
    link = received[0]["text"].rpartition(" ")[2]
    request = urllib.request.Request(link, b"decision=approve&comment=fine", method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.load(answer)["answer"] == {"approved": True, "comment": "fine"}
    stack.events(id, follow=True)

    assert stack.steps_that_ran(id) == ["reserve", "ask", "approve", "charge", "ship"]


def test_an_order_that_cannot_be_shipped_is_undone_the_latest_step_first(stack: Stack) -> None:
    outcome = stack.run(PLAYBOOKS / "order.yaml", {"carrier": "slow"}, status=1)

    ran = stack.steps_that_ran(outcome["execution_id"])
    assert ran == ["reserve", "charge", "ship", "charge.compensate", "reserve.compensate"]
    assert outcome["error"]["code"] == "python.exception"


def test_import_says_what_it_has_imported(stack: Stack) -> None:
    object = (PLAYBOOKS / "data" / "payments.csv").as_uri()

    assert run(stack, "import", object=object, batch_rows=15) == {
        "object": object,
        "rows": 40,
        "batches": 3,
        "total": "48773.05",
    }


@pytest.mark.parametrize(("number", "steps"), [(27, 111), (1024, 10)])
def test_pipelined_steps_are_all_in_the_log(stack: Stack, number: int, steps: int) -> None:
    outcome = stack.run(PLAYBOOKS / "pipelined.yaml", {"number": number})

    assert completed(outcome) == {"number": number, "steps_to_one": steps}
    done = [event["step"] for event in stack.events(outcome["execution_id"]) if event["event_type"] == "call.done"]
    assert done == ["begin", *["collatz"] * steps, "done"]


def test_analytics_takes_a_table_through_polars_to_postgresql(stack: Stack) -> None:
    orders = 200_000
    outcome = stack.run(PLAYBOOKS / "analytics.yaml", {"orders": orders})

    report = completed(outcome)
    memory = report.pop("memory_mb")
    rows = report.pop("rows")
    assert report == {"orders": orders, "first": "2026-01-01", "last": "2026-03-31", "read": orders}
    assert 150_000 < rows <= orders
    assert memory.keys() == {"sum_up", "report", "zygote", "worker"}
    refs = {
        event["step"]: event["payload"]["ref"]["meta"]["content_type"]
        for event in stack.events(outcome["execution_id"])
        if event["payload"].get("ref")
    }
    assert refs["read"] == refs["sum_up"] == "application/vnd.apache.arrow.stream"


def test_big_result_goes_by_reference(stack: Stack) -> None:
    outcome = stack.run(PLAYBOOKS / "big_result.yaml", {"rows": 20_000})

    result = completed(outcome)
    assert result["rows"] == 20_000
    assert result["total"] == sum(n * n for n in range(1, 20_001))
    assert result["longest"] == len("the square of 20000 is 400000000")
    assert result["reference"].startswith(f"noetl://execution/{outcome['execution_id']}/result/make/")
    assert result["bytes"] > 1_000_000
    assert len(json.dumps(stack.events(outcome["execution_id"]))) < 50_000


def test_python_code_reads_what_it_needs_and_a_script(stack: Stack) -> None:
    assert run(stack, "python_code") == {"unit": "celsius", "mean": pytest.approx(76 / 3), "spread": 9.0}
    assert run(stack, "python_code", least=40) == {"unit": "celsius", "mean": None, "spread": None}


def test_registering_the_folder_puts_all_into_the_catalog(stack: Stack) -> None:
    stack.ask("register", str(PLAYBOOKS))
    listed = {entry["path"] for entry in stack.ask("list")}

    assert {f"examples/{file.stem}" for file in EXAMPLES} <= listed


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_each_says_what_it_shows_and_is_in_the_table(file: Path) -> None:
    table = (PLAYBOOKS / "README.md").read_text()

    assert file.read_text().startswith("# ")
    assert f"| [{file.stem}]({file.name}) |" in table
