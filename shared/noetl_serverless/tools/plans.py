"""Playbooks compiled with every tool kind there is on this machine, those that users added included."""

from __future__ import annotations

from ..playbook import compile as language
from ..playbook.grammar import BUILTIN_KINDS
from ..playbook.plan import Plan
from . import registry


def load_plan(text: str) -> Plan:
    """Raises InvalidPlaybook with all that is wrong."""
    return language.load_plan(text, kinds=BUILTIN_KINDS.union(registry.kinds()))
