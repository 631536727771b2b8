"""An analysis of one execution, made from its log."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ...errors import InvalidRequest, NotFound
from ...store.executions import Execution
from ..models.analysis import Analysis, Analyze, AnalyzedPlaybook, FindingEntry, StepSummary, Summary
from ..models.executions import EventEntry, entry_fields
from ..operation import USERS, Call, Operation
from ..page import truncate_payloads
from .identifiers import execution_id_of

if TYPE_CHECKING:
    from ...playbook.plan import Plan

# of the playbook's text in the answer
CONTENT_CHARACTERS = 256 * 1024


async def analyze(call: Call) -> Analysis:
    body: Analyze = call.body
    execution_id = execution_id_of(call)
    executions = call.services.executions
    execution = await executions.get(execution_id)
    # one more, to know whether there are more
    log, workload = await call.services.replays.log(execution_id, body.max_events + 1)
    complete, events = len(log) <= body.max_events, log[: body.max_events]
    plan, text = await _playbook(call, execution)
    sample = [event async for event in _sample(call, execution_id, body.event_sample_size)]
    # not needed by other requests
    from ...inspection.analysis import analyze as find
    from ...inspection.cost import cost
    from ...prices import load
    from ...telemetry.masking import Masking

    def work() -> tuple[Any, dict[str, Any]]:
        found = find(
            str(execution_id),
            events,
            plan,
            workload,
            complete=complete,
            error=execution.error,
            quarantined=execution.quarantined,
            warnings=execution.warnings or [],
        )
        return found, cost(str(execution_id), events, load())

    found, used = await asyncio.to_thread(work)
    mask = Masking().text
    summary = Summary(
        **{name: value for name, value in entry_fields(execution, call.services.now()).items() if name in _SHOWN},
        events=execution.head,
        events_analyzed=len(events),
        complete=complete,
        steps=[
            StepSummary(
                step=name,
                commands=times.commands,
                failed_attempts=times.failed_attempts,
                lost_leases=times.lost_leases,
                run_ms=round(times.run_ms, 3),
                queued_ms=times.queued_ms,
            )
            for name, times in found.steps.items()
        ],
    )
    findings = [
        FindingEntry(severity=one.severity, code=one.code, step=one.step, message=mask(one.message))
        for one in found.findings
    ]
    content = text[:CONTENT_CHARACTERS] if body.include_playbook_content and text is not None else None
    return Analysis(
        summary=summary,
        findings=findings,
        recommendations=found.recommendations,
        cloud={name: used[name] for name in ("currency", "prices", "total", "steps")},
        playbook=AnalyzedPlaybook(
            path=execution.path,
            version=execution.version,
            catalog_id=None if execution.catalog_id is None else str(execution.catalog_id),
            steps=[] if plan is None else list(plan.steps),
            content=content,
            content_truncated=content is not None and content != text,
        ),
        event_sample=sample,
        ai_prompt=_prompt(summary, findings, found.recommendations, content),
    )


_SHOWN = frozenset(Summary.model_fields)


async def _playbook(call: Call, execution: Execution) -> tuple[Plan | None, str | None]:
    """Its plan and its text, unless its version is no longer in the catalog."""
    if execution.catalog_id is None:
        return None, None
    try:
        entry = await call.services.catalog.by_id(execution.catalog_id)
        return await call.services.orchestrator.plan(entry.hash), entry.content
    except NotFound:
        return None, None


async def _sample(call: Call, execution_id: int, size: int) -> Any:
    if size:
        found, _ = await call.services.executions.events_page(execution_id, after=0, type=None, limit=size, offset=0)
        for event in truncate_payloads(EventEntry.of(event) for event in found):
            yield event


def _prompt(summary: Summary, findings: list[FindingEntry], recommendations: list[str], content: str | None) -> str:
    lines = [
        "Explain why this execution of a NoETL playbook went as it did, and what to change in the playbook.",
        "",
        f"Playbook: {summary.path}, version {summary.version}",
        f"Status: {summary.status}, {summary.progress} % of its steps, {summary.duration_human}",
        "",
        "Findings:",
        *(f"- [{one.severity}] {one.code}: {one.message}" for one in findings),
        "",
        "Steps (commands, failed attempts, lost leases, ms run, longest ms queued):",
        *(
            f"- {one.step}: {one.commands}, {one.failed_attempts}, {one.lost_leases}, {one.run_ms:g}, {one.queued_ms}"
            for one in summary.steps
        ),
    ]
    if recommendations:
        lines += ["", "Advice so far:", *(f"- {text}" for text in recommendations)]
    if content is not None:
        lines += ["", "Playbook:", content]
    return "\n".join(lines)


async def analyze_with_model(call: Call) -> Analysis:
    """Raises InvalidRequest."""
    raise InvalidRequest(
        "no language model is called from here: POST /api/executions/{execution_id}/analyze returns `ai_prompt`, a "
        "text to give to a model of yours"
    )


OPERATIONS = (
    Operation(
        "analyzeExecution",
        "POST",
        "/api/executions/{execution_id}/analyze",
        summary="Find what failed, waited or was slow in an execution, and what may help",
        tag="executions",
        roles=USERS,
        handler=analyze,
        answer=Analysis,
        body=Analyze,
        audited=False,
    ),
    Operation(
        "analyzeExecutionWithModel",
        "POST",
        "/api/executions/{execution_id}/analyze/ai",
        summary="Always refused, as no language model is called from here: see analyzeExecution",
        tag="executions",
        roles=USERS,
        handler=analyze_with_model,
        answer=Analysis,
        body=Analyze,
        audited=False,
    ),
)
