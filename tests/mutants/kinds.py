"""Kinds of faults that no test may miss, told by the names a fault touches."""

from __future__ import annotations

import re

WORDS = {
    "fence": r"fenc(e|es|ed|ing)",
    "lease": r"leases?|leased",
    "rollback": r"rollback|roll_back|rolled_back",
    "role": r"roles?",
    "redirect": r"redirects?|redirected",
    "mask": r"mask|masks|masked|masking|redact|redacts|redacted|conceal|concealed",
}

SEVERE = frozenset(WORDS)

# what the table may say beside them
KINDS = SEVERE | {"bound", "order", "retry", "exit", "infra", "other"}

_PATTERNS = {kind: re.compile(rf"(?<![a-z])({words})(?![a-z])", re.IGNORECASE) for kind, words in WORDS.items()}


def kind_of(*texts: str) -> str:
    """By the words in a line, a function or a file's name. `rollback` goes before `lease` where both occur: the order
    is that of the table."""
    for kind, pattern in _PATTERNS.items():
        if any(pattern.search(text) for text in texts):
            return kind
    return "other"
