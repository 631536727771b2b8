"""Short texts in base64: recognized by decoding what is around them."""

from __future__ import annotations

import base64
import re

# with less text around it, what looks like the base64 of a short text may as well be that of other data
_MIN_TEXT_BYTES = 8
_MAX_AROUND_CHARACTERS = 32
_BEFORE = re.compile(r"[A-Za-z0-9+/_-]*\Z")
_AFTER = re.compile(r"[A-Za-z0-9+/_-]*")
_STANDARD = str.maketrans("-_", "+/")
_TEXT = frozenset({*range(0x20, 0x7F), *b"\t\r\n"})


def span_of_base64(content: bytes, before: int, text: str, start: int, end: int) -> tuple[int, int] | None:
    """The place in `text` that holds `content` in base64: the characters from `start` to `end` hold nothing else, and
    `before` bytes go before it in its group of three. None unless `content` is part of at least eight bytes of ASCII,
    or is all that is encoded there with ASCII around it."""
    first = start - -(-before * 4 // 3)
    if first < 0:
        return None
    around = _BEFORE.search(text, max(0, first - _MAX_AROUND_CHARACTERS), first)
    left = around.start() if around is not None else first
    left += (first - left) % 4
    after = _AFTER.match(text, first, end + _MAX_AROUND_CHARACTERS)
    right = after.end() if after is not None else first
    if (right - first) % 4 == 1:
        right -= 1
    if right < end:
        return None
    encoded = text[left:right].translate(_STANDARD)
    decoded = base64.b64decode(encoded + "=" * (-len(encoded) % 4))
    low = (first - left) // 4 * 3 + before
    high = low + len(content)
    if decoded[low:high] != content:
        return None
    while low > 0 and decoded[low - 1] in _TEXT:
        low -= 1
    while high < len(decoded) and decoded[high] in _TEXT:
        high += 1
    is_all = low == 0 and high == len(decoded) and not (text[left - 1 : left] + text[right : right + 1]).isalnum()
    if high - low < _MIN_TEXT_BYTES and not is_all:
        return None
    return first, min(right, first + -(-(before + len(content)) // 3) * 4)
