"""What a run tells: as JSON for machines, as Markdown for people."""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.log_rules import Finding

from .fault_injection import Done


@dataclass(slots=True)
class Report:
    command: str
    seed: int
    at: str
    machine: dict[str, Any]
    minutes: float
    # of each function, and the seconds that the clocks of some are ahead or behind
    instances: int = 1
    skew_s: float = 0.0
    faults: dict[str, dict[str, Any]] = field(default_factory=dict)
    # kind or path -> status -> how many
    executions: dict[str, dict[str, int]] = field(default_factory=dict)
    events: int = 0
    # executions of which the engine gave up a command; what was done to the world, and by how many requests
    given_up: int = 0
    effects: int = 0
    requests: int = 0
    # seconds from the last fault to the last end, and of the audit
    settled_s: float = 0.0
    audited_s: float = 0.0
    orphans: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def count(self, done: Sequence[Done]) -> None:
        """By the name of the fault: how many, how many met nobody, and how long until a part was back."""
        times: defaultdict[str, list[float]] = defaultdict(list)
        for one in done:
            if one.back is not None:
                times[one.fault.name].append(one.back)
        made = Counter(one.fault.name for one in done)
        kinds = {one.fault.name: one.fault.kind for one in done}
        missed = Counter(one.fault.name for one in done if not one.met)
        for name in sorted(made):
            self.faults[name] = {"kind": kinds[name], "times": made[name], "met_nobody": missed[name]}
            if back := times[name]:
                self.faults[name] |= {"back_s": round(statistics.median(back), 2), "back_max_s": round(max(back), 2)}

    @property
    def survived(self) -> set[str]:
        """The kinds of the faults that met something."""
        return {entry["kind"] for entry in self.faults.values() if entry["times"] > entry["met_nobody"]}

    def write(self, folder: Path) -> None:
        """`chaos.json` and `chaos.md` in the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "chaos.json").write_text(json.dumps(asdict(self), indent=1) + "\n")
        (folder / "chaos.md").write_text(self.markdown())

    def markdown(self) -> str:
        total = sum(sum(ends.values()) for ends in self.executions.values())
        faults = sum(entry["times"] - entry["met_nobody"] for entry in self.faults.values())
        lines = [
            f"# Chaos, seed {self.seed}",
            "",
            f"    {self.command}",
            "",
            f"{self.at}, {self.minutes:g} minutes of faults, on {self.machine['cpu']}, {self.machine['cores']} cores, "
            f"{self.machine['memory_gb']} GB, Linux {self.machine['kernel']}.",
            "",
            f"{total} executions, {self.events} events, {faults} faults, **{len(self.findings)} findings**. "
            f"After the last fault all had ended within {self.settled_s:.0f} s; the audit took {self.audited_s:.0f} s.",
            "",
            f"Instances of each function: {self.instances}, clocks that differ by up to {2 * self.skew_s:g} s. "
            f"{self.effects} effects by {self.requests} requests. Of {self.given_up} executions a command was given "
            "up after too many deliveries.",
            "",
            *_table(
                ("fault", "times", "met nobody", "back after (median, s)", "at most (s)"),
                [
                    (name, entry["times"], entry["met_nobody"], entry.get("back_s", ""), entry.get("back_max_s", ""))
                    for name, entry in self.faults.items()
                ],
            ),
            "",
            *_table(
                ("executions of", "completed", "failed", "cancelled"),
                [
                    (name, *(ends.get(status, 0) for status in ("COMPLETED", "FAILED", "CANCELLED")))
                    for name, ends in sorted(self.executions.items())
                ],
            ),
            "",
            "Left beside the results by killed workers, and deleted with them: "
            f"{self.orphans.get('unregistered', 0)} objects, {self.orphans.get('unfinished', 0)} unfinished ones.",
            "",
            "## Findings",
            "",
            *([f"- {finding}" for finding in self.findings] or ["None."]),
        ]
        return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines]
