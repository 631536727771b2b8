"""Workload values under names that the playbook does not know."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any


def unknown_values(values: Mapping[str, Any], declared: Mapping[str, Any], content: str) -> Iterator[str]:
    """Warnings about the names of `unused`."""
    return (f"warning: {message}" for _, message in unused(values, declared, content))


def unused(values: Mapping[str, Any], declared: Mapping[str, Any], content: str) -> Iterator[tuple[str, str]]:
    """Names that are neither declared in the playbook's workload nor found in its text, each with a message. They are
    probably misspelled, and the run would use the declared values instead."""
    for name in values:
        if name in declared or re.search(rf"(?<!\w){re.escape(name)}(?!\w)", content):
            continue
        close = get_close_matches(name, declared, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        yield name, f"the playbook does not use {name!r}{hint}"
