"""The results of playbooks' tests, for people and as a document."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .output import fault_line

if TYPE_CHECKING:
    from ..testing.cases import CaseResult, Mismatch

# a longer value is shown on several lines
MAX_LINE = 100


@dataclass(frozen=True, slots=True)
class Suite:
    """The results of one file. `faults`: why none of its cases could run, each with its `file`."""

    file: str
    cases: Sequence[CaseResult] = ()
    faults: Sequence[Mapping[str, Any]] = ()

    def document(self) -> dict[str, Any]:
        return {"file": self.file, "errors": list(self.faults), "cases": [_document(case) for case in self.cases]}


def _document(case: CaseResult) -> dict[str, Any]:
    return {
        "name": case.name,
        "line": case.line,
        "passed": case.passed,
        "seconds": round(case.seconds, 3),
        "problem": case.problem,
        "mismatches": [
            {"what": each.what, "line": each.line, "expected": each.expected, "actual": each.actual}
            for each in case.mismatches
        ],
    }


def lines(suite: Suite) -> Iterator[str]:
    yield suite.file
    for fault in suite.faults:
        yield f"  error  {fault_line(fault, fault['file'])}"
    for case in suite.cases:
        yield f"  {'ok  ' if case.passed else 'FAIL'}  {case.name}  ({1000 * case.seconds:.0f} ms)"
        for text in reasons(suite.file, case):
            yield f"        {text}"


def reasons(file: str, case: CaseResult) -> Iterator[str]:
    """Why a case has failed: each difference after the line of what was expected."""
    if case.problem is not None:
        yield f"{file}:{case.line}: {case.problem}"
    for mismatch in case.mismatches:
        yield f"{file}:{mismatch.line}: {mismatch.what}"
        yield from (f"  {text}" for text in difference(mismatch))


def difference(mismatch: Mismatch) -> Iterator[str]:
    """The expected value with -, the actual one with +; lines of longer values that are in both with neither."""
    expected, actual = _text(mismatch.expected), _text(mismatch.actual)
    if len(expected) == len(actual) == 1:
        yield f"- {expected[0]}"
        yield f"+ {actual[0]}"
        return
    yield from (line for line in difflib.ndiff(expected, actual) if not line.startswith("?"))


def _text(value: Any) -> list[str]:
    short = json.dumps(value, ensure_ascii=False)
    return [short] if len(short) <= MAX_LINE else json.dumps(value, ensure_ascii=False, indent=2).splitlines()
