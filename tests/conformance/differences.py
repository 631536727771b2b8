"""What of a run is not as its file expects, in words."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from tests.conformance.case import Expected, ExpectedFault
from tests.conformance.stack import SUSPENSIONS, Run, shown

from noetl_serverless.errors import Fault


def differences(expected: Expected, run: Run) -> list[str]:
    """Of an execution that has ended."""
    return [*_of_end(expected, run), *_of_values(expected, run), *_of_events(expected, run)]


def of_faults(what: str, expected: Sequence[ExpectedFault], found: Sequence[Fault]) -> list[str]:
    """`found` are to be those that are expected, in order."""
    places = [(fault.code, fault.line, fault.column) for fault in found]
    wanted = [(fault.code, fault.line, fault.column) for fault in expected]
    said = all(fault.says in other.message for fault, other in zip(expected, found, strict=False))
    if places == wanted and said:
        return []
    listed = [f"{{code: {f.code}, line: {f.line}, column: {f.column}, says: {f.message!r}}}" for f in found]
    return ["\n  ".join([f"{what}: expected", *(repr(fault) for fault in expected), "found", *listed])]


def _of_end(expected: Expected, run: Run) -> Iterator[str]:
    entry = run.entry
    if entry["status"].lower() != expected.ends:
        yield f"ends: expected {expected.ends}, it {entry['status'].lower()}: {shown(entry.get('error'))}"
        return
    if "result" in expected.model_fields_set:
        result = entry["result"] or {}
        found = result.get("data") if "ref" not in result else result
        if found != expected.result:
            yield f"result: expected {shown(expected.result)}, found {shown(found)}"
    warnings = [f"{warning['code']} {warning['step']}" for warning in entry.get("warnings") or ()]
    if warnings != expected.warnings:
        yield f"warnings: expected {expected.warnings}, found {warnings}"
    if expected.error is not None:
        error = entry["error"]
        found = {"code": error.get("code"), "step": error.get("step"), "line": error.get("line", error.get("at"))}
        wanted = {name: value for name, value in expected.error.model_dump().items() if name in found}
        if expected.error.line is None:
            del found["line"], wanted["line"]
        if found != wanted or expected.error.says not in error["message"]:
            yield f"error: expected {shown(expected.error.model_dump())}, found {shown(error)}"


def _of_values(expected: Expected, run: Run) -> Iterator[str]:
    for expression, value in expected.values.items():
        try:
            found = run.value(expression)
        except Exception as error:
            yield f"{expression}: expected {shown(value)}, it cannot be evaluated: {error}"
            continue
        if found != value or isinstance(found, bool) != isinstance(value, bool):
            yield f"{expression}: expected {shown(value)}, found {shown(found)}"


def _of_events(expected: Expected, run: Run) -> Iterator[str]:
    named = {word.split()[0] for word in (*expected.events, *expected.counts)}
    named |= {type for types in expected.events_by_step.values() for type in types}
    events = run.events(with_suspensions=bool(named & SUSPENSIONS))
    if expected.events:
        found = [f"{event.type} {event.step}" if event.step else event.type for event in events]
        if found != expected.events:
            yield "\n  ".join(["events: expected", *expected.events, "found", *found])
    by_step: defaultdict[str, list[str]] = defaultdict(list)
    for event in events:
        if event.step:
            by_step[event.step].append(event.type)
    for step, types in expected.events_by_step.items():
        if by_step[step] != types:
            yield f"events of {step}: expected {types}, found {by_step[step]}"
    if expected.events_by_step and (more := by_step.keys() - expected.events_by_step.keys()):
        yield f"events of steps that are not expected: { ({step: by_step[step] for step in more}) }"
    if expected.longest_wait is not None and run.longest_wait() != expected.longest_wait:
        yield f"longest_wait: expected {expected.longest_wait:g} s, found {run.longest_wait()}"
    counts = Counter(f"{event.type} {event.step}" for event in run.log)
    for what, times in expected.counts.items():
        if counts[what] != times:
            yield f"{what}: expected {times} times, found {counts[what]}"
