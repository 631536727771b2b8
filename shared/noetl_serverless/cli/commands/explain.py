"""explain: why a step waits, was skipped, was retried, failed or ran."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any
from urllib.parse import quote

import typer

from ...error_codes import REFERENCE_NOT_AVAILABLE
from ...plurals import counted
from ..attempts import failed_items, lines, time
from ..client import Client
from ..code_error import code_error_lines
from ..ending import compensation, dropped, kept_signals, paused, quarantine, retried, warnings
from ..failure import Refused, WrongUse
from ..options import DataOption, JsonOption
from ..output import cell, command, echo, print_json, show
from ..recordings import RecordedArgument, is_capsule, recording_of
from ..references import reference_in, reference_text
from ..target import running_stack

MAX_CHARACTERS = 120
# failed items of a loop that are shown without STEP
MAX_ITEMS = 3
# pending or leased commands of a loop that are shown
MAX_COMMANDS = 3
# lines of a step's output that are shown
MAX_LINES = 20
# of several statuses that the commands of a step have, it has the first of these, as in show
PLACES = ("running", "paused", "queued", "delayed", "parked")
STYLES = {"ok": "green", "failed": "bold red", "skipped": "dim", "stopped": "red", "not reached": "dim"}


@command
def explain(
    recorded: RecordedArgument,
    step: Annotated[
        str | None, typer.Argument(metavar="[STEP]", help="Explain only this step, with everything that led to it.")
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain why a step waits, was skipped, was retried, failed or ran: the events behind it, each condition that was
    evaluated, and the values that it used. Without STEP, summarize every step."""
    from ...inspection.explain import explain as ask
    from ...telemetry.masking import Masking
    from ..playbooks import recorded_plan

    found = recording_of(recorded, data)
    plan = recorded_plan(found)
    try:
        answer = ask(found.execution_id, found.events, plan, found.workload, step)
    except KeyError:
        raise WrongUse(f"the playbook has no step {step!r}; its steps are {', '.join(plan.steps)}") from None
    leases = {row["command_id"]: row for row in found.commands}
    for wait in answer["waits"]:
        wait.update(_lease(leases.get(wait.get("command_id"))))
    for run in answer["steps"]:
        run["status"], run["why"] = _place(run, answer["waits"])
    if step is not None and not is_capsule(recorded):
        with running_stack(data) as client:
            add_unavailable(client, found.execution_id, answer["steps"])
    document = Masking().tree(answer)
    if as_json:
        print_json(document)
    else:
        _show(document, recorded, whole=step is not None)


def add_unavailable(client: Client, execution_id: str, runs: Sequence[dict[str, Any]]) -> None:
    """Add `unavailable`, which says why, to the latest run of each step whose stored result cannot be had any more; the
    log does not know."""
    latest = {run["step"]: run for run in runs}
    for name, run in latest.items():
        if "stored" not in run:
            continue
        try:
            client.get(f"/api/result/{execution_id}/{quote(name, safe='')}")
        except Refused as refused:
            if refused.problem.get("code") == REFERENCE_NOT_AVAILABLE:
                run["unavailable"] = refused.detail


def _lease(row: Mapping[str, Any] | None) -> dict[str, Any]:
    """The worker and the lease of a command, which the log does not have."""
    if row is None or row["status"] == "delayed":
        return {}
    names = ("status", "worker", "deliveries", "lease_until", "limits")
    return {name: row[name] for name in names if row.get(name) is not None}


def _place(run: Mapping[str, Any], waits: list[dict[str, Any]]) -> tuple[str, str]:
    """Status and reason of a step run. The log alone does not show whether a worker has leased a pending command."""
    from ...inspection.explain import WAITING_STATUS

    run_waits = [wait for wait in waits if (wait["step"], wait.get("generation")) == (run["step"], run["generation"])]
    statuses = {wait.get("status") or WAITING_STATUS.get(wait["for"]) for wait in run_waits}
    place = next((place for place in PLACES if place in statuses), None)
    if place is None:
        return str(run["status"]), str(run["why"])
    why = "; ".join(_wait_texts(run_waits[:MAX_COMMANDS]))
    if len(run_waits) > MAX_COMMANDS:
        why += f"; and {len(run_waits) - MAX_COMMANDS} more"
    return place, why


def _show(document: Mapping[str, Any], recorded: str, *, whole: bool) -> None:
    from rich.text import Text

    text = Text()
    for line, style in _lines(document, recorded, whole=whole):
        text.append(line + "\n", style=style)
    text.rstrip()
    show(text)
    if not document["steps"]:
        echo("nothing to show")


def _lines(document: Mapping[str, Any], recorded: str, *, whole: bool) -> Iterator[tuple[str, str]]:
    shown_status = f"{document['status']} (paused)" if document.get("paused") else document["status"]
    yield f"execution {document['execution_id']}: {shown_status}", "bold"
    if document.get("restarted_from"):
        yield f"goes on with execution {document['restarted_from']}", "dim"
    if paused_since := document.get("paused"):
        text = paused(time(paused_since["since"]), paused_since.get("reason"), paused_since.get("by"))
        yield f"  {text}", "yellow"
    if kept := document["kept_signals"]:
        yield f"  {kept_signals({signal['signal']: signal['count'] for signal in kept})}", "yellow"
    for advice in filter(None, (signal["advice"] for signal in kept)):
        yield f"    {advice}", "yellow"
    if document["quarantined"]:
        for text in quarantine(document["execution_id"], document["error"]):
            yield f"  {text}", "red"
    elif document["error"]:
        yield f"  {document['error'].get('code')}: {document['error'].get('message')}", "red"
        for text in compensation(document["error"]):
            yield f"  {text}", "red"
    if document["dropped"]:
        yield f"  {dropped(time(document['dropped']['at']), document['dropped']['by'])}", "red"
    for text in warnings(document["warnings"]):
        yield f"  {text}", "yellow"
    for period in document["retried"]:
        yield f"  {retried(time(period['since']), time(period['until']))}", "yellow"
    for text in _waits(document["waits"]):
        yield f"  {text}", "yellow"
    for run in document["steps"]:
        generation = f" (run {run['generation']})" if (run["generation"] or 1) > 1 else ""
        pool = f" in pool {run['pool']}" if "pool" in run else ""
        yield f"{run['step']}{generation}{pool}: {run['status']}: {run['why']}", STYLES.get(run["status"], "yellow")
        for called in run.get("called", ()):
            yield f"  {called['task']} is the tool {called['path']} version {called['version']} of the catalog", "dim"
        if "frame_rows" in run:
            yield f"  each of its items is a frame of up to {counted(run['frame_rows'], 'row')} (process: frame)", "dim"
        if whole and "unavailable" in run:
            yield f"  its result cannot be read: {run['unavailable']}", "yellow"
        elif whole and (reference := reference_in(run.get("stored"))) is not None:
            yield f"  its result is {reference_text(reference)}", "dim"
        if whole and "item_results" in run:
            results = f"the list of the results of its {counted(run['item_results'], 'item')}"
            yield f"  its result is {results}: steps read {{{{ {run['step']} }}}}", "dim"
        for missed in run.get("unmatched", ()):
            found_no = f"output.select: {missed['path']} matched nothing in its result"
            yield f"  {found_no}, so {missed['as']!r} cannot be read where nothing is fetched", "yellow"
        yield from _items(recorded, run, whole=whole)
        if whole:
            yield from _cause_lines(run["chain"])


def _waits(waits: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """What the execution waits for. Of a step's commands in the same status, only MAX_COMMANDS are listed, and the rest
    are counted."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for wait in waits:
        groups.setdefault((_heading(wait), wait["step"]), []).append(wait)
    for (what, step), group in groups.items():
        for text in _wait_texts(group[:MAX_COMMANDS]):
            yield f"{what}: {step}: {text}"
        if len(group) > MAX_COMMANDS:
            yield f"{what}: {step}: and {len(group) - MAX_COMMANDS:,} more like these; use --json to show them"


def _heading(wait: Mapping[str, Any]) -> str:
    if wait.get("status") == "running":
        return "runs at a worker"
    if wait.get("status") == "queued" and wait.get("limits"):
        return "waits for a limit"
    return f"waits for {'an' if wait['for'] == 'approval' else 'a'} {wait['for']}"


def _items(recorded: str, run: Mapping[str, Any], *, whole: bool) -> Iterator[tuple[str, str]]:
    """Lines about the failed items of a loop; without `whole`, only the first MAX_ITEMS."""
    failed = run.get("failed_items")
    if not failed:
        return
    items = failed["first"] if whole else failed["first"][:MAX_ITEMS]
    for text in failed_items(items, failed["unnamed"]):
        yield f"  {text}", "yellow"
    if not whole and failed["count"] > len(items):
        more = failed["count"] - len(items)
        yield f"  and {more} more items failed; to see them, run: noetls explain {recorded} {run['step']}", "yellow"


def _cause_lines(chain: list[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for entry in chain:
        step = f"{entry['step']}: " if entry["step"] else ""
        kept = f" (kept in quarantine since {time(entry['kept_since'])})" if "kept_since" in entry else ""
        yield f"  {entry['seq']:>6}  {time(entry['at'])}  {step}{entry['text']}{kept}", ""
        for text in lines(entry):
            yield f"          {text}", "yellow"
        for text in code_error_lines(entry.get("code_error")):
            yield f"          {text}", "red"
        yield from _printed(entry.get("stdout", ""))
        for condition in entry.get("asked", ()):
            target = f" -> {condition['target']}" if "target" in condition else ""
            answer = {True: "yes", False: "no"}.get(condition.get("holds"), "unknown")
            yield (
                f"          {condition['about']} {condition['index']}{target}, line {condition.get('line')}: {answer}",
                "cyan",
            )
            yield f"            when {_short(condition['when'])}", "dim"
            for path, value in condition.get("values", {}).items():
                yield f"            {path} = {_short(value)}", "dim"
            if "error" in condition:
                yield f"            {condition['error']}", "red"


def _printed(text: str) -> Iterator[tuple[str, str]]:
    """The first lines of what the code of a step has printed."""
    printed = text.splitlines()
    for line in printed[:MAX_LINES]:
        yield f"          prints: {_short(line)}", "dim"
    if len(printed) > MAX_LINES:
        yield f"          prints: and {len(printed) - MAX_LINES} more lines; use --json to show them", "dim"


def _wait_texts(waits: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """What limits several of them is said once."""
    before = None
    for wait in waits:
        limits = wait.get("limits")
        yield f"{wait['text']}{'; queued: by the same' if limits and limits == before else _lease_text(wait)}"
        before = limits


def _lease_text(wait: Mapping[str, Any]) -> str:
    if "left_ms" in wait:
        return f"; paused with the execution, {wait['left_ms'] / 1000:.3f} s before its time"
    if wait.get("status") == "paused":
        return "; paused with the execution"
    if "due" in wait:
        # a signal or an approval may come before
        return f" {'until' if 'signal' in wait else 'at'} {time(wait['due'])}"
    if wait.get("status") == "running":
        where = f"it runs at {wait.get('worker')}"
        return f"; {where}, delivery {wait.get('deliveries')}, lease until {wait.get('lease_until')}"
    if wait.get("status") == "queued" and wait.get("limits"):
        from ...inspection.limit_text import limits_text

        return f"; queued: {limits_text(wait['limits'])}"
    if wait.get("status") == "queued":
        return "; queued: no worker has it yet"
    return ""


def _short(value: Any) -> str:
    text = "null" if value is None else cell(value)
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 3] + "..."
