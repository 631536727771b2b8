"""Masks secrets in what leaves the process: values known to be secret, and text that looks like one."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

MASK = "***"
# shorter values would mask half of every line
_MIN_SECRET_CHARACTERS = 4
_MAX_SECRETS = 2000

_SECRET_KEY = re.compile(
    r"(?i)(?:^|[_\-.])(?:password|passwd|secret|token|authorization|api[_-]?key|private[_-]?key|cookie)$"
)
_PATTERNS = re.compile(
    r"(?i)(?P<scheme>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/\-]{8,}=*"
    r"|(?P<jwt>)\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*"
    r"|(?P<user>://[^\s:/@\"']*:)[^\s@/\"']+(?=@)"
    r"|(?P<name>\b(?:password|passwd|secret|session_token|access_token|api_key|apikey)\s*[=:]\s*)[^\s,;&\"'}\])\\]+"
)


class Masking:
    """Replaces registered secret values and secret-looking text by `***`."""

    def __init__(self) -> None:
        self._values: OrderedDict[str, None] = OrderedDict()
        self._known: re.Pattern[str] | None = None

    def register(self, value: str) -> None:
        """Mask `value` from now on; the most recent 2,000 are kept."""
        if len(value) < _MIN_SECRET_CHARACTERS:
            return
        # a value inside a JSON document may be escaped
        for form in {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}:
            if form in self._values:
                self._values.move_to_end(form)
                continue
            self._values[form] = None
            self._known = None
        while len(self._values) > _MAX_SECRETS:
            self._values.popitem(last=False)
            self._known = None

    def text(self, text: str) -> str:
        if self._values:
            if self._known is None:
                # longest first: a secret may contain another
                longest_first = sorted(self._values, key=len, reverse=True)
                self._known = re.compile("|".join(map(re.escape, longest_first)))
            text = self._known.sub(MASK, text)
        return _PATTERNS.sub(_mask_match, text)

    def tree(self, value: Any) -> Any:
        """A copy of a JSON-like value with every string masked, and whole values under keys that name a secret."""
        match value:
            case str():
                return self.text(value)
            case Mapping():
                return {key: self._member(key, item) for key, item in value.items()}
            case list() | tuple() | set():
                return [self.tree(item) for item in value]
            case _:
                return value

    def _member(self, key: Any, value: Any) -> Any:
        if isinstance(key, str) and value is not None and _SECRET_KEY.search(key):
            return MASK
        return self.tree(value)


def _mask_match(match: re.Match[str]) -> str:
    return (match["scheme"] or match["user"] or match["name"] or "") + MASK


masking = Masking()
"""The process's own: what is registered here is masked in its logs."""
