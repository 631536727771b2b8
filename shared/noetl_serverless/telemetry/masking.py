"""Masks secrets in what leaves the process: values that it knows to be secret, and text that looks like one."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from .form_index import FormIndex
from .mask import MASK, masked
from .secret_forms import Check, Secret, forms

# shorter values would mask half of every line
_MIN_SECRET_CHARACTERS = 4
_MAX_SECRETS = 2000
_MAX_SECRET_CHARACTERS = 1024 * 1024
_MAX_RECENT = 32

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
        self._values: OrderedDict[Secret, Mapping[str, Check | None] | None] = OrderedDict()
        self._characters = 0
        # all values but the most recent ones, which are few: so that each new one takes little time
        self._settled: FormIndex | None = None
        self._recent: FormIndex | None = None
        self._recent_values: dict[Secret, None] = {}
        self._is_prepared = True
        self._lock = threading.Lock()

    def register(self, value: Secret) -> None:
        """Mask `value` from now on; the most recent 2,000 are kept, of 1 MiB in all."""
        if len(str(value)) < _MIN_SECRET_CHARACTERS:
            return
        with self._lock:
            if value in self._values:
                self._values.move_to_end(value)
                return
            self._values[value] = None
            self._characters += len(str(value))
            self._recent_values[value] = None
            self._is_prepared = False
            while len(self._values) > _MAX_SECRETS or self._characters > _MAX_SECRET_CHARACTERS:
                forgotten, _ = self._values.popitem(last=False)
                self._characters -= len(str(forgotten))
                self._recent_values.pop(forgotten, None)

    def prepare(self) -> None:
        """Takes time in proportion to the values that have been registered since the last time."""
        if self._is_prepared:
            return
        with self._lock:
            for value in self._recent_values:
                self._values[value] = self._values[value] or forms(value)
            if len(self._recent_values) > _MAX_RECENT:
                self._settled, self._recent_values = self._index_of(self._values), {}
            self._recent = self._index_of(self._recent_values) if self._recent_values else None
            self._is_prepared = True

    def _index_of(self, values: Iterable[Secret]) -> FormIndex:
        found: dict[str, Check | None] = {}
        for value in values:
            for form, check in (self._values[value] or {}).items():
                if len(form) >= _MIN_SECRET_CHARACTERS and (check is None or form not in found):
                    found[form] = check
        return FormIndex(found)

    def text(self, text: str) -> str:
        self.prepare()
        # what has just been registered may contain what was before, and the other way round
        spans = [span for index in (self._settled, self._recent) if index is not None for span in index.spans(text)]
        return _PATTERNS.sub(_mask_match, masked(text, spans) if spans else text)

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
