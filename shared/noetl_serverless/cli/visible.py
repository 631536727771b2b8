"""Text of others on a terminal: what would steer the terminal, or change the order of what is read, is shown as it
would be written in JSON."""

from __future__ import annotations

import re
from typing import Final

# control characters but tabs and line breaks, and those that turn the direction of text
_STEERING: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text.replace("\r\n", "\n"))
