"""Where in a SQL text we are: in plain SQL, or inside quotes or a comment, where no value can be bound."""

from __future__ import annotations

import re

_DOLLAR = re.compile(r"\$(?:[A-Za-z_]\w*)?\$")
_WORD = re.compile(r"\w")
_ESCAPES = re.compile(r"(?:^|\W)[eE]$")


class SqlText:
    """Feed it the text piece by piece; `inside` names what the end of it stands in, or is None."""

    def __init__(self) -> None:
        self.inside: str | None = None
        self._closing = ""
        self._depth = 0
        self._before = ""

    def feed(self, text: str) -> None:
        place = 0
        while place < len(text):
            place = self._plain(text, place) if self.inside is None else self._quoted(text, place)
        self._before = (self._before + text)[-2:]

    def placeholder(self) -> None:
        """A value stands here."""
        self._before = "?"

    def _plain(self, text: str, place: int) -> int:
        char, pair = text[place], text[place : place + 2]
        if pair == "--":
            return self._enter("a comment", "\n", place + 2)
        if pair == "/*":
            self._depth = 1
            return self._enter("a comment", "*/", place + 2)
        if char == "'":
            before = (self._before + text[:place])[-2:]
            return self._enter("quotes", "\\'" if _ESCAPES.search(before) else "'", place + 1)
        if char == '"':
            return self._enter("double quotes", '"', place + 1)
        if char == "$" and not (place and _WORD.match(text[place - 1])) and (tag := _DOLLAR.match(text, place)):
            return self._enter("dollar quotes", tag.group(), tag.end())
        return place + 1

    def _quoted(self, text: str, place: int) -> int:
        if self._closing == "*/":
            return self._comment(text, place)
        if self._closing == "\\'":
            if text[place] == "\\":
                return place + 2
            if text[place] == "'":
                self.inside = None
            return place + 1
        end = text.find(self._closing, place)
        if end < 0:
            return len(text)
        self.inside = None
        return end + len(self._closing)

    def _comment(self, text: str, place: int) -> int:
        pair = text[place : place + 2]
        if pair == "/*":
            self._depth += 1
            return place + 2
        if pair == "*/":
            self._depth -= 1
            if self._depth == 0:
                self.inside = None
            return place + 2
        return place + 1

    def _enter(self, inside: str, closing: str, place: int) -> int:
        self.inside, self._closing = inside, closing
        return place
