"""Plain scalars that readers of YAML 1.1 and of YAML 1.2 take for different values.

This engine reads words and numbers as YAML 1.1 does, with the exceptions of `document.py`; editors and most other tools
follow YAML 1.2. Where these differ, one of them surprises the author: `no` is false here, and a text, Norway, there.
"""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import Final

CODE: Final = "playbook.yaml_reading"

# nobody writes a longer number
_MAX_CHARACTERS: Final = 40
_WORDS_OF_1_2: Final = frozenset({"true", "false"})
_NUMBER_OF_1_2: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|0o[0-7]+|0x[0-9a-fA-F]+")
_LEADING_ZERO: Final = re.compile(r"[-+]?0[0-9]")
# minutes and seconds, or more of them; only with a fraction may it begin with a zero
_BASE_60_OF_1_1: Final = re.compile(r"[-+]?(?:[1-9][0-9_]*(?::[0-5]?[0-9])+|[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*)")
_BEGIN_OF_NUMBERS: Final = frozenset("+-.0123456789")


def surprise(text: str, value: str | int | float | bool | None) -> str | None:
    """What a plain `text`, which is read here as `value`, was read as, and how to write what is meant; None if there is
    only one way to read it."""
    if isinstance(value, bool):
        return None if text.lower() in _WORDS_OF_1_2 else _read_as(text, f"{json.dumps(value)}")
    if value is None or text[:1] not in _BEGIN_OF_NUMBERS or len(text) > _MAX_CHARACTERS:
        return None
    if not isinstance(value, str):
        is_plain_number = _NUMBER_OF_1_2.fullmatch(text) and not _LEADING_ZERO.match(text)
        return None if is_plain_number else _read_as(text, json.dumps(value))
    if _BASE_60_OF_1_1.fullmatch(text):
        return f"{text} is read as a text here, and as a number to the base 60 by YAML 1.1: write '{text}' in quotes"
    number = _number_of_1_2(text)
    if number is None:
        return None
    return (
        f"{text} is read as a text here, and as the number {number} by YAML 1.2: write '{text}' in quotes, or {number}"
    )


def _read_as(text: str, value: str) -> str:
    return f"{text} is read as {value}: write {value}, or '{text}' in quotes if the text is meant"


def _number_of_1_2(text: str) -> str | None:
    """The number that YAML 1.2 reads in `text`, as JSON."""
    if not _NUMBER_OF_1_2.fullmatch(text):
        return None
    if text.startswith("0o"):
        return str(int(text, 8))
    number = int(text) if text.lstrip("+-").isdigit() else float(text)
    return json.dumps(number) if isfinite(number) else None
