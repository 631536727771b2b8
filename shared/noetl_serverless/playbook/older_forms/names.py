"""Older names of keys, and keys that older playbooks have in other places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

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
