"""The report of a run: as JSON for machines, as Markdown for people."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .judge import EQUIVALENT, NOTICED, SURVIVED, WRONG, Verdict
from .kinds import SEVERE

# packages in which at most a tenth may survive; in others survivors are only reported
STRICT = frozenset({"engine", "orchestrator", "store", "worker"})
SHARE = 0.10


@dataclass(slots=True)
class Report:
    command: str
    at: str
    package_of: dict[str, str] = field(default_factory=dict)
    verdicts: list[tuple[str, Verdict]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    reasons: dict[tuple[str, str, str, str], str] = field(default_factory=dict)
    simulated: Sequence[str] = ()
    seconds: float = 0.0
    jobs: int = 1
    unfinished: int = 0

    def add(self, package: str, verdict: Verdict) -> None:
        self.verdicts.append((package, verdict))

    @property
    def packages(self) -> dict[str, list[Verdict]]:
        found: defaultdict[str, list[Verdict]] = defaultdict(list)
        for package, verdict in self.verdicts:
            found[package].append(verdict)
        return dict(sorted(found.items()))

    @property
    def failures(self) -> list[str]:
        """Why the exit status is 1."""
        failures = list(self.errors)
        for package, verdicts in self.packages.items():
            generated = [one for one in verdicts if not one.fault.name and one.status != EQUIVALENT]
            survived = [one for one in generated if one.status == SURVIVED]
            if package in STRICT and len(survived) > SHARE * len(generated):
                failures.append(f"{package}: {len(survived)} of {len(generated)} survived, more than {SHARE:.0%}")
        for package, verdict in self.verdicts:
            fault = verdict.fault
            if verdict.status == WRONG:
                failures.append(f"planted {fault.name!r}: {verdict.by}")
            elif verdict.status == SURVIVED and fault.name:
                failures.append(f"planted {fault.name!r} ({fault.kind}) survived: {verdict.by}")
            elif verdict.status == SURVIVED and fault.kind in SEVERE:
                failures.append(f"{package}: a fault of kind {fault.kind} survived at {fault.place}")
        if self.unfinished:
            failures.append(f"{self.unfinished} faults were not judged: the run was broken off")
        return failures

    def write(self, folder: Path) -> None:
        """`report.md` and `report.json` in the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.md").write_text(self.markdown())
        (folder / "report.json").write_text(json.dumps(self._json(), indent=1) + "\n")

    def markdown(self) -> str:
        judged = [verdict for _, verdict in self.verdicts if verdict.status != EQUIVALENT]
        pace = sum(verdict.seconds for verdict in judged) / len(judged) if judged else 0.0
        lines = [
            "# Planted faults",
            "",
            f"    {self.command}",
            "",
            f"{self.at}; {len(judged)} faults in {self.seconds / 60:.0f} minutes on {self.jobs} "
            f"{'copy' if self.jobs == 1 else 'copies'} of the tree, {pace:.1f} s of tests for each.",
            "",
            *_table(
                ("package", "planted", "noticed", "of these too late", "survived", "equivalent"),
                [
                    (package, len(found), count[NOTICED], late, _share(count, len(found)), count[EQUIVALENT])
                    for package, found in self.packages.items()
                    for count in [Counter(one.status for one in found)]
                    for late in [sum(one.late for one in found)]
                ],
            ),
            "",
            "## What fails",
            "",
            *([f"- {line}" for line in self.failures] or ["Nothing."]),
            "",
            "## Survivors",
            "",
            *self._survivors(),
            "## Equivalent",
            "",
            *(
                [
                    f"- `{one.fault.place}` in `{one.fault.function or 'the module'}`: `{one.fault.mutated}`. {one.by}"
                    for _, one in self.verdicts
                    if one.status == EQUIVALENT
                ]
                or ["None."]
            ),
            "",
            "## Beside these",
            "",
            "`tests/simulation/mutants.py` plants these in the simulation, whose own test finds "
            "each of them: " + ", ".join(f"`{name}`" for name in self.simulated) + ".",
        ]
        return "\n".join(lines) + "\n"

    def _survivors(self) -> list[str]:
        lines: list[str] = []
        for package, verdict in self.verdicts:
            if verdict.status != SURVIVED:
                continue
            fault = verdict.fault
            name = f" {fault.name}," if fault.name else ""
            kind = f" ({fault.kind})" if fault.kind != "other" else ""
            left = f", {verdict.left_out} left out for time" if verdict.left_out else ""
            lines += [
                f"**`{fault.place}`**{name} {package}, `{fault.function or 'the module'}`{kind}: "
                f"{verdict.by or f'{verdict.tests} tests passed'}{left}",
                "```diff",
                verdict.diff,
                "```",
                "",
            ]
        return lines or ["None.", ""]

    def _json(self) -> dict[str, Any]:
        return {
            "command": self.command,
            "at": self.at,
            "seconds": round(self.seconds, 1),
            "failures": self.failures,
            "packages": {
                package: Counter(one.status for one in found) | {"planted": len(found)}
                for package, found in self.packages.items()
            },
            "faults": [
                {
                    "package": package,
                    "file": one.fault.file,
                    "line": one.fault.first,
                    "function": one.fault.function,
                    "name": one.fault.name,
                    "kind": one.fault.kind,
                    "original": one.fault.original,
                    "mutated": one.fault.mutated,
                    "status": one.status,
                    "by": one.by,
                    "late": one.late,
                    "tests": one.tests,
                    "left_out": one.left_out,
                    "seconds": round(one.seconds, 2),
                }
                for package, one in self.verdicts
            ],
            "simulated": list(self.simulated),
        }


def _share(count: Counter[str], planted: int) -> str:
    judged = planted - count[EQUIVALENT]
    return f"{count[SURVIVED]} ({count[SURVIVED] / judged:.0%})" if judged else "0"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines]
