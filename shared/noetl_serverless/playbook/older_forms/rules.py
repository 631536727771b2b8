"""Rules of tools in older forms, and what older playbooks have in their place."""

from __future__ import annotations

import re
from typing import Any, Final

from ..document import ListNode, MapNode, Mark
from .edits import Edits, Place, can_hold, put, value_at
from .names import NAMES, RETRIED_ERRORS

_THEN_KEYS: Final = ("do", "to", "attempts", "backoff", "delay", "max_delay", "set")
_OK: Final = "{{ output.status == 'ok' }}"
_FAILED: Final = "{{ output.status == 'error' }}"


class Rules:
    def __init__(self, edits: Edits) -> None:
        self.edits = edits

    def with_retry(self, tool: MapNode, at: Place) -> MapNode:
        """`retry` as a rule that repeats the call after an error."""
        retry = tool.get("retry")
        if "retry" not in tool or not _has_no_rules(tool):
            return tool
        key_mark, mark = tool.marks_of("retry")
        then = MapNode(mark).having("do", "retry", mark, mark)
        when: Any = _FAILED
        place = (*at, "retry")
        if isinstance(retry, MapNode):
            retry = self.edits.renamed(retry, place, NAMES["retry"], warns=False)
            # a number says how long to wait
            if isinstance(retry.get("backoff"), (int, float)) and not isinstance(retry["backoff"], bool):
                retry = self.edits.renamed(retry, place, {"delay": ("backoff",)}, warns=False)
            factor = retry.get("backoff_multiplier")
            if factor in (1, 2) and not isinstance(factor, bool) and "backoff" not in retry:
                backoff = "fixed" if factor == 1 else "exponential"
                factor_mark = retry.value_marks["backoff_multiplier"]
                retry = retry.without({"backoff_multiplier"}).having("backoff", backoff, factor_mark, factor_mark)
            if isinstance(condition := retry.get("when"), str):
                when = _both(condition)
            elif isinstance(condition, bool):
                when = _FAILED if condition else False
            elif "when" in retry:
                return tool
            elif "when" not in retry and (condition := _of_errors(retry.get("retry_on"))) is not None:
                when, retry = condition, retry.without({"retry_on"})
            for key, value in retry.without({"when"}).items():
                then = then.having(key, value, *retry.marks_of(key))
        elif isinstance(retry, int) and not isinstance(retry, bool):
            then = then.having("attempts", retry, mark, mark)
        elif retry is not True:
            return tool.without({"retry"}) if retry is False else tool
        self.edits.warn(
            "write a rule: spec: {policy: {rules: [{when: ..., then: {do: retry, ...}}]}}", tool, at, "retry"
        )
        rule = MapNode(mark).having("when", when, mark, mark).having("then", then, key_mark, mark)
        self.edits.moved[(*at, "spec", "policy", "rules", 0, "then")] = self.edits.origin(place)
        if isinstance(retry, MapNode) and "when" in retry:
            rule = rule.having("when", when, *retry.marks_of("when"))
            self.edits.moved[(*at, "spec", "policy", "rules", 0, "when")] = self.edits.origin((*place, "when"))
        return self._added(tool.without({"retry"}), rule, key_mark)

    def set_by_rule(self, tool: MapNode, at: Place) -> MapNode:
        """`set` of one task of several, or of an item of a loop, as a rule that applies when it has ended well."""
        given = tool.get("set")
        if not isinstance(given, MapNode) or not _has_no_rules(tool):
            return tool
        self.edits.warn(
            "write a rule: spec: {policy: {rules: [{when: ..., then: {do: continue, set: ...}}]}}", tool, at, "set"
        )
        key_mark, mark = tool.marks_of("set")
        then = MapNode(mark).having("do", "continue", mark, mark).having("set", given, key_mark, mark)
        rule = MapNode(mark).having("when", _OK, mark, mark).having("then", then, mark, mark)
        self.edits.moved[(*at, "spec", "policy", "rules", 0, "then", "set")] = self.edits.origin((*at, "set"))
        return self._added(tool.without({"set"}), rule, key_mark)

    def _added(self, tool: MapNode, rule: MapNode, mark: Mark) -> MapNode:
        rules = ListNode(mark)
        rules.append(rule)
        rules.marks.append(mark)
        return put(tool, ("spec", "policy"), "rules", rules, mark, mark)

    def rule(self, rule: Any, at: Place) -> Any:
        if not isinstance(rule, MapNode):
            return rule
        if "then" not in rule and "else" not in rule:
            return self._with_then(rule, at)
        if rule.keys() == {"else", "then"} and rule["else"] is None:
            return self._with_inner_then(rule, at)
        return self.edits.part(rule, "else", at, self._with_then)

    def _with_inner_then(self, rule: MapNode, at: Place) -> MapNode:
        """`then` beside an empty `else`, as its indentation has it, within it."""
        self.edits.warn("'then' belongs in 'else': write else: {then: ...}", rule, at, "then")
        self.edits.moved[(*at, "else", "then")] = self.edits.origin((*at, "then"))
        inner = MapNode(rule.key_marks["else"]).having("then", rule["then"], *rule.marks_of("then"))
        return rule.without({"then"}).having("else", inner, *rule.marks_of("else"))

    def _with_then(self, node: Any, at: Place) -> Any:
        """`do` and what belongs to it within `then`."""
        if not isinstance(node, MapNode) or "then" in node or "do" not in node:
            return node
        self.edits.warn("'do' belongs in 'then': write then: {do: ...}", node, at, "do")
        mark = node.key_marks["do"]
        then = MapNode(mark)
        for key in [key for key in node if key in _THEN_KEYS]:
            then = then.having(key, node[key], *node.marks_of(key))
            self.edits.moved[(*at, "then", key)] = self.edits.origin((*at, key))
        return node.without(then.keys()).having("then", then, mark, mark)


def _has_no_rules(tool: MapNode) -> bool:
    return can_hold(tool, ("spec", "policy")) and value_at(tool, ("spec", "policy", "rules")) is None


def _both(condition: str) -> str:
    """The condition of a retry, which is asked after an error only."""
    inner = condition.strip()
    if inner.startswith("{{") and inner.endswith("}}") and "{{" not in inner[2:]:
        # a sign beside the braces is of the template's white space
        expression = re.sub(r"^[-+]|[-+]$", "", inner[2:-2]).strip()
        return "{{ output.status == 'error' and (" + expression + ") }}"
    return condition


def _of_errors(names: Any) -> str | None:
    """The condition of a retry after these errors only, also where one is the cause; None if a name is not known."""
    if not isinstance(names, ListNode) or not names:
        return None
    if not all(isinstance(name, str) and name in RETRIED_ERRORS for name in names):
        return None
    codes = ("output.error.code", "((output.error.cause | default({})).code | default(''))")
    ends = sorted({RETRIED_ERRORS[name] for name in names})
    any_of = " or ".join(f"{code}.endswith('{end}')" for end in ends for code in codes)
    return "{{ output.status == 'error' and (" + any_of + ") }}"
