"""Older names of keys, and keys that older playbooks have in other places."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ..document import ListNode, MapNode
from ..part import NAME_PATTERN
from ..semantics import RESERVED_NAMES

# fields of tools that older playbooks have at the step or in the tool's spec
TOOL_FIELDS: Final = frozenset(
    """
    auth body code code_b64 command commands credential data database endpoint follow_redirects form headers json libs
    method params path payload pool query return_step script url verify_ssl version
    """.split()  # noqa: SIM905
)
SPEC_FIELDS: Final = TOOL_FIELDS | {"input"}
# part of the language -> today's key -> its older names
NAMES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "step": {"input": ("args", "with"), "timeout": ("timeout_seconds",)},
    "tool": {"input": ("args", "with"), "kind": ("type",)},
    "arc": {"when": ("cond", "condition")},
    "loop": {"in": ("collection",), "iterator": ("element",)},
    "defaults": {"timeout": ("timeout_s",)},
    "retry": {
        "attempts": ("max_attempts", "max_retries"),
        "delay": ("initial_delay", "retry_delay"),
        "when": ("retry_when",),
    },
}
# features that a playbook may require -> today's name
FEATURES: Final[Mapping[str, str]] = {"result_storage": "result_refs"}
# what `retry_on` names -> how the codes of such errors end
RETRIED_ERRORS: Final[Mapping[str, str]] = {
    "timeout": "timeout",
    "connection": "connection",
    "connection_error": "connection",
}
_ONE_NAME: Final = re.compile(r"\{\{\s*(?:workload\.)?(\w{1,80})\s*\}\}")
# keys whose values are names that templates read
_NAMING: Final = frozenset({"step", "name", "iterator", "element", "as", "manifest_as"})


def step_name(name: str) -> str:
    """The name of today of a step that is named like a path, unless it cannot be one."""
    new = re.sub("[/.-]", "_", name)
    return new if re.fullmatch(NAME_PATTERN, new) and new not in RESERVED_NAMES else name


def key_of_workload(text: Any) -> str | None:
    """What a template names that is `{{ NAME }}` or `{{ workload.NAME }}`: a key of the workload, if nothing nearer has
    the name."""
    found = _ONE_NAME.fullmatch(text.strip()) if isinstance(text, str) else None
    return None if found is None else found[1]


def names_in(value: Any) -> Iterator[str]:
    """The keys at any depth, without their scope, and what names something."""
    if isinstance(value, MapNode):
        for key, item in value.items():
            name = key.rpartition(".")[2]
            # handing it on changes nothing
            if key_of_workload(item) != name:
                yield name
            if key in _NAMING and isinstance(item, str):
                yield item
            yield from names_in(item)
    elif isinstance(value, ListNode):
        for item in value:
            yield from names_in(item)
