"""A cache of the most recently used plans, by the hash of the playbook."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping

from ..errors import Problem
from ..playbook.plan import Plan
from ..tools.plans import is_slow_to_compile

Compile = Callable[[str], Plan]

MAX_PLANS = 256
# each call names up to this many cached plans, which the control plane then does not send again
MAX_NAMED_PLANS = 16


class PlanCache:
    def __init__(self, compile: Compile, max_plans: int = MAX_PLANS) -> None:
        self._compile = compile
        self._max_plans = max_plans
        self._plans: OrderedDict[str, Plan] = OrderedDict()
        self._recent: list[str] = []
        self._faults: dict[str, str] = {}

    async def add(self, texts: Mapping[str, str]) -> None:
        """Compile the new playbooks; `compile_error` gives the reason of one that does not compile here."""
        for hash_, text in texts.items():
            if hash_ in self._plans:
                continue
            try:
                if is_slow_to_compile(text):
                    plan = await asyncio.to_thread(self._compile, text)
                else:
                    plan = self._compile(text)
                    # let other tasks run between two plans
                    await asyncio.sleep(0)
                self._put(hash_, plan)
            except Problem as problem:
                # the control plane could compile it: this worker has another version
                self._faults[hash_] = problem.detail

    def get(self, name: str) -> Plan | None:
        plan = self._plans.get(name)
        if plan is not None and (not self._recent or self._recent[0] != name):
            self._plans.move_to_end(name)
            self._update_recent()
        return plan

    def compile_error(self, name: str) -> str | None:
        return self._faults.get(name)

    def recent(self) -> list[str]:
        return self._recent

    def _put(self, name: str, plan: Plan) -> None:
        self._plans[name] = plan
        while len(self._plans) > self._max_plans:
            self._plans.popitem(last=False)
        self._update_recent()

    def _update_recent(self) -> None:
        names = reversed(self._plans)
        self._recent = [name for name, _ in zip(names, range(MAX_NAMED_PLANS), strict=False)]
