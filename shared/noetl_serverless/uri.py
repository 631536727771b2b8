"""The grammar of `noetl://` URIs, which name results and where they are.

    noetl://execution/<id>/result/<name>/<8 hex>        a result
    noetl://execution/<id>/tmp/<name>/<hex>             a result, as older releases of NoETL name it
    noetl://execution/<id>/manifest/<name>/<number>     the results of one run of a loop
    noetl://(<key>/<value>)+                            anything else: a locator

Each segment is percent-encoded by itself, so that every text but the empty one comes back as it was. There is no query
and no fragment, and one form only of each URI: the one that `str` writes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeVar, get_args
from urllib.parse import quote, unquote

SCHEME: Final = "noetl://"
Kind = Literal["result", "tmp", "manifest"]
KINDS: Final[frozenset[str]] = frozenset(get_args(Kind))
# what a locator may begin with, and what it may go on with
TOP_KEYS: Final = frozenset({"tenant", "execution", "dataset", "stream", "partition", "payload"})
KEYS: Final = TOP_KEYS | {"organization", "region", "zone", "cluster", "node", "worker"}
MAX_URI_CHARACTERS: Final = 4096
# of an encoded name: an index of the database holds the whole URI
MAX_NAME_CHARACTERS: Final = 2000

_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")
# the places after the name, and what they are
_SUFFIXES: Final = {
    "result": (re.compile(r"[0-9a-f]{8}"), "8 hexadecimal digits"),
    "tmp": (re.compile(r"[0-9a-f]{1,64}"), "up to 64 hexadecimal digits"),
    "manifest": (re.compile(r"[0-9]{1,10}"), "the number of a run"),
}


@dataclass(frozen=True, slots=True)
class ResultUri:
    """`step`: the name of the result, which is that of its step unless a user has put it there."""

    execution_id: str
    kind: Kind
    step: str
    suffix: str

    @classmethod
    def parse(cls, text: str) -> ResultUri:
        """ValueError for anything but the URI of a result or of a manifest, written as `str` writes it."""
        segments = _segments(text)
        if len(segments) != 5 or segments[0] != "execution" or segments[2] not in KINDS:
            raise ValueError(
                f"not the URI of a result: {_shown(text)}; expected noetl://execution/<id>/result/<name>/<8 hex>"
            )
        _, execution_id, kind, step, suffix = segments
        pattern, what = _SUFFIXES[kind]
        if not pattern.fullmatch(suffix):
            raise ValueError(f"the URI of a {_TITLES[kind]} ends in {what}: {_shown(text)}")
        if not _ID.fullmatch(execution_id):
            raise ValueError(f"the URI has no id of an execution: {_shown(text)}")
        return _checked(cls(execution_id, kind, step, suffix), text)  # type: ignore[arg-type]

    def __str__(self) -> str:
        """ValueError for a name that is empty, too long, or no text."""
        name = _encoded(self.step)
        if len(name) > MAX_NAME_CHARACTERS:
            raise ValueError(f"the name has {len(name)} characters in a URI; the limit is {MAX_NAME_CHARACTERS}")
        return f"{SCHEME}execution/{self.execution_id}/{self.kind}/{name}/{self.suffix}"


@dataclass(frozen=True, slots=True)
class Locator:
    """`noetl://tenant/t/dataset/d`: pairs of a key and a value, in order."""

    pairs: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str) -> Locator:
        """ValueError for anything but pairs of keys that are known and values, written as `str` writes them."""
        segments = _segments(text)
        if len(segments) % 2:
            raise ValueError(f"a locator has pairs of a key and a value: {_shown(text)}")
        return _checked(cls(tuple(zip(segments[::2], segments[1::2], strict=True))), text)

    def __str__(self) -> str:
        """ValueError for what is no locator."""
        if not self.pairs or self.pairs[0][0] not in TOP_KEYS:
            raise ValueError(f"a locator begins with one of {', '.join(sorted(TOP_KEYS))}")
        if unknown := next((key for key, _ in self.pairs if key not in KEYS), None):
            raise ValueError(f"a locator has no key {unknown!r:.100}; the keys are {', '.join(sorted(KEYS))}")
        return SCHEME + "/".join(f"{key}/{_encoded(value)}" for key, value in self.pairs)


_TITLES: Final = {"result": "result", "tmp": "temporary result", "manifest": "manifest"}
T = TypeVar("T", ResultUri, Locator)


def parse(text: str) -> ResultUri | Locator:
    """Of any kind; ValueError if it is none."""
    segments = _segments(text)
    is_result = segments[0] == "execution" and len(segments) > 2 and segments[2] in KINDS
    return ResultUri.parse(text) if is_result else Locator.parse(text)


def _segments(text: str) -> list[str]:
    """Decoded; ValueError if it is no URI of this scheme, or one that no `str` has written."""
    if len(text) > MAX_URI_CHARACTERS:
        raise ValueError(f"the URI has more than {MAX_URI_CHARACTERS} characters: {_shown(text)}")
    if not text.startswith(SCHEME):
        raise ValueError(f"not a URI that begins with {SCHEME}: {_shown(text)}")
    if "?" in text or "#" in text:
        raise ValueError(f"the URI has a query or a fragment: {_shown(text)}")
    encoded = text.removeprefix(SCHEME).split("/")
    if "" in encoded:
        raise ValueError(f"the URI has an empty segment: {_shown(text)}")
    # bytes that are no UTF-8 are replaced, and what is then written differs
    return [unquote(segment) for segment in encoded]


def _checked(uri: T, text: str) -> T:
    if str(uri) != text:
        raise ValueError(f"not a URI in its usual form, which is {str(uri)!r:.200}: {_shown(text)}")
    return uri


def _encoded(segment: str) -> str:
    if not segment:
        raise ValueError("a segment of a URI cannot be empty")
    if segment in (".", ".."):
        # what resolves URIs would take them away
        return segment.replace(".", "%2E")
    try:
        return quote(segment, safe="")
    except UnicodeEncodeError:
        raise ValueError(f"a segment of a URI must be a text in Unicode: {segment!r:.100}") from None


def _shown(text: str) -> str:
    return f"{text!r:.200}"
