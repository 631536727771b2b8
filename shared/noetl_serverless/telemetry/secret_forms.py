"""The forms in which a secret can stand in a text: those that templates, tools and Python's own printing give it."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache, partial
from typing import TypeAlias
from urllib.parse import quote, quote_plus

import orjson

from .base64_text import span_of_base64

Secret: TypeAlias = str | int | float
# where in the text a form that was found from `start` to `end` has to be masked; None: it is not the secret
Check: TypeAlias = Callable[[str, int, int], tuple[int, int] | None]

# shorter texts are no secrets: they would mask half of every text
MIN_CHARACTERS = 3
# nor are shorter numbers
MIN_DIGITS = 4
# of a secret of several lines, such as a private key, each line of this length is a secret, too; and so is the part
# of a URL before a `#`, after which nothing is sent
_MIN_PART_CHARACTERS = 12
# the base64 of fewer bytes is so short that it stands in other texts by chance
_MIN_BASE64_BYTES = 8
_PIECE_CHARACTERS = 1024
_MAX_CACHED_CHARACTERS = 256

# nothing quotes or escapes these characters
_PLAIN = re.compile(r"[A-Za-z0-9_-]+(?:[.~]+[A-Za-z0-9_-]+)*\Z")
# as a part of the host of a URL it is sent in lower case
_IN_HOST = re.compile(r"[A-Za-z0-9.-]{8,}\Z")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?\Z")
_ESCAPED_BYTE = re.compile(r"%[0-9A-F]{2}")


def forms(secret: Secret) -> dict[str, Check | None]:
    """Each form, and what tells whether a text that looks like it is the secret: None if it always is. Empty for what
    is too short to be a secret."""
    if not isinstance(secret, str):
        return _number_forms(secret)
    return _cached(secret) if len(secret) <= _MAX_CACHED_CHARACTERS else _text_forms(secret)


def number_of(secret: Secret) -> int | float | None:
    """The number that it is or that its text means, if it has enough digits to be a secret."""
    number: int | float | None = None
    if not isinstance(secret, str):
        number = secret
    elif len(secret) < _MAX_CACHED_CHARACTERS and _NUMBER.match(secret):
        number = float(secret) if "." in secret else int(secret)
    return None if number is None or isinstance(number, bool) or _digits(number) < MIN_DIGITS else number


def spellings(numbers: Iterable[int | float]) -> set[str]:
    """In JSON, of the values that equal one of them."""
    return {_spelled(value) for number in numbers for value in _equal(number)}


def _equal(number: int | float) -> Iterator[int | float]:
    """As an integer and as a float: a set would take the two for one."""
    yield number
    if not isinstance(number, float):
        # but one that is too large for that
        with suppress(OverflowError):
            yield float(number)
    elif number.is_integer():
        yield int(number)


def _spelled(value: int | float) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return str(value)


def _digits(number: int | float) -> int:
    return sum(character.isdigit() for character in str(number))


def _number_forms(number: int | float) -> dict[str, Check | None]:
    if number_of(number) is None:
        return {}
    text = str(abs(number))
    return {**dict(_base64(text.encode())), text: _whole_number}


def _whole_number(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Digits within others are another number."""
    is_part = text[start - 1 : start].isdigit() or text[end : end + 1].isdigit()
    return None if is_part else (start, end)


@lru_cache(maxsize=1024)
def _cached(secret: str) -> dict[str, Check | None]:
    return _text_forms(secret)


def _text_forms(secret: str) -> dict[str, Check | None]:
    if len(secret) < MIN_CHARACTERS:
        return {}
    found: dict[str, Check | None] = {}
    parts = {line for line in secret.splitlines() if len(line) >= _MIN_PART_CHARACTERS}
    for text in sorted({piece for part in (secret, *parts) for piece in _pieces(part)}):
        spellings, contents = {text}, {text.encode(errors="replace")}
        if not _PLAIN.match(text):
            spellings, contents = set(_spellings(text)), set(_contents(text))
        elif _IN_HOST.match(text):
            spellings.add(text.lower())
        for form, check in (pair for content in contents for pair in _base64(content)):
            found.setdefault(form, check)
        # a JSON document may stand in another, and is looked through as one
        once = {escaped for one in spellings for escaped in _escaped(one)}
        twice = {escaped for one in once - spellings for escaped in _escaped(one)}
        found.update(dict.fromkeys(spellings | once | twice))
    return {form: check for form, check in found.items() if len(form) >= MIN_CHARACTERS}


def _pieces(text: str) -> Iterator[str]:
    """Of a long text each piece is masked by itself, and what is masked side by side becomes one."""
    at = 0
    while len(text) - at > _PIECE_CHARACTERS + _MIN_PART_CHARACTERS:
        yield text[at : at + _PIECE_CHARACTERS]
        at += _PIECE_CHARACTERS
    yield text[at:]


def _spellings(text: str) -> Iterator[str]:
    yield text
    # as white space in messages
    yield " ".join(text.split())
    yield from _printed(text)
    yield from (html.escape(text), html.escape(text, quote=False))
    yield html.escape(text).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
    # in SQL, and in arrays of PostgreSQL
    yield from (text.replace("'", "''"), text.replace('"', '""'))
    yield text.replace("\\", "\\\\").replace('"', '\\"')
    for quoted in {*_quoted(text), *_quoted_by_client(text)}:
        yield quoted
        yield _ESCAPED_BYTE.sub(lambda match: match[0].lower(), quoted)


def _printed(text: str) -> Iterator[str]:
    content = text.encode(errors="replace")
    yield repr(text)[1:-1]
    # within a longer text that has both kinds of quotes
    yield repr(text + "\"'")[1:-4]
    yield ascii(text)[1:-1]
    yield repr(content)[2:-1]
    # headers are often read as Latin-1
    yield content.decode("latin-1")


def _escaped(text: str) -> Iterator[str]:
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]


def _contents(text: str) -> Iterator[bytes]:
    """As it stands in what is written in base64: in credentials, and in content that is not text."""
    content = text.encode(errors="replace")
    for read in (text, content.decode("latin-1")):
        for written in (read, *_escaped(read)):
            yield written.encode(errors="replace")
    # the client's own, of a user in a URL
    yield text.encode("latin-1", errors="replace")
    for written in (quote(text, safe="", errors="replace"), quote_plus(text, errors="replace"), html.escape(text)):
        yield written.encode(errors="replace")


def _quoted(text: str) -> Iterator[str]:
    yield quote(text, safe="", errors="replace")
    yield quote(text, errors="replace")
    yield quote_plus(text, errors="replace")


def _quoted_by_client(text: str) -> Iterator[str]:
    """As the HTTP client quotes it in a URL that it is a part of, or is."""
    # only for a secret that is not plain
    from yarl import URL

    with suppress(ValueError):
        yield URL.build(scheme="http", host="h", query={"k": text}).raw_query_string[2:]
    query, path = "http://h/?k=", "http://h/"
    for written in (text, *_quoted(text)):
        for before in (query, path):
            with suppress(ValueError):
                yield str(URL(before + written)).removeprefix(before)
    if "://" in text:
        with suppress(ValueError):
            yield str(URL(text))
    sent, sign, _ = text.partition("#")
    if sign and len(sent) >= _MIN_PART_CHARACTERS:
        yield sent
        with suppress(ValueError):
            yield str(URL(query + sent)).removeprefix(query)


def _base64(content: bytes) -> Iterator[tuple[str, Check | None]]:
    """In base64, of itself or of something longer that contains it, such as `user:secret`."""
    for before in range(3):
        # three bytes are four characters: those that also hold bits of the neighbours are left out
        encoded = base64.b64encode(bytes(before) + content).decode().rstrip("=")
        whole = encoded[-(-before * 4 // 3) : (before + len(content)) * 4 // 3]
        check = None
        if len(content) < _MIN_BASE64_BYTES:
            check = partial(span_of_base64, content, before)
        yield whole, check
        yield whole.replace("+", "-").replace("/", "_"), check
        if check is None:
            yield whole.replace("+", "%2B"), None
            yield quote(whole, safe=""), None
