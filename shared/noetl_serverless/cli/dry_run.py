"""run --dry-run: reads what it is given, and shows its paths to people."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import InvalidPlaybook, Problem
from ..plurals import counted
from .failure import Failure, WrongUse
from .options import read_json, read_text

if TYPE_CHECKING:
    from ..playbook.plan import Plan
    from ..testing.answers import Given, TaskKey
    from ..testing.dry_run.explore import DryRun

MAX_CHARACTERS: Final = 200
# the key of an unknown value in a document
_UNKNOWN: Final = "$unknown"


def plan_to_run(text: str, name: str, *, strict: bool) -> tuple[Plan, list[dict[str, Any]]]:
    """The plan of a playbook, checked as at its registration, with the warnings about it. Failure that lists all
    faults."""
    from ..control_plane.registration import document_of
    from ..tools.plans import load_plan

    try:
        checked = document_of(text, strict=strict)
        return load_plan(checked.content), [fault.to_dict() for fault in checked.warnings]
    except InvalidPlaybook as problem:
        raise Failure(f"{name}: {problem.detail}", {**problem.to_dict(), "file": name}) from None


def dry_run_of(plan: Plan, payload: Mapping[str, Any], answers: Mapping[TaskKey, Given]) -> DryRun:
    """WrongUse for a payload that does not fit."""
    from ..testing.dry_run.explore import dry_run

    try:
        return asyncio.run(dry_run(plan, payload, answers))
    except Problem as problem:
        raise WrongUse(problem.detail, problem.to_dict()) from None


def answers_of(plan: Plan, file: Path | None, given: Sequence[str]) -> dict[TaskKey, Given]:
    """The answers of `--answers` and, over these, of each `--answer`. WrongUse for those that do not fit."""
    answers = {} if file is None else _read(plan, read_text(str(file)), str(file))
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise WrongUse(f"--answer {text!r}: expected step=JSON or step.task=JSON")
        document = json.dumps({name: read_json(value, f"--answer {name}")})
        answers.update(_read(plan, document, f"--answer {name}"))
    return answers


def _read(plan: Plan, text: str, place: str) -> dict[TaskKey, Given]:
    from ..playbook.document import MapNode, Unreadable, read_document
    from ..playbook.faults import Faults
    from ..testing.answers import read_answers

    try:
        document = read_document(text)
        if not isinstance(document.root, MapNode):
            raise WrongUse(f"{place}: expected an object of answers, by step or step.task")
        faults = Faults(document, strict=True)
        answers = read_answers(plan, document.root, (), faults, may_run=False)
        faults.raise_if_any()
    except Unreadable as unreadable:
        raise WrongUse(f"{place}: {unreadable.fault}") from None
    except InvalidPlaybook as problem:
        title = "the answers do not fit the playbook"
        raise WrongUse(f"{place}: {problem.detail}", {**problem.to_dict(), "title": title, "file": place}) from None
    return answers


# -- for people


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """The text of a dry run's document."""
    paths = document["paths"]
    yield f"{document['path']}: no tool is called; each without an answer is taken to succeed, with an unknown result"
    yield from _limits(document["limits"], "execution")
    for index, path in enumerate(paths):
        yield ""
        same, other = max(
            ((_common(path["steps"], earlier["steps"]), -number) for number, earlier in enumerate(paths[:index])),
            default=(0, 0),
        )
        steps = "step 1 is" if same == 1 else f"steps 1 to {same} are"
        begin = f"; {steps} as in path {1 - other}" if same else ""
        yield f"path {index + 1} of {len(paths)}: {_STATUS.get(path['status'], path['status'])}{begin}"
        for number, step in enumerate(path["steps"][same:], same + 1):
            yield from _step(number, step)
        if path["more_steps"]:
            yield f"  and {counted(path['more_steps'], 'more step', 'more steps')}"
        if path["error"] is not None:
            yield f"  error: {_error(path['error'])}"
        for warning in path["warnings"]:
            yield f"  warning: {warning['code']}: {warning['message']}"
    if not document["complete"]:
        yield ""
        yield f"there are more than {counted(len(paths), 'path')}; the rest were not followed"


_STATUS: Final = {"running": "too long, and not followed to its end"}


def _common(steps: Sequence[Any], others: Sequence[Any]) -> int:
    """How many steps both begin with."""
    for index, (step, other) in enumerate(zip(steps, others, strict=False)):
        if step != other:
            return index
    return min(len(steps), len(others))


def _step(number: int, step: Mapping[str, Any]) -> Iterator[str]:
    turn = f" (run {step['generation']})" if step["generation"] > 1 else ""
    skipped = "  skipped" if step["skipped"] else ""
    calls = step["calls"]
    kind = f"  {calls[0]['kind']}" if calls and calls[0]["name"] == step["step"] else ""
    pool = f"  in pool {step['pool']}" if step["pool"] else ""
    yield f"  {number}. {step['step']}{turn}{kind}{pool}{skipped}"
    details = [
        line for condition in step["conditions"] if condition["about"] == "admission" for line in _when(condition)
    ]
    if loop := step.get("loop"):
        count = "an unknown number of items" if loop["count"] is None else counted(loop["count"], "item")
        details.append(f"loop   {loop['mode']}, {count} of {loop['in']}")
    details += _limits(step["limits"], "call")
    for call in calls:
        details += _call(call, in_pipeline=call["name"] != step["step"])
    if step["more_calls"]:
        details.append(f"and {counted(step['more_calls'], 'more call', 'more calls')}")
    details += [f"set    {name} = {shown(value)}" for name, value in step["set"].items()]
    details += [line for condition in step["conditions"] if condition["about"] == "arc" for line in _when(condition)]
    if step["error"] is not None:
        details.append(f"error  {_error(step['error'])}")
    if step["next"]:
        details.append(f"next   {', '.join(step['next'])}")
    yield from (f"       {line}" for line in details)


def _limits(limits: Mapping[str, Any], unit: str) -> Iterator[str]:
    """In the whole deployment; a dry run waits for none of them."""
    if (concurrency := limits.get("concurrency")) is not None:
        yield f"limit  {counted(concurrency['limit'], unit)} at once, by key {_source(concurrency['key'])}"
    if (rate := limits.get("rate")) is not None:
        yield f"limit  {counted(rate['limit'], unit)} within {rate['per']:g} s, by key {_source(rate['key'])}"


def _call(call: Mapping[str, Any], *, in_pipeline: bool) -> Iterator[str]:
    indent = ""
    if in_pipeline:
        attempt = f", attempt {call['attempt']}" if call["attempt"] > 1 else ""
        yield f"task   {call['task']}  {call['kind']}{attempt}"
        indent = "  "
    elif call["attempt"] > 1:
        yield f"attempt {call['attempt']}"
    if call["input"]:
        yield f"{indent}input  {shown(call['input'])}"
    for name, value in call["config"].items():
        yield f"{indent}{name:<6} {shown(value)}"
    for rule in call["rules"]:
        if rule["when"] is None:
            yield f"{indent}rule   {rule['do']}: else"
            continue
        how = {True: "holds", False: "does not hold", None: "undecided, taken not to hold"}[rule["holds"]]
        yield f"{indent}rule   {rule['do']}: {how}: {_source(rule['when'])}{_line(rule)}"
    if call["waits"] is not None:
        yield f"{indent}waits  {call['waits']:g} s"


def _when(condition: Mapping[str, Any]) -> Iterator[str]:
    """Nothing for one that always holds."""
    if condition["when"] is None:
        return
    holds = "holds" if condition["holds"] else "does not hold"
    if condition["undecided"]:
        holds = f"undecided, taken {'to hold' if condition['holds'] else 'not to hold'}"
    reads = [f"{name} = {shown(value)}" for name, value in condition["values"].items() if not _is_unknown(value)]
    read = f"  ({', '.join(reads)})" if reads else ""
    what = f"arc    {condition['target']}" if condition["about"] == "arc" else "admit "
    yield f"{what}: {holds}: {_source(condition['when'])}{_line(condition)}{read}"


def _line(place: Mapping[str, Any]) -> str:
    return f" (line {place['line']})" if place["line"] else ""


def _error(error: Mapping[str, Any]) -> str:
    line = error.get("line") or error.get("at")
    return f"{error.get('code')}: {error.get('message')}{f' (line {line})' if line else ''}"


def _is_unknown(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {_UNKNOWN}


def shown(value: Any) -> str:
    """A value in one line, as JSON; an unknown part as `unknown` with its template in parentheses."""
    text = _text(value)
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}... ({len(text):,} characters)"


def _text(value: Any) -> str:
    if _is_unknown(value):
        return f"unknown ({_source(value[_UNKNOWN])})"
    if isinstance(value, dict) and value.keys() == {"text", "values"}:
        # SQL, and what is bound to its placeholders
        return str(value["text"]) + (f"  with {_text(value['values'])}" if value["values"] else "")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return json.dumps(value, ensure_ascii=False, default=str)


def _source(template: str) -> str:
    return " ".join(template.split())
