"""explain: why a step waits, was skipped, was retried, failed or ran."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from ..attempts import failed_items, lines, time
from ..ending import dropped, quarantine, warnings
from ..failure import WrongUse
from ..options import DataOption, JsonOption
from ..output import cell, command, print_json, say, show
from ..recordings import RecordedArgument, recording_of

WIDEST = 120
# items of a loop that failed, where every step is told in short
FEW_ITEMS = 3
STYLES = {"ok": "green", "failed": "bold red", "skipped": "dim", "stopped": "red", "not reached": "dim"}


@command
def explain(
    recorded: RecordedArgument,
    step: Annotated[
        str | None, typer.Argument(metavar="[STEP]", help="Only this step, with all that led to it.")
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say why a step waits, was skipped, was retried, failed or ran: the events behind it, each condition that was
    asked, and the values that it saw. Without STEP, every step in short."""
    from ...engine.explain import explain as ask
    from ...telemetry.masking import Masking
    from ..playbooks import recorded_plan

    found = recording_of(recorded, data)
    plan = recorded_plan(found)
    try:
        answer = ask(found.execution_id, found.events, plan, found.workload, step)
    except KeyError:
        raise WrongUse(f"the playbook has no step {step!r}; it has {', '.join(plan.steps)}") from None
    leases = {row["command_id"]: row for row in found.commands}
    for wait in answer["waits"]:
        wait.update(_lease(leases.get(wait.get("command_id"))))
    for run in answer["steps"]:
        run["status"] = _status(run, answer["waits"])
    document = Masking().tree(answer)
    if as_json:
        print_json(document)
    else:
        _show(document, whole=step is not None)


def _lease(row: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the log does not say of a command: who has it."""
    if row is None or row["status"] == "delayed":
        return {}
    names = ("status", "worker", "deliveries", "lease_until")
    return {name: row[name] for name in names if row[name] is not None}


def _status(run: Mapping[str, Any], waits: list[dict[str, Any]]) -> str:
    """The log alone does not say whether a worker has taken what is out."""
    own = {
        wait.get("status")
        for wait in waits
        if wait["for"] == "worker" and (wait["step"], wait["generation"]) == (run["step"], run["generation"])
    }
    return "queued" if own == {"queued"} else "running" if "running" in own else str(run["status"])


def _show(document: Mapping[str, Any], *, whole: bool) -> None:
    from rich.text import Text

    text = Text()
    for line, style in _lines(document, whole=whole):
        text.append(line + "\n", style=style)
    text.rstrip()
    show(text)
    if not document["steps"]:
        say("nothing to tell")


def _lines(document: Mapping[str, Any], *, whole: bool) -> Iterator[tuple[str, str]]:
    yield f"execution {document['execution_id']}: {document['status']}", "bold"
    if document["quarantined"]:
        for text in quarantine(document["execution_id"], document["error"]):
            yield f"  {text}", "red"
    elif document["error"]:
        yield f"  {document['error'].get('code')}: {document['error'].get('message')}", "red"
    if document["dropped"]:
        yield f"  {dropped(time(document['dropped']['at']), document['dropped']['by'])}", "red"
    for text in warnings(document["warnings"]):
        yield f"  {text}", "yellow"
    for wait in document["waits"]:
        yield f"  waits for a {wait['for']}: {wait['step']}: {wait['text']}{_held(wait)}", "yellow"
    for run in document["steps"]:
        again = f" (run {run['generation']})" if (run["generation"] or 1) > 1 else ""
        yield f"{run['step']}{again}: {run['status']}: {run['why']}", STYLES.get(run["status"], "yellow")
        yield from _items(run, whole=whole)
        if whole:
            yield from _chain(run["chain"])


def _items(run: Mapping[str, Any], *, whole: bool) -> Iterator[tuple[str, str]]:
    """The items of a loop that failed; in short, a few of them."""
    failed = run.get("failed_items")
    if not failed:
        return
    items = failed["first"] if whole else failed["first"][:FEW_ITEMS]
    for text in failed_items(items, failed["count"] - len(items)):
        yield f"  {text}", "yellow"


def _chain(chain: list[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for entry in chain:
        step = f"{entry['step']}: " if entry["step"] else ""
        yield f"  {entry['seq']:>6}  {time(entry['at'])}  {step}{entry['text']}", ""
        for text in lines(entry):
            yield f"          {text}", "yellow"
        for asked in entry.get("asked", ()):
            target = f" -> {asked['target']}" if "target" in asked else ""
            answer = {True: "yes", False: "no"}.get(asked.get("holds"), "cannot be told")
            yield f"          {asked['about']} {asked['index']}{target}, line {asked.get('line')}: {answer}", "cyan"
            yield f"            when {_short(asked['when'])}", "dim"
            for path, value in asked.get("values", {}).items():
                yield f"            {path} = {_short(value)}", "dim"
            if "error" in asked:
                yield f"            {asked['error']}", "red"


def _held(wait: Mapping[str, Any]) -> str:
    if "due" in wait:
        return f" at {time(wait['due'])}"
    if wait.get("status") == "running":
        return (
            f": running; {wait.get('worker')} has it until {wait.get('lease_until')}, delivery {wait.get('deliveries')}"
        )
    if wait.get("status") == "queued":
        return ": queued; no worker has it yet"
    return ""


def _short(value: Any) -> str:
    text = "null" if value is None else cell(value)
    return text if len(text) <= WIDEST else text[: WIDEST - 3] + "..."
