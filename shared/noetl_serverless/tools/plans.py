"""Playbooks compiled, and linted, with every tool kind there is on this machine, those that users added included."""

from __future__ import annotations

from ..playbook import compile as language
from ..playbook import lint as linting
from ..playbook.grammar import BUILTIN_KINDS
from ..playbook.plan import Plan
from . import registry


def load_plan(text: str) -> Plan:
    """Raises InvalidPlaybook with all that is wrong."""
    return language.load_plan(text, kinds=_kinds())


def lint(text: str) -> list[linting.Finding]:
    """The errors, or if there are none the warnings, by line."""
    return linting.lint(text, kinds=_kinds())


def _kinds() -> frozenset[str]:
    return BUILTIN_KINDS.union(registry.kinds())
