"""What stands out in an execution: what failed, what waited, what was slow, and what may help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ..engine import events as e
from ..engine.events import Event
from ..playbook.plan import Plan
from ..plurals import counted
from .event_text import error_text
from .explain import explain
from .runs import CommandRun, run_of

# commands that waited longer than this for a worker are worth a word
QUEUED_MS = 5_000
# the part of the time of all commands from which on a step is worth one, if there are several
SLOW_SHARE = 0.5
SLOW_MS = 1_000

Severity = Literal["error", "warning", "info"]

# code of a finding or an error, or its beginning up to a dot -> what may help
ADVICE: Mapping[str, str] = {
    e.UNDECIDABLE: "Retry it (POST /api/quarantine/{execution_id}/retry) once the cause is removed, or drop it.",
    "attempts": "Look at the failed attempts (GET /api/executions/{execution_id}/runs?failed=true), and whether the "
    "called service limits its callers.",
    "budget.exceeded": "Raise executor.spec.budget, or let the playbook do less.",
    "child.failed": "Look at the sub-playbook's execution: its id is in the error.",
    "command.delivery_limit": "Look at the worker's log: the command may need more memory or time than a worker has.",
    "credential": "Check the credential's name, type and data (GET /api/credentials).",
    "execution.timeout": "Raise executor.spec.timeout, or let the playbook do less.",
    "http.refused": "The address is private: allow it on the worker, or call a public one.",
    "http.timeout": "Raise the task's timeout, or retry: the server answers late.",
    "keychain": "Check what the keychain entry names, and whether its source answers.",
    "leases": "Look at the worker's log: workers that ended while they ran a command may lack memory.",
    "postgres.timeout": "Look at the plan of the statement, or raise the task's timeout.",
    "queued": "Give the pool more workers, or other playbooks a lower executor.spec.weight.",
    "routing.no_match": "Add an arc that covers this case, or set next.spec.on_no_match to quiet.",
    "slow": "Look at this step first if the execution is to be faster.",
    "template": "Correct the template: lint names the place (noetls lint).",
}


@dataclass(frozen=True, slots=True)
class Finding:
    severity: Severity
    code: str
    message: str
    step: str | None = None


@dataclass(slots=True)
class StepTimes:
    """Of all commands of one step."""

    commands: int = 0
    failed_attempts: int = 0
    lost_leases: int = 0
    run_ms: float = 0.0
    queued_ms: int = 0

    def add(self, run: CommandRun) -> None:
        self.commands += 1
        self.failed_attempts += len(run.attempts) + run.attempts_dropped
        self.lost_leases += len(run.lost)
        self.run_ms += run.run_ms or 0.0
        self.queued_ms = max(self.queued_ms, run.queued_ms or 0)


@dataclass(frozen=True, slots=True)
class Analysis:
    """`steps`: the times by step, as far as the events go; `finding`s, the worst first, and what may help, without
    repetition."""

    steps: Mapping[str, StepTimes]
    findings: list[Finding] = field(default_factory=list)
    recommendations: list[str] = field(default_factory=list)


def analyze(
    execution_id: str,
    events: Sequence[Event],
    plan: Plan | None,
    workload: Mapping[str, Any],
    *,
    complete: bool,
    error: Mapping[str, Any] | None = None,
    quarantined: bool = False,
    warnings: Sequence[Mapping[str, Any]] = (),
) -> Analysis:
    """`events`: the log from its beginning; `complete`: to its end. `error`, `quarantined` and `warnings`: as the
    execution has them, which counts if the log is not complete. Without a plan the steps are not explained."""
    steps = _times(events)
    findings = [*_of_end(error, quarantined, warnings)]
    if plan is not None and complete:
        findings += _of_steps(execution_id, events, plan, workload, error)
    findings += _of_times(steps)
    if not complete:
        text = f"only its first {counted(len(events), 'event')} were looked at: raise max_events to see more"
        findings.append(Finding("info", "incomplete", text))
    ranks = {"error": 0, "warning": 1, "info": 2}
    findings.sort(key=lambda finding: ranks[finding.severity])
    return Analysis(steps, findings, list(dict.fromkeys(_advice(execution_id, findings))))


def _times(events: Sequence[Event]) -> dict[str, StepTimes]:
    steps: dict[str, StepTimes] = {}
    issued: dict[str | None, int] = {}
    for event in events:
        if event.type == e.ISSUED:
            issued[event.command_id] = event.at
        elif event.type in e.REPORTS and event.step is not None:
            run = run_of(event.payload.get("meta"), event.at, issued.get(event.command_id))
            steps.setdefault(event.step, StepTimes()).add(run)
    return steps


def _of_end(
    error: Mapping[str, Any] | None, quarantined: bool, warnings: Sequence[Mapping[str, Any]]
) -> Iterator[Finding]:
    if error is not None:
        yield Finding("error", str(error.get("code")), f"it ended with {error_text(error)}", error.get("step"))
    if quarantined:
        yield Finding("error", e.UNDECIDABLE, "it is in quarantine: the engine could not continue it")
    for warning in warnings:
        yield Finding("warning", str(warning["code"]), str(warning["message"]), warning.get("step"))


def _of_steps(
    execution_id: str, events: Sequence[Event], plan: Plan, workload: Mapping[str, Any], error: Any
) -> Iterator[Finding]:
    """Of runs that failed, and of those that have not ended."""
    document = explain(execution_id, events, plan, workload)
    for run in document["steps"]:
        name = run["step"] if (run["generation"] or 1) == 1 else f"{run['step']}#{run['generation']}"
        if run["status"] == "failed" and (error is None or error.get("step") != run["step"]):
            # a failure that an arc has handled
            yield Finding("warning", "failed", f"{name} failed: {run['why']}", run["step"])
        elif "failed_items" in run:
            count = run["failed_items"]["count"]
            yield Finding("warning", "items", f"{counted(count, 'item')} of {name} failed", run["step"])
    for wait in document["waits"]:
        yield Finding("info", f"waits.{wait['for']}", f"{wait['step']}: {wait['text']}", wait["step"])


def _of_times(steps: Mapping[str, StepTimes]) -> Iterator[Finding]:
    total = sum(times.run_ms for times in steps.values())
    for name, times in steps.items():
        if times.failed_attempts:
            text = f"{counted(times.failed_attempts, 'attempt')} of {name} failed"
            yield Finding("warning", "attempts", text, name)
        if times.lost_leases:
            text = f"{counted(times.lost_leases, 'lease')} of {name} expired or were released"
            yield Finding("warning", "leases", text, name)
        if times.queued_ms > QUEUED_MS:
            text = f"a command of {name} waited {times.queued_ms / 1000:.1f} s for a worker"
            yield Finding("warning", "queued", text, name)
        if len(steps) > 1 and times.run_ms > max(SLOW_MS, SLOW_SHARE * total):
            text = f"{name} took {times.run_ms / 1000:.1f} s, {times.run_ms / total:.0%} of the time of all steps"
            yield Finding("info", "slow", text, name)


def _advice(execution_id: str, findings: Sequence[Finding]) -> Iterator[str]:
    for finding in findings:
        text = ADVICE.get(finding.code) or ADVICE.get(finding.code.partition(".")[0])
        if text is not None:
            yield text.replace("{execution_id}", execution_id)
