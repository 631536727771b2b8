"""Finds forms of secrets in a text, in time that is linear in it and hardly depends on how many there are."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping

from .secret_forms import MIN_CHARACTERS, Check

# a search holds the interpreter's lock, and is therefore done in pieces
_PIECE_CHARACTERS = 128 * 1024
# where a message was cut ends with this
CUT = "…"
# a text of this length may have been cut without it
_MIN_CUT_CHARACTERS = 2000
# beginnings that are looked for with a regular expression, which tries them in turn; more are looked up one by one
_MAX_IN_EXPRESSION = 200


class FormIndex:
    """Forms of secrets, by their first characters."""

    def __init__(self, forms: Mapping[str, Check | None]) -> None:
        """Each of at least `MIN_CHARACTERS`."""
        self._forms = forms
        # first characters -> length -> the forms that begin with them, longest first
        self._buckets: dict[str, dict[int, list[str]]] = {}
        for form in sorted(forms, key=len, reverse=True):
            self._buckets.setdefault(form[:MIN_CHARACTERS], {}).setdefault(len(form), []).append(form)
        self._longest = max(map(len, forms), default=0)
        self._beginnings = _any_of(self._buckets) if len(self._buckets) <= _MAX_IN_EXPRESSION else None

    def may_begin_in(self, text: str) -> bool:
        """False only if there is no form in it; cheap for a short text."""
        if self._beginnings is None or len(text) > _PIECE_CHARACTERS:
            return True
        return self._beginnings.search(text) is not None

    def is_in(self, text: str) -> bool:
        """Whether a form stands in it that is the secret, or looks like it."""
        return any(True for at in self._candidates(text) for _ in self._forms_at(text, at))

    def spans(self, text: str, *, may_be_cut: bool = False) -> list[tuple[int, int]]:
        """The places to mask, as (start, end). `may_be_cut`: also the beginnings of forms where the text has been
        cut."""
        ends = _cuts(text) if may_be_cut else []
        found = (self._span_at(text, at, ends) for at in self._candidates(text))
        return [span for span in found if span is not None]

    def _span_at(self, text: str, at: int, ends: list[int]) -> tuple[int, int] | None:
        for form in self._forms_at(text, at):
            check = self._forms[form]
            span = (at, at + len(form)) if check is None else check(text, at, at + len(form))
            if span is not None:
                return span
        if (next_end := bisect_right(ends, at)) < len(ends) and self._is_beginning(text, at, ends[next_end]):
            return at, ends[next_end]
        return None

    def _candidates(self, text: str) -> Iterator[int]:
        if self._beginnings is None:
            buckets = self._buckets
            yield from [at for at in range(len(text)) if text[at : at + MIN_CHARACTERS] in buckets]
            return
        search = self._beginnings.search
        for start in range(0, len(text), _PIECE_CHARACTERS):
            end = start + _PIECE_CHARACTERS + MIN_CHARACTERS - 1
            at = start
            while (match := search(text, at, end)) is not None:
                at = match.start() + 1
                yield match.start()

    def _forms_at(self, text: str, at: int) -> Iterator[str]:
        for length in self._buckets[text[at : at + MIN_CHARACTERS]]:
            if (form := text[at : at + length]) in self._forms:
                yield form

    def _is_beginning(self, text: str, at: int, end: int) -> bool:
        if end - at >= self._longest:
            return False
        part = text[at:end]
        return any(
            form.startswith(part) and self._forms[form] is None
            for length, forms in self._buckets[text[at : at + MIN_CHARACTERS]].items()
            if length > len(part)
            for form in forms
        )


def _any_of(beginnings: Mapping[str, object]) -> re.Pattern[str]:
    """Finds texts of three characters; shared beginnings are written once, since the alternatives are tried in turn."""
    tree: dict[str, dict[str, list[str]]] = {}
    for beginning in sorted(beginnings):
        first, second, third = tuple(beginning)
        tree.setdefault(first, {}).setdefault(second, []).append(third)
    return re.compile(
        "|".join(
            f"{re.escape(first)}(?:{'|'.join(re.escape(second) + _one_of(thirds) for second, thirds in rest.items())})"
            for first, rest in tree.items()
        )
        # nothing is found by an index of nothing
        or r"(?!)"
    )


def _one_of(characters: list[str]) -> str:
    return f"[{''.join(map(re.escape, characters))}]"


def _cuts(text: str) -> list[int]:
    """Where it may have been cut, in order."""
    ends = [match.start() for match in re.finditer(CUT, text)] if CUT in text else []
    return [*ends, len(text)] if len(text) >= _MIN_CUT_CHARACTERS else ends
