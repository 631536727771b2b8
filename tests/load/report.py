"""What a run tells: as JSON for machines, as Markdown for people."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.result import rounded

from .growth import Growth


@dataclass(slots=True)
class Report:
    command: str
    at: str
    machine: dict[str, Any]
    minutes: float
    # executions per second
    peak: float = 0.0
    rate: float = 0.0
    executions: int = 0
    events: int = 0
    # cores that the rest of the machine kept busy: with many, the peak was another's to take
    others: float = 0.0
    growths: list[Growth] = field(default_factory=list)
    # seconds since the load began, and every figure
    samples: list[dict[str, float]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def findings(self) -> list[str]:
        return [*self.wrong, *(str(growth) for growth in self.growths if not growth.within)]

    def write(self, folder: Path) -> None:
        """`load.json` and `load.md` in the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        document = {**asdict(self), "findings": self.findings}
        (folder / "load.json").write_text(json.dumps(rounded(document), indent=1) + "\n")
        (folder / "load.md").write_text(self.markdown())

    def markdown(self) -> str:
        rows = [
            f"| {one.name} | {one.first:.4g} | {one.last:.4g} | {one.allowed:.4g} | {_yes(one.within)} |"
            for one in self.growths
        ]
        lines = [
            "# Load",
            "",
            f"    {self.command}",
            "",
            f"{self.at}, {self.minutes:g} minutes, on {self.machine['cpu']}, {self.machine['cores']} cores, "
            f"{self.machine['memory_gb']} GB, Linux {self.machine['kernel']}.",
            "",
            f"Peak {self.peak:.1f} executions/s; held at {self.rate:.1f}/s: {self.executions} executions, "
            f"{self.events} events, {len(self.samples)} samples, **{len(self.findings)} findings**. "
            f"The rest of the machine used {self.others:.2f} cores meanwhile.",
            "",
            "Medians of the first third after the warm-up, and of the last.",
            "",
            "| | first | last | allowed | within |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
            *(f"- {line}" for line in self.wrong[:20]),
        ]
        return "\n".join(lines).rstrip() + "\n"


def _yes(within: bool) -> str:
    return "yes" if within else "**no**"
