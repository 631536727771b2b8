"""What a worker expects of an orchestrator, over HTTP and in its own process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from aiohttp import web
from pg8000.exceptions import DatabaseError
from tests.serving import serving_app

from noetl_serverless.errors import Busy, Forbidden, InvalidPlaybook, InvalidRequest, Problem, TooLarge, Unavailable
from noetl_serverless.protocol import (
    WIRE,
    ClaimRequest,
    ClaimResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    Outcome,
    ReportRequest,
    ReportResponse,
    ReportResult,
)
from noetl_serverless.worker.client import ControlPlane
from noetl_serverless.worker.direct import DirectOrchestrator
from noetl_serverless.worker.orchestrator import MAX_REPORT_TRIES, Orchestrator

NAMES = {"execution_id": "1", "command_id": "only@1.1"}
CLAIM = ClaimRequest(worker_id="w")
REPORT = ReportRequest(worker_id="w", outcomes=[Outcome(**NAMES, fence=3, status="done", data={"n": 1})])
HEARTBEAT = HeartbeatRequest(worker_id="w", commands=[])


class Script:
    """Answers each call with the next of `answers`, the last one again and again; raises those that are errors."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.requests: list[Any] = []

    async def claim(self, request: ClaimRequest) -> ClaimResponse:
        return cast("ClaimResponse", self._next(request, ClaimResponse(commands=[])))

    async def report(self, request: ReportRequest) -> ReportResponse:
        results = [ReportResult(**NAMES, status="accepted")]
        return cast("ReportResponse", self._next(request, ReportResponse(results=results, commands=[])))

    async def heartbeat(self, request: HeartbeatRequest) -> HeartbeatResponse:
        return cast("HeartbeatResponse", self._next(request, HeartbeatResponse(lost=[])))

    def _next(self, request: Any, good: Any) -> Any:
        self.requests.append(request)
        answer = (self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        return good


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture(params=["http", "direct"])
async def orchestrator(request: pytest.FixtureRequest, script: Script) -> AsyncIterator[Orchestrator]:
    if request.param == "direct":
        answering: Any = script
        yield DirectOrchestrator(answering)
        return
    app = web.Application()

    async def answer(called: web.Request) -> web.Response:
        return await _answer(script, called)

    app.router.add_post("/api/commands/{operation}", answer)
    async with serving_app(app) as url:
        client = ControlPlane(url, "token")
        yield client
        await client.close()


async def _answer(script: Script, called: web.Request) -> web.Response:
    """As the control plane answers."""
    operation = called.match_info["operation"]
    models: dict[str, Any] = {"claim": ClaimRequest, "report": ReportRequest, "heartbeat": HeartbeatRequest}
    try:
        request = models[operation].model_validate_json(await called.read())
        answer = await getattr(script, operation)(request)
    except Problem as problem:
        return web.json_response(problem.to_dict(), status=problem.status)
    except Exception:
        return web.json_response({"detail": "Internal error"}, status=500)
    return web.json_response(text=answer.model_dump_json(), headers={WIRE: "2"})


async def test_an_answer_comes_as_it_was_given(orchestrator: Orchestrator, script: Script) -> None:
    claimed = await orchestrator.claim(CLAIM, timeout=5)
    reported = await orchestrator.report(REPORT, timeout=5)
    assert (claimed.body, claimed.doubtful) == (ClaimResponse(commands=[]), False)
    assert [result.status for result in reported.body.results] == ["accepted"]
    assert (await orchestrator.heartbeat(HEARTBEAT, timeout=5)).lost == []
    assert script.requests == [CLAIM, REPORT, HEARTBEAT]
    assert orchestrator.supports(2)


@pytest.mark.parametrize(
    ("problem", "kind"),
    [
        (InvalidRequest("no such thing"), InvalidRequest),
        (InvalidPlaybook("no such thing"), InvalidRequest),
        (TooLarge("no such thing"), TooLarge),
        (Forbidden("no such thing"), Forbidden),
    ],
)
async def test_a_refusal_is_not_tried_again(
    orchestrator: Orchestrator, script: Script, problem: Problem, kind: type[Problem]
) -> None:
    script.answers = [problem]
    with pytest.raises(kind, match="no such thing") as caught:
        await orchestrator.report(REPORT, timeout=5)
    assert type(caught.value) is kind
    assert len(script.requests) == 1


@pytest.mark.parametrize("failure", [Unavailable("away"), Busy("others were first"), RuntimeError("a mistake")])
async def test_a_call_is_tried_again_and_may_have_taken_effect_before(
    orchestrator: Orchestrator, script: Script, failure: Exception
) -> None:
    script.answers = [failure, None]
    answer = await orchestrator.claim(CLAIM, timeout=5)
    assert answer.doubtful, "the first try may have claimed something"
    assert len(script.requests) == 2


@pytest.mark.parametrize(("failure", "status"), [(Unavailable("away"), 503), (RuntimeError("a mistake"), 500)])
async def test_a_report_that_always_fails_is_given_back_with_its_status(
    orchestrator: Orchestrator, script: Script, failure: Exception, status: int
) -> None:
    script.answers = [failure]
    with pytest.raises(Unavailable) as caught:
        await orchestrator.report(REPORT, timeout=60)
    assert len(script.requests) == MAX_REPORT_TRIES
    assert (caught.value.extra["answered"], caught.value.extra["doubtful"]) == (status, True)


@pytest.mark.parametrize("call", ["claim", "heartbeat"])
async def test_other_calls_are_tried_until_their_time_is_over(
    orchestrator: Orchestrator, script: Script, call: str
) -> None:
    script.answers = [Unavailable("away")]
    request: Any = CLAIM if call == "claim" else HEARTBEAT
    with pytest.raises(Unavailable):
        await asyncio.wait_for(getattr(orchestrator, call)(request, timeout=0.4), 5)
    assert len(script.requests) > MAX_REPORT_TRIES


async def test_in_process_a_value_that_cannot_be_stored_is_the_callers_fault(script: Script) -> None:
    answering: Any = script
    script.answers = [DatabaseError({"C": "22021", "M": "invalid byte sequence"})]
    with pytest.raises(InvalidRequest, match="NUL"):
        await DirectOrchestrator(answering).report(REPORT, timeout=5)


async def test_in_process_a_mistake_is_logged(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    answering: Any = script
    script.answers = [RuntimeError("a mistake"), None]
    with caplog.at_level(logging.ERROR):
        await DirectOrchestrator(answering).claim(CLAIM, timeout=5)
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info and record.exc_info[1]] == [
        ("a mistake",)
    ]
