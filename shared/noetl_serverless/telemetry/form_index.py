"""Finds forms of secrets in a text, in time that is linear in it and hardly depends on how many there are."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
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
        # by the first characters
        self._buckets: dict[str, _Bucket] = {}
        for form in sorted(forms):
            self._buckets.setdefault(form[:MIN_CHARACTERS], _Bucket()).append(form)
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
        yield from self._buckets[text[at : at + MIN_CHARACTERS]].forms_at(text, at)

    def _is_beginning(self, text: str, at: int, end: int) -> bool:
        longer = self._buckets[text[at : at + MIN_CHARACTERS]].longer_than(text, at, end)
        return longer is not None and self._forms[longer] is None


class _Bucket:
    """Forms that have their first characters in common."""

    __slots__ = ("_beginnings", "_forms", "_longest")

    def __init__(self) -> None:
        self._forms: list[str] = []
        # of each form, the lengths of the forms that it begins with
        self._beginnings: list[tuple[int, ...]] = []
        self._longest = 0

    def append(self, form: str) -> None:
        """In the order of the alphabet."""
        beginnings: tuple[int, ...] = ()
        if self._forms:
            last = self._forms[-1]
            lengths = (*self._beginnings[-1], len(last))
            beginnings = lengths[: bisect_left(lengths, True, key=lambda length: not form.startswith(last[:length]))]
        self._forms.append(form)
        self._beginnings.append(beginnings)
        self._longest = max(self._longest, len(form))

    def forms_at(self, text: str, at: int) -> Iterator[str]:
        """The forms that stand there, the longest first."""
        part = text[at : at + self._longest]
        # all that stand there are the last form before it, or what that begins with
        place = bisect_right(self._forms, part) - 1
        if place < 0:
            return
        form, lengths = self._forms[place], self._beginnings[place]
        if part.startswith(form):
            yield form
        found = bisect_left(lengths, True, key=lambda length: not part.startswith(form[:length]))
        for length in reversed(lengths[:found]):
            yield form[:length]

    def longer_than(self, text: str, at: int, end: int) -> str | None:
        """A form that begins with the text from `at` to `end`, and is longer."""
        if end - at >= self._longest:
            return None
        part = text[at:end]
        place = bisect_right(self._forms, part)
        return self._forms[place] if place < len(self._forms) and self._forms[place].startswith(part) else None


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
