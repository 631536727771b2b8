"""The part of RESULTS.md about other engines: one table, with the goals, from one run."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BEGIN = "<!-- Written by `make bench-peers`, to the next mark. -->"
END = "<!-- End of what `make bench-peers` writes. -->"
OURS = "ours"
RESTATE = "restate"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of a workload: `of` is "value" or a key beside it. `share`: what it may be of Restate's, or must at
    least be where more is better."""

    workload: str
    of: str
    title: str
    unit: str
    more_is_better: bool = False
    share: float | None = None


ROWS = (
    Row("chain100", "value", "chain of 100", "ms/step", share=0.8),
    Row("chain100", "cpu_ms", "chain of 100, CPU of the machine", "ms/step", share=1.0),
    Row("concurrent", "value", "200 x 5 at once", "steps/s", more_is_better=True, share=1.25),
    Row("concurrent", "cpu_ms", "200 x 5, CPU of the machine", "ms/step"),
    Row("start", "value", "start to end of one step, p50", "ms", share=0.8),
    Row("start", "p95", "start to end of one step, p95", "ms"),
    Row("start", "cpu_ms", "one start, CPU of the machine", "ms"),
    Row("fanout1000", "value", "fan-out of 1,000", "items/s", more_is_better=True, share=1.5),
    Row("fanout10000", "value", "fan-out of 10,000", "items/s", more_is_better=True, share=1.5),
    Row("history2000", "value", "2,000 steps in a row", "ms/step", share=0.8),
    Row("fib10", "value", "40 x fib(10)", "s", share=0.8),
    Row("fib33", "value", "10 x fib(33)", "s", share=0.8),
    Row("payload10", "value", "10 MB between two steps", "s"),
    Row("payload100", "value", "100 MB between two steps", "s"),
    Row("chain100_pipelined", "value", "chain of 100, pipelined", "ms/step"),
    Row("chain100_pipelined", "cpu_ms", "chain of 100, pipelined, CPU of the machine", "ms/step"),
)


def section(document: Mapping[str, Any]) -> str:
    """`document`: machine, versions and titles by engine, floors {name: text}, rounds {engine: [{workload: line}]}."""
    engines = [name for name in document["titles"] if name in document["rounds"]]
    titles = [f"{document['titles'][name]} {document['versions'][name]}".strip() for name in engines]
    machine = document["machine"]
    rounds = max((len(found) for found in document["rounds"].values()), default=0)
    lines = [
        BEGIN,
        "",
        f"{document['at']}, commit {document['commit']}; {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory_gb']} GB, Linux {machine['kernel']}, Python {document['python']}. {rounds} rounds, in each "
        "the engines one after another, each started anew. Medians of the rounds, with their ranges.",
        "",
        "| floor | |",
        "|---|---|",
        *(f"| {name} | {text} |" for name, text in document["floors"].items()),
        "",
        f"| | unit | {' | '.join(titles)} | ours / Restate | goal | |",
        f"|---|---|{'---|' * len(titles)}---|---|---|",
        *(_row(row, engines, document["rounds"]) for row in ROWS),
        "",
        END,
    ]
    return "\n".join(lines)


def write(document: Mapping[str, Any], path: Path) -> None:
    """Replace the section of the page, or add one at its end."""
    text = path.read_text() if path.exists() else ""
    before, mark, rest = text.partition(BEGIN)
    after = rest.partition(END)[2] if mark else ""
    if not mark:
        before = before.rstrip("\n") + "\n\n## Beside other engines\n\n"
        after = "\n"
    path.write_text(before + section(document) + after)


def _row(row: Row, engines: Sequence[str], rounds: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    values = {name: _values(row, rounds[name]) for name in engines}
    cells = [_cell(values[name], rounds[name], row.workload) for name in engines]
    ours, theirs = values.get(OURS), values.get(RESTATE)
    ratio = statistics.median(ours) / statistics.median(theirs) if ours and theirs else None
    shown = "" if ratio is None else f"{ratio:.2f}"
    goal = verdict = ""
    if row.share is not None:
        goal = f"{'≥' if row.more_is_better else '≤'} {row.share:g}"
    if row.share is not None and ratio is not None:
        reached = ratio >= row.share if row.more_is_better else ratio <= row.share
        verdict = "reached" if reached else f"**missed by {100 * abs(ratio / row.share - 1):.0f} %**"
    return f"| {row.title} | {row.unit} | {' | '.join(cells)} | {shown} | {goal} | {verdict} |"


def _values(row: Row, rounds: Sequence[Mapping[str, Any]]) -> list[float]:
    found = [each.get(row.workload, {}).get(row.of) for each in rounds]
    return [value for value in found if value is not None]


def _cell(values: Sequence[float], rounds: Sequence[Mapping[str, Any]], workload: str) -> str:
    if values:
        return f"{_number(statistics.median(values))} ({_number(min(values))} to {_number(max(values))})"
    errors = [each[workload]["error"] for each in rounds if each.get(workload, {}).get("error")]
    return f"failed: {errors[0].splitlines()[0][:80]}" if errors else ""


def _number(value: float) -> str:
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
