"""Compiled playbooks by hash, the most recently used of them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping

from ..playbook.plan import Plan

Compile = Callable[[str], Plan]

MOST = 256
# so many are named to the control plane with each call, which need not send them again
NAMED = 16


class PlanCache:
    def __init__(self, compile: Compile, most: int = MOST) -> None:
        self._compile = compile
        self._most = most
        self._plans: OrderedDict[str, Plan] = OrderedDict()
        self._recent: list[str] = []

    async def add(self, texts: Mapping[str, str]) -> None:
        """Compile what is new. A text that does not compile is left out: `get` will not find it."""
        for name, text in texts.items():
            if name not in self._plans:
                self._keep(name, await asyncio.to_thread(self._compile, text))

    def get(self, name: str) -> Plan | None:
        plan = self._plans.get(name)
        if plan is not None and (not self._recent or self._recent[0] != name):
            self._plans.move_to_end(name)
            self._note()
        return plan

    def recent(self) -> list[str]:
        return self._recent

    def _keep(self, name: str, plan: Plan) -> None:
        self._plans[name] = plan
        while len(self._plans) > self._most:
            self._plans.popitem(last=False)
        self._note()

    def _note(self) -> None:
        names = reversed(self._plans)
        self._recent = [name for name, _ in zip(names, range(NAMED), strict=False)]
