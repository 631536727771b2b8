"""Masks secrets in what leaves the process: values known to be secret, and text that looks like one."""

from __future__ import annotations

import base64
import json
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

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


# of a secret of several lines, such as a private key, each line of this length is a secret, too
_MIN_LINE_CHARACTERS = 12
# the base64 of fewer bytes is too short to be recognized inside that of a longer text
_MIN_BASE64_BYTES = 8


def forms(secret: str) -> Iterator[str]:
    """The secret as it may appear in texts: as it is, line by line, escaped, quoted for a URL, and in base64, of itself
    or of a longer text that contains it, such as `user:secret`."""
    lines = [line for line in secret.splitlines() if len(line) >= _MIN_LINE_CHARACTERS]
    for text in (secret, *(lines if lines != [secret] else ())):
        yield text
        yield json.dumps(text)[1:-1]
        yield json.dumps(text, ensure_ascii=False)[1:-1]
        yield repr(text)[1:-1]
        yield quote(text, safe="")
        yield quote(text)
    content = secret.encode(errors="replace")
    if len(content) >= _MIN_BASE64_BYTES:
        for before in range(3):
            # three bytes are four characters: those that also hold bits of the neighbours are left out
            encoded = base64.b64encode(bytes(before) + content).decode().rstrip("=")
            whole = encoded[-(-before * 4 // 3) : (before + len(content)) * 4 // 3]
            yield whole
            yield whole.replace("+", "-").replace("/", "_")


class SecretTexts:
    """Replaces the secrets that it is told of by `***`, in all their forms, and nothing else."""

    def __init__(self) -> None:
        self._forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def __bool__(self) -> bool:
        return bool(self._forms)

    def add(self, secret: str) -> None:
        added = set(forms(secret)) - self._forms
        if added:
            self._forms |= added
            # longest first: a secret may contain another
            self._pattern = re.compile("|".join(map(re.escape, sorted(self._forms, key=len, reverse=True))))

    def text(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(MASK, text)

    def tree(self, value: Any) -> Any:
        """A copy of a JSON value with every text masked, those of keys included."""
        match value:
            case str():
                return self.text(value)
            case Mapping():
                return {self.tree(key): self.tree(item) for key, item in value.items()}
            case list() | tuple():
                return [self.tree(item) for item in value]
            case _:
                return value


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
