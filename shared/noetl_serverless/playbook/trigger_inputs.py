"""Keys of a trigger's `input` that the workload does not have and that nothing in the document reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from .faults import Faults, did_you_mean
from .model import Playbook

CODE: Final = "playbook.unused_name"
# what a start may give besides the workload, and what says of whom a document is
_NO_INPUT: Final = "ctx"
_NOT_READERS: Final = frozenset({"triggers", "metadata"})


def check(playbook: Playbook, root: Any, faults: Faults) -> None:
    """Warn of each such key. `root`: the document as it was written. A key that stands anywhere in it, as a word, may
    be read there."""
    names: frozenset[str] | None = None
    for index, trigger in enumerate(playbook.triggers):
        for key in trigger.input:
            if key == _NO_INPUT or key in playbook.workload:
                continue
            if names is None:
                names = frozenset(_words(root))
            if key not in names:
                hint = did_you_mean(key, playbook.workload)
                message = f"the workload has no '{key}', and nothing in the playbook reads it{hint}"
                faults.add(message, ("triggers", index, "input", key), CODE, key=True)


def _words(root: Any) -> Iterator[str]:
    for key, part in root.items() if isinstance(root, dict) else ():
        if key not in _NOT_READERS:
            yield from _words_in(part)


def _words_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from _words_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _words_in(item)
    elif isinstance(value, str):
        yield from re.findall(r"\w+", value)
