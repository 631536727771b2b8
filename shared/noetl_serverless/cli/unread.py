"""Values that are given to a playbook under a name that it does not know."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any


def unread(values: Mapping[str, Any], declared: Mapping[str, Any], content: str) -> Iterator[str]:
    """Lines about those that neither the playbook's workload declares nor its text names: most likely misspelled, so
    that the run goes on with what is declared."""
    for name in values:
        if name in declared or re.search(rf"(?<!\w){re.escape(name)}(?!\w)", content):
            continue
        close = get_close_matches(name, declared, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        yield f"warning: nothing in the playbook has the name {name!r}{hint}"
