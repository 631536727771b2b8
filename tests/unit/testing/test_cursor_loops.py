"""Loops over a cursor, from end to end in memory."""

from __future__ import annotations

from typing import Any, cast

import pytest

from noetl_serverless.engine import events as e
from noetl_serverless.testing.playbooks import PlaybookRun, run_playbook
from noetl_serverless.tools.noop import Noop
from noetl_serverless.tools.port import ToolFailure, ToolOutcome

PLAYBOOK = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: t}
workload: {table: jobs}
workflow:
  - step: drain
    loop:
      iterator: job
      cursor:
        kind: postgres
        auth: wh
        claim: CLAIM {{ __frame_max_rows }} OF {{ workload.table | identifier }}
        options: {OPTIONS}
      spec: {mode: cursor, max_in_flight: 3, frame: {FRAME}}
    tool: {kind: http, url: "http://api/{{ PART }}"}
    spec: {policy: {failure: {mode: MODE}}}
    next: {arcs: [{step: all, when: "{{ event.name == 'loop.done' }}"}]}
  - step: all
    tool: {kind: noop, result: {results: "{{ drain }}", stats: "{{ drain.stats }}"}}
"""


class Table(Noop):
    """Rows to claim, in the place of the postgres tool."""

    def __init__(self, count: int) -> None:
        self.free = [{"id": n} for n in range(count)]
        self.statements: list[Any] = []

    async def claim(self, call: Any, context: Any, record: Any, seconds: float) -> ToolOutcome:
        self.statements.append(call.config["command"])
        wanted = call.input["__frame_max_rows"]
        rows, self.free = self.free[:wanted], self.free[wanted:]
        if rows:
            await record(rows, len(self.statements))
        return ToolOutcome("ok", data={"rows": rows})

    async def claim_status(self, auth: str, context: Any, transaction: int) -> str:
        return "committed"


async def drained(
    table: Table,
    answer: Any = None,
    frame: str = "max_rows: 4, row_concurrency: 2",
    mode: str = "fail_fast",
    options: str = "",
    part: str = "iter.job.id",
) -> PlaybookRun:
    text = PLAYBOOK.replace("FRAME", frame).replace("MODE", mode).replace("PART", part)
    text = text.replace("OPTIONS", options)
    http = answer or (lambda call: {"url": call.config["url"]})
    return await run_playbook(text, tools={"postgres": cast(Any, table), "http": http})


@pytest.mark.parametrize("count", [0, 1, 4, 10, 25])
async def test_rows_are_claimed_until_there_are_none(count: int) -> None:
    table = Table(count)
    run = await drained(table)
    assert run.error is None, run.error
    urls = [result["url"] for result in run.result["results"]]
    assert sorted(urls) == sorted(f"http://api/{n}" for n in range(count))
    assert run.result["stats"] == {"total": count, "success": count, "failed": 0}
    assert table.free == []


@pytest.mark.parametrize("held", [{2}, {1, 2}, {2, 3}, {3, 4, 6}])
async def test_a_claim_that_passes_over_rows_which_another_one_holds_does_not_end_the_loop(held: set[int]) -> None:
    """The other one may be undone, and then claim fewer. `held`: numbers of claims that find nothing."""

    class Held(Table):
        async def claim(self, call: Any, *arguments: Any) -> ToolOutcome:
            if len(self.statements) + 1 not in held:
                return await super().claim(call, *arguments)
            self.statements.append(call.config["command"])
            return ToolOutcome("ok", data={"rows": []})

    table = Held(25)
    run = await drained(table)
    assert run.error is None, run.error
    assert (table.free, run.result["stats"]["total"]) == ([], 25)
    # each of three slots ends with a claim that finds nothing, and each that finds something gives one back
    assert len(table.statements) <= 2 * (7 + len(held)) + 3


async def test_the_claim_binds_what_is_in_it() -> None:
    table = Table(1)
    await drained(table)
    statement = table.statements[0]
    assert statement.text == "CLAIM %(__1)s OF %(__2)s"
    assert list(statement.values.values()) == [4, '"jobs"']


async def test_the_tasks_run_once_for_all_rows_of_a_frame() -> None:
    calls: list[Any] = []
    run = await drained(Table(6), calls.append, "max_rows: 4, process: frame", part="iter.job | length")
    assert run.error is None, run.error
    assert sorted(call.config["url"] for call in calls) == ["http://api/2", "http://api/4"]
    assert run.result["stats"]["total"] == 2


async def test_a_row_that_fails_fails_the_loop() -> None:
    def answer(call: Any) -> Any:
        if call.config["url"].endswith("/3"):
            raise ToolFailure("http", "http.status", "no")
        return 1

    table = Table(100)
    run = await drained(table, answer)
    assert run.error is not None
    assert run.error["code"] == "loop.item_failed"
    assert table.free, "no more is claimed after that"


async def test_with_best_effort_the_others_go_on() -> None:
    def answer(call: Any) -> Any:
        if call.config["url"].endswith("/3"):
            raise ToolFailure("http", "http.status", "no")
        return 1

    run = await drained(Table(9), answer, mode="best_effort")
    assert run.result["stats"] == {"total": 9, "success": 8, "failed": 1}
    assert run.result["results"].count(None) == 1


@pytest.mark.parametrize(("retry", "calls"), [("whole_frame", 8), ("failed_rows", 6)])
async def test_a_retryable_error_has_the_frame_processed_again(retry: str, calls: int) -> None:
    seen: list[str] = []

    def answer(call: Any) -> Any:
        seen.append(call.config["url"])
        if call.config["url"].endswith("/1") and seen.count(call.config["url"]) < 3:
            raise ToolFailure("http", "http.timeout", "no answer", retryable=True)
        return 1

    frame = f"max_rows: 4, retry_mode: {retry}, row_concurrency: 4"
    run = await drained(Table(4), answer, frame)
    assert run.error is None, run.error
    assert run.result["stats"]["success"] == 4
    assert len(seen) >= calls


async def test_a_claim_that_fails_fails_the_loop_also_with_best_effort() -> None:
    class Refusing(Table):
        async def claim(self, *arguments: Any) -> ToolOutcome:
            return ToolFailure("postgres", "postgres.error", "no such table").outcome()

    run = await drained(Refusing(3), mode="best_effort")
    assert run.error is not None
    assert (run.error["code"], "no such table" in run.error["message"]) == ("loop.claim_failed", True), run.error


async def test_more_claims_than_allowed_fail_the_loop() -> None:
    run = await drained(Table(100), options="max_iterations: 5")
    assert run.error is not None
    assert run.error["code"] == "loop.not_drained"


async def test_a_frame_takes_a_break_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    run = await drained(Table(5), frame="max_rows: 5, max_seconds: 1ms", answer=_slowly)
    assert run.error is None, run.error
    assert run.result["stats"]["success"] == 5
    assert sum(event.type == e.CALL_DEFERRED for event in run.events) >= 2
    assert len([event for event in run.events if event.type == e.FRAME_COMMITTED and event.payload["ok"]]) == 1


def _slowly(call: Any) -> Any:
    import time

    time.sleep(0.002)
    return 1
