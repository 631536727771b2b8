"""Plants one fault in a copy, runs the tests that cover it, and tells whether one of them noticed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from .covering import Test, stages
from .generate import Fault
from .tree import Outcome, Tree

NOTICED, SURVIVED, EQUIVALENT, WRONG = "noticed", "survived", "equivalent", "wrong"


@dataclass(frozen=True, slots=True)
class Verdict:
    fault: Fault
    status: str
    # the test that noticed, or why it is no answer
    by: str = ""
    late: bool = False
    tests: int = 0
    left_out: int = 0
    seconds: float = 0.0
    diff: str = ""


def judge(tree: Tree, fault: Fault, tests: Sequence[Test], budget: float, patience: float) -> Verdict:
    """By the covering tests, the promising ones first, until one fails.

    What runs against servers, or with a time-out, may fail beside a busy machine: only a unit test is believed at
    once, another is to fail twice, or else is put aside.
    """
    diff = fault.diff(tree.text(fault.file))
    ran, seconds = 0, 0.0
    with tree.with_text(fault.file, fault.text):
        for stage in stages(tests, budget):
            if seconds > 2 * budget:
                break
            waiting = {test.id: test for test in stage}
            while waiting:
                outcome = _run(tree, waiting.values(), patience)
                ran += len(outcome.tests)
                seconds += outcome.seconds
                if not outcome.noticed:
                    break
                suspect = outcome.late or next(iter(outcome.failed), "")
                if suspect in waiting and not suspect.startswith("tests/unit/"):
                    again = _run(tree, [waiting[suspect]], patience)
                    seconds += again.seconds
                    if not again.noticed:
                        for done in (*outcome.tests, suspect):
                            waiting.pop(done, None)
                        continue
                return Verdict(fault, NOTICED, _by(outcome), outcome.late is not None, ran, 0, seconds, diff)
    by = "" if tests else "no test runs it"
    return Verdict(fault, SURVIVED, by, False, ran, max(0, len(tests) - ran), seconds, diff)


def _run(tree: Tree, tests: Iterable[Test], patience: float) -> Outcome:
    # a test beside others is slower, and a fault may make it slower without harm
    limits = {test.id: patience + 8 * test.seconds for test in tests}
    return tree.run(list(dict.fromkeys(test.file for test in tests)), only=limits, settle=2 * patience)


def judge_planted(tree: Tree, fault: Fault) -> Verdict:
    """By the tests that the table names: each of them is to fail, by its own assertion and not on import."""
    verdict = Verdict(fault, NOTICED, diff=fault.diff(tree.text(fault.file)))
    with tree.with_text(fault.file, fault.text):
        for test in fault.tests:
            outcome = tree.run([test], limit=120.0)
            verdict = replace(
                verdict,
                tests=verdict.tests + len(outcome.tests),
                seconds=verdict.seconds + outcome.seconds,
                late=verdict.late or outcome.late is not None,
            )
            if outcome.exit == 0:
                return replace(verdict, status=SURVIVED, by=f"{test} passes")
            if outcome.late is None and not outcome.failed:
                return replace(verdict, status=WRONG, by=f"{test} did not run: {_last_line(outcome)}")
            verdict = replace(verdict, by=verdict.by or _by(outcome))
    return verdict


def _by(outcome: Outcome) -> str:
    if outcome.late is not None:
        return f"{outcome.late} (took too long)"
    return outcome.failed[0] if outcome.failed else _last_line(outcome)


def _last_line(outcome: Outcome) -> str:
    errors = [line for line in outcome.log.splitlines() if line.startswith(("ERROR", "E  "))]
    return (errors or outcome.log.strip().splitlines() or [f"exit status {outcome.exit}"])[-1].strip()[:200]
