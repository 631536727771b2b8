"""Which pools a deployment has, and whether the steps of a playbook can run in theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from .document import Document
from .faults import Faults
from .plan import SHARED, Plan, Step

UNKNOWN: Final = "playbook.unknown_pool"
WRONG: Final = "playbook.wrong_pool"
# kinds of tools that run users' code
CODE_KINDS: Final = frozenset({"python", "shell", "container", "agent", "mcp", "duckdb"})


@dataclass(frozen=True, slots=True)
class PoolTraits:
    """`extras`: the optional dependencies that its workers have; `direct`: they hold the database's credentials."""

    extras: frozenset[str] = frozenset()
    direct: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    accelerator: str | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """From the setting `worker_pools`."""
        return cls(
            frozenset(row.get("extras") or ()), bool(row.get("direct")), row.get("labels") or {}, row.get("accelerator")
        )


@dataclass(frozen=True, slots=True)
class Pools:
    """The pools of a deployment. `known`: all that it has, by name; empty if that is not known. `kinds`: tool kind ->
    pool, for the kinds that do not run in `shared`. `is_local`: code of users may run beside the credentials there,
    since it has processes of its own."""

    known: Mapping[str, PoolTraits]
    kinds: Mapping[str, str]
    is_local: bool

    @classmethod
    def of(cls, worker_pools: Mapping[str, Any], kinds: Mapping[str, str], *, is_local: bool) -> Self:
        return cls({name: PoolTraits.of(row) for name, row in worker_pools.items()}, kinds, is_local)

    def check(self, plan: Plan, document: Document) -> Faults:
        """The faults of steps that no worker of the deployment could run."""
        faults = Faults(document)
        if not self.known:
            return faults
        placed = plan.with_pools(self.kinds)
        for index, step in enumerate(plan.steps.values()):
            path = ("workflow", index, "tool" if step.pool is None else "pool")
            pool = placed.pool(step.name)
            if step.pool is not None and pool not in self.known:
                has = ", ".join(sorted(self.known))
                message = f"the deployment has no pool '{pool}'; it has {has}"
                faults.add(message, path, UNKNOWN)
            elif (reason := self._unfit(step, pool)) is not None:
                faults.add(reason, path, WRONG)
        return faults

    def _unfit(self, step: Step, pool: str) -> str | None:
        kinds = list(dict.fromkeys(task.kind for task in step.tasks))
        traits = self.known.get(pool, PoolTraits())
        code = [kind for kind in kinds if kind in CODE_KINDS]
        if code and traits.direct and not self.is_local:
            return (
                f"the workers of the pool {pool} hold credentials of the database, beside which no code of users runs: "
                f"let {_listed(code)} run in another pool, in a step of its own"
            )
        if step.pool is None:
            return None
        for kind in kinds:
            home = self.kinds.get(kind, SHARED)
            needed = self.known.get(home, PoolTraits()).extras if home != SHARED else frozenset()
            if home != pool and not needed <= traits.extras:
                return f"{kind} needs the pool {home}: the workers of {pool} do not have its libraries"
        return None


def _listed(names: list[str]) -> str:
    return " and ".join(names)
