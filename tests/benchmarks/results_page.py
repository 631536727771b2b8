"""RESULTS.md: the measured part is written anew, what people wrote below the mark stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .targets import TARGETS, Target

MARK = "<!-- What stands above is written by `make bench`; what stands below is not. -->"
HEAD = "| workload | value | to reach | | floor | ratio | runs | CPU ms each | WAL bytes each | others |"
PARTS = 4


def write(document: Mapping[str, Any], path: Path) -> None:
    kept = path.read_text().partition(MARK)[2] if path.exists() else "\n"
    path.write_text(f"{page(document)}\n{MARK}{kept}")


def page(document: Mapping[str, Any]) -> str:
    machine, lines = document["machine"], document["lines"]
    floors = [line for line in lines if line["workload"].startswith("floor.")]
    rest = [line for line in lines if not line["workload"].startswith("floor.")]
    return "\n".join(
        [
            "# Results",
            "",
            f"{document['at']}, commit {document['commit']}; {machine['cpu']}, {machine['cores']} cores, "
            f"{machine['memory_gb']} GB, Linux {machine['kernel']}, Python {document['python']}, "
            f"PostgreSQL {document['postgres']}. `others`: cores that other processes of the machine used meanwhile; "
            "CPU and WAL are per step, item or start.",
            "",
            "| floor | value | |",
            "|---|---|---|",
            *(f"| {line['workload'][6:]} | {_number(line['value'])} {line['unit']} | |" for line in floors),
            "",
            HEAD,
            "|" + "---|" * (HEAD.count("|") - 1),
            *(row for line in rest for row in _rows(line)),
            "",
        ]
    )


def _rows(line: Mapping[str, Any]) -> list[str]:
    extra = line["extra"]
    if line["value"] is None:
        return [f"| {line['workload']} | failed: {extra.get('error', '')[:200]} | | | | | | | | |"]
    targets = TARGETS.get(line["workload"], ())
    first, *more = targets or (None,)
    cells = [
        line["workload"],
        f"{_number(line['value'])} {line['unit']}",
        *_judged(first, line),
        _number(line["floor"]),
        _number(line["ratio"]),
        " ".join(_number(value) for value in extra.get("runs", [])),
        _costs(_per(extra, "cpu_ms_per_")),
        _number(_per(extra, "wal_bytes_per_")),
        _span(extra.get("others_cores")),
    ]
    rows = [cells]
    rows += [["", f"{target.of} {_number(target.found(line))}", *_judged(target, line), *[""] * 6] for target in more]
    return [f"| {' | '.join(row)} |" for row in rows]


def _judged(target: Target | None, line: Mapping[str, Any]) -> list[str]:
    """What is to be reached, and whether it is."""
    if target is None:
        return ["", ""]
    value = target.found(line)
    if value is None:
        return [target.description(), "not measured"]
    missed = target.missed_by(value)
    if missed is None:
        return [target.description(), "reached"]
    return [
        target.description(),
        f"**missed by {100 * missed:.0f} %**" if target.limit else f"**missed by {_number(missed)}**",
    ]


def _per(extra: Mapping[str, Any], prefix: str) -> Any:
    return next((value for name, value in extra.items() if name.startswith(prefix)), None)


def _costs(parts: Mapping[str, float] | None) -> str:
    """All of it, and the processes that took the most."""
    if not parts:
        return ""
    largest = sorted(((value, name) for name, value in parts.items() if name != "all"), reverse=True)[:PARTS]
    return f"{_number(parts['all'])} ({', '.join(f'{name} {_number(value)}' for value, name in largest)})"


def _span(values: Sequence[float] | float | None) -> str:
    if values is None:
        return ""
    if isinstance(values, int | float):
        return _number(values)
    return _number(min(values)) if len(values) == 1 else f"{_number(min(values))} to {_number(max(values))}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"
