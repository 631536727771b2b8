"""The text output of `noetls diff`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .output import cell

if TYPE_CHECKING:
    from rich.console import RenderableType

MAX_CHARACTERS = 160
MAX_LINES = 40
CONTEXT_LINES = 2
STYLES = {"-": "red", "+": "green", " ": "dim"}


def report(document: Mapping[str, Any]) -> RenderableType:
    """A diff document, section by section."""
    from rich.text import Text

    text = Text()
    for line, style in lines(document):
        text.append(line + "\n", style=style)
    text.rstrip()
    return text


def lines(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Pairs of a line and its style."""
    if document["empty"]:
        yield f"execution {document['execution_id']}: the same decisions, the same calls", "green"
        return
    yield from _divergence_lines(document["divergence"])
    for name, mark, style in (("added", "+", "green"), ("removed", "-", "red")):
        for run in document[name]:
            suffix = f", after {', '.join(run['after'])}" if run["after"] else ""
            yield f"{mark} {_title(run)} is {name}{suffix}", style
    for entry in document["rerouted"]:
        yield f"~ {_title(entry)} leads to {_targets(entry['now'])}, not to {_targets(entry['recorded'])}", "yellow"
        for change in entry["because"]:
            yield from _change(change)
    for entry in document["reparameterised"]:
        yield f"~ {entry['step']} runs with other parameters", "yellow"
        for change in entry["changes"]:
            yield from _change(change)
    if document["undetermined"]:
        yield "? unknown, because it was not recorded:", "dim"
        for name, why in document["undetermined"].items():
            yield f"    {name}: {why}", "dim"
    yield from _ending(document["ending"])


def _divergence_lines(divergence: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if divergence is None:
        return
    step = f" of {divergence['step']}#{divergence['generation']}" if divergence["step"] else ""
    yield f"the first divergence is at event {divergence['seq']}, {divergence['event']}{step}", "bold"
    both = list(difflib.ndiff(divergence["recorded"] or ["nothing"], divergence["now"] or ["nothing"]))
    for line in both[:MAX_LINES]:
        if line[0] in STYLES:
            yield f"    {line[0]} {line[2:]}", STYLES[line[0]]
    if len(both) > MAX_LINES:
        yield f"    and {len(both) - MAX_LINES} more decisions", "dim"


def _change(change: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    run = f" (run {change['generation']})" if change.get("generation", 1) > 1 else ""
    recorded, now = change["recorded"], change["now"]
    if _is_long(recorded) and _is_long(now):
        yield f"    {change['where']}{run}:", ""
        yield from _text_diff(recorded, now)
    else:
        yield f"    {change['where']}{run}:", ""
        yield f"      - {_short(recorded)}", "red"
        yield f"      + {_short(now)}", "green"


def _text_diff(recorded: str, now: str) -> Iterator[tuple[str, str]]:
    found = difflib.unified_diff(recorded.splitlines(), now.splitlines(), lineterm="", n=CONTEXT_LINES)
    # without the two header lines, which name files
    shown = list(found)[2:]
    for line in shown[:MAX_LINES]:
        if not line.startswith("@@"):
            yield f"      {line[0]} {line[1:]}"[: MAX_CHARACTERS + 8], STYLES.get(line[0], "dim")
    if len(shown) > MAX_LINES:
        yield f"      and {len(shown) - MAX_LINES} more lines", "dim"


def _ending(ending: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    was, now = _end(ending["recorded"]), _end(ending["now"])
    yield (f"same ending: {was}" if was == now else f"recorded ending: {was}; now: {now}"), "bold"


def _end(end: Mapping[str, Any]) -> str:
    if end["status"] == "running":
        return "still running"
    error = f" ({end.get('error')}: {end.get('message')})" if end.get("error") else ""
    suffix = f" with {end['result_step']}" if end.get("result_step") else ""
    return f"{end['status']}{suffix}{error}"


def _title(run: Mapping[str, Any]) -> str:
    return run["step"] if run["generation"] == 1 else f"{run['step']} (run {run['generation']})"


def _targets(steps: list[str]) -> str:
    return ", ".join(steps) or "the end"


def _is_long(value: Any) -> bool:
    return isinstance(value, str) and "\n" in value


def _short(value: Any) -> str:
    text = cell(value) if value is not None else "null"
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 3] + "..."
