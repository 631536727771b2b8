"""The signals that the steps of a playbook wait for, as far as it names them itself."""

from __future__ import annotations

from dataclasses import dataclass

from .callbacks import KEYS, awaited, is_template
from .faults import did_you_mean
from .plan import Plan


@dataclass(frozen=True, slots=True)
class Awaited:
    """`templates`: whether a template gives the name of another."""

    signals: frozenset[str]
    approvals: frozenset[str]
    templates: bool

    @property
    def names(self) -> frozenset[str]:
        return self.signals | self.approvals

    def is_approval(self, name: str) -> bool:
        """Whether what is sent by this name is a decision, and nothing else."""
        return name in self.approvals and name not in self.signals

    def advice(self, name: str) -> str | None:
        """What to say of a signal that no step waits for by its name, nor may wait for; None of others."""
        if self.templates or name in self.names:
            return None
        return f"no step of the playbook waits for '{name}'{did_you_mean(name, sorted(self.names))}"


def awaited_of(plan: Plan) -> Awaited:
    found = [wait for step in plan.steps.values() for wait in awaited(step)]
    written = {(key, str(name)) for key, name in found if not is_template(name)}
    signals, approvals = (frozenset(name for key, name in written if key == kind) for kind in KEYS)
    return Awaited(signals, approvals, any(is_template(name) for _, name in found))
