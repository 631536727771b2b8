"""Documents written in the many ways of YAML: scalars plain, quoted, in blocks and folded; brackets and blocks;
anchors, aliases and merge keys; comments, blank lines and odd whitespace; lines of any length."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from random import Random
from typing import Any

_PLAIN = re.compile(r"[A-Za-zé][A-Za-z0-9é_. /-]*[A-Za-z0-9é_/-]|[A-Za-zé]")
# words that are no text if they are plain
_WORDS = frozenset({"y", "n", "yes", "no", "true", "false", "on", "off", "null", "none"})
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t"}
_NULLS = ("null", "Null", "~")
_BOOLEANS = {True: ("true", "True", "yes", "on"), False: ("false", "FALSE", "no", "off")}
# what stands in comments beside their number, among it what means something elsewhere
_REMARKS = (
    "",
    ": a: b",
    " - [x",
    " 'it's\"",
    " # again",
    " {{ x }}",
    " é\u4e2d\U0001f600",
    " " + "long " * 40,
    " &a *b !c |",
)
# of a line with brackets, before it is broken
_WIDTH = 60


@dataclass
class Spelling:
    """A text, and how many comments it has: `c1`, `c2`, ... is the first word of each."""

    text: str
    comments: int


def spelled(document: dict[str, Any], seed: int) -> Spelling:
    """The document, as the seed will have it."""
    writer = _Writer(Random(seed))
    text = writer.document(document)
    return Spelling(text, writer.comments)


def comments_in(text: str) -> list[int]:
    """The numbers of the comments in a text, each as often as it is there."""
    return sorted(int(number) for number in re.findall(r"# *c(\d+)\b", text))


@dataclass
class _Writer:
    random: Random
    comments: int = 0
    # what anchors stand for, as JSON -> the name
    _anchors: dict[str, str] = field(default_factory=dict)
    _names: int = 0
    # the last scalar keeps the blank lines behind it; the last one is a block, or may go on in the next line
    _keeps: bool = False
    _is_open: bool = False

    def document(self, value: dict[str, Any]) -> str:
        lines = self._above("")
        if self._chance(0.2):
            lines.append("---" + self._side())
        lines += self._block(value, "")
        lines += self._above("")
        break_ = "\r\n" if self._chance(0.1) else "\n"
        return ("\ufeff" if self._chance(0.05) else "") + break_.join(lines) + (break_ if self._chance(0.9) else "")

    # -- between entries

    def _chance(self, share: float) -> bool:
        return self.random.random() < share

    def _comment(self) -> str:
        self.comments += 1
        return f"#{self.random.choice((' ', '  ', ''))}c{self.comments}{self.random.choice(_REMARKS)}"

    def _above(self, indent: str) -> list[str]:
        """Comments and blank lines above an entry."""
        lines: list[str] = []
        while self._chance(0.15):
            if self._chance(0.5) and not self._keeps:
                lines.append(self.random.choice(("", "  ", "")) if not self._is_open else "")
            else:
                # a deeper one would be a part of a block
                more = "" if self._is_open else self.random.choice(("", "", "  ", "      "))
                lines.append(f"{indent}{more}{self._comment()}")
                self._keeps = self._is_open = False
        return lines

    def _side(self, *, is_head: bool = False) -> str:
        """Behind what is on a line; a tab cannot stand between a dash and what follows."""
        if self._chance(0.1):
            space = self.random.choice((" ", "   ", " " if is_head else "\t"))
            return f"{space}{self._comment()}"
        return self.random.choice((" ", "   ")) if self._chance(0.05) else ""

    # -- blocks

    def _block(self, value: dict[str, Any] | list[Any], indent: str) -> list[str]:
        lines: list[str] = []
        if isinstance(value, list):
            for item in value:
                lines += self._above(indent)
                lines += self._entry(f"{indent}-", item, indent, is_item=True)
            return lines
        rest = dict(value)
        if (merged := self._merged(value)) is not None:
            name, keys = merged
            lines += [f"{indent}<<: *{name}{self._side()}"]
            self._keeps = self._is_open = False
            rest = {key: item for key, item in value.items() if key not in keys}
        for key, item in rest.items():
            lines += self._above(indent)
            lines += self._entry(f"{indent}{self._key(key)}:", item, indent)
        return lines

    def _merged(self, value: dict[str, Any]) -> tuple[str, set[str]] | None:
        """An anchored mapping whose entries this one has, and its keys."""
        for written, name in self._anchors.items():
            known = json.loads(written)
            if not isinstance(known, dict) or not 0 < len(known) < len(value) or self._chance(0.5):
                continue
            if all(key in value and _as_json(value[key]) == _as_json(item) for key, item in known.items()):
                return name, set(known)
        return None

    def _entry(self, head: str, value: Any, indent: str, *, is_item: bool = False) -> list[str]:
        self._keeps = self._is_open = False
        known = self._anchors.get(_as_json(value))
        if known is not None and self._chance(0.6):
            return [f"{head}{self._gap()}*{known}{self._side()}"]
        name = None
        if known is None and self._chance(0.08):
            self._names += 1
            name = f"a{self._names}"
        lines = self._written(head, f"{self._gap()}&{name}" if name else "", value, indent, is_item=is_item)
        if name:
            self._anchors[_as_json(value)] = name
        return lines

    def _gap(self) -> str:
        return self.random.choice((" ", " ", " ", "   "))

    def _written(self, head: str, anchor: str, value: Any, indent: str, *, is_item: bool) -> list[str]:
        if not isinstance(value, dict | list):
            return self._scalar(f"{head}{anchor}", value, indent)
        if not value or self._chance(0.3):
            return self._flow_lines(f"{head}{anchor}", value, indent)
        deeper = indent + " " * self.random.randint(1, 4)
        if is_item and not anchor and self._chance(0.7):
            # the first entry stands beside the dash
            inner = self._block(value, deeper)
            return self._beside(head, inner, indent, deeper)
        if isinstance(value, list) and not is_item and self._chance(0.4):
            deeper = indent
        return [f"{head}{anchor}{self._side(is_head=True)}", *self._block(value, deeper)]

    def _beside(self, head: str, inner: list[str], indent: str, deeper: str) -> list[str]:
        first = next(index for index, line in enumerate(inner) if line.strip() and not line.lstrip().startswith("#"))
        if first:
            return [f"{head}{self._side(is_head=True)}", *inner]
        return (
            [f"{head}{' ' * (len(deeper) - len(indent) - 1)}{inner[0][len(deeper) :]}", *inner[1:]]
            if len(deeper) > len(indent) + 1
            else [head, *inner]
        )

    def _key(self, key: str) -> str:
        if _PLAIN.fullmatch(key) and self._chance(0.8):
            return key
        return self._quoted(key)

    # -- scalars

    def _scalar(self, head: str, value: Any, indent: str) -> list[str]:
        deeper = indent + " " * self.random.randint(1, 4)
        if not isinstance(value, str):
            return [f"{head}{self._gap()}{self._number(value)}{self._side()}".rstrip(" ") or head]
        lines = self._literal(head, value, deeper) if "\n" in value or self._chance(0.25) else None
        if lines is not None:
            return lines
        words = value.split(" ")
        if len(words) > 1 and all(words) and "\n" not in value and self._chance(0.4):
            return self._broken(head, words, value, deeper)
        return [f"{head}{self._gap()}{self._inline(value)}{self._side()}"]

    def _number(self, value: Any) -> str:
        if value is None:
            return self.random.choice(_NULLS)
        if isinstance(value, bool):
            return self.random.choice(_BOOLEANS[value])
        if isinstance(value, int) and value >= 0 and self._chance(0.2):
            return self.random.choice((hex(value), f"+{value}", f"0b{value:b}"))
        return repr(value)

    def _inline(self, text: str) -> str:
        """On one line."""
        if _PLAIN.fullmatch(text) and text.lower() not in _WORDS and self._chance(0.6):
            return text
        return self._quoted(text)

    def _quoted(self, text: str) -> str:
        if text.isprintable() and self._chance(0.5):
            return "'" + text.replace("'", "''") + "'"
        return '"' + "".join(self._escaped(char) for char in text) + '"'

    def _escaped(self, char: str) -> str:
        if char in _ESCAPES:
            return _ESCAPES[char]
        if char.isprintable() and not (ord(char) > 127 and self._chance(0.5)):
            return char
        code = ord(char)
        return f"\\x{code:02x}" if code < 256 else f"\\u{code:04X}" if code < 65536 else f"\\U{code:08x}"

    def _literal(self, head: str, text: str, deeper: str) -> list[str] | None:
        """A block, literal or folded; None if it cannot be one."""
        body = text.rstrip("\n")
        lines = body.split("\n")
        is_plain = body and all(char.isprintable() or char == "\n" for char in text)
        if not is_plain or any(line != line.rstrip(" ") for line in lines) or not lines[0]:
            return None
        ends = len(text) - len(body)
        chomping = "-" if ends == 0 else "" if ends == 1 and self._chance(0.7) else "+"
        indicator = str(len(deeper) - len(head) + len(head.lstrip(" "))) if lines[0].startswith(" ") else ""
        is_deep = any(line.startswith(" ") for line in lines)
        style = ">" if not is_deep and self._chance(0.4) else "|"
        if style == ">":
            # a line break is a space there, and a blank line a line break
            lines = [line for paragraph in lines for line in ("", *self._folded(paragraph))][1:]
        if indicator:
            deeper = " " * (len(head) - len(head.lstrip(" "))) + " " * int(indicator)
        tail = [""] * (ends - 1) if chomping == "+" else [""] * self.random.choice((0, 0, 1))
        self._keeps, self._is_open = chomping == "+", True
        opened = f"{head}{self._gap()}{style}{indicator}{chomping}{self._side()}"
        return [opened, *(f"{deeper}{line}" if line else "" for line in lines), *tail]

    def _folded(self, paragraph: str) -> list[str]:
        lines, words = [""], paragraph.split(" ")
        for number, word in enumerate(words):
            # more than one space stays within its line
            is_joint = number and word and words[number - 1] and not lines[-1].endswith(" ")
            if is_joint and self._chance(0.3):
                lines.append(word)
            else:
                lines[-1] += f" {word}" if number else word
        return lines

    def _broken(self, head: str, words: list[str], text: str, deeper: str) -> list[str]:
        """On several lines, in quotes or plain."""
        if _PLAIN.fullmatch(text) and words[0].lower() not in _WORDS and all(word.isalnum() for word in words):
            quote, parts = "", words
        elif text.isprintable() and self._chance(0.5):
            quote, parts = "'", [word.replace("'", "''") for word in words]
        else:
            quote, parts = '"', ["".join(self._escaped(char) for char in word) for word in words]
        lines = [f"{head}{self._gap()}{quote}{parts[0]}"]
        for part in parts[1:]:
            # a document marker and a comment begin only where a line does
            if self._chance(0.3) and not part.startswith(("#", "---", "...")):
                lines[-1] += self.random.choice(("", " "))
                lines.append(f"{deeper}{part}")
            else:
                lines[-1] += f" {part}"
        lines[-1] += quote + self._side()
        return lines

    # -- brackets

    def _flow_lines(self, head: str, value: dict[str, Any] | list[Any], indent: str) -> list[str]:
        text = f"{head}{self._gap()}{self._flow(value)}"
        if len(text) <= _WIDTH or self._chance(0.3):
            return [text + self._side()]
        return self._broken_flow(f"{head}{self._gap()}", value, indent + "  ")

    def _broken_flow(self, head: str, value: dict[str, Any] | list[Any], indent: str) -> list[str]:
        """An item a line."""
        opened, closed = "{}" if isinstance(value, dict) else "[]"
        items = self._flow_items(value)
        lines = [f"{head}{opened}{self._side()}"]
        for number, item in enumerate(items):
            lines += [f"{indent}{self._comment()}"] if self._chance(0.05) else []
            comma = "," if number < len(items) - 1 or self._chance(0.3) else ""
            lines.append(f"{indent}{self.random.choice(('', '  '))}{item}{comma}{self._side()}")
        lines.append(f"{indent}{closed}{self._side()}")
        return lines

    def _flow(self, value: Any) -> str:
        known = self._anchors.get(_as_json(value))
        if known is not None and self._chance(0.5):
            return f"*{known} "
        if not isinstance(value, dict | list):
            return self._inline(value) if isinstance(value, str) else self._number(value)
        opened, closed = "{}" if isinstance(value, dict) else "[]"
        pad = self.random.choice(("", " "))
        joined = self.random.choice((", ", ",", " , ")).join(self._flow_items(value))
        return f"{opened}{pad}{joined}{pad}{closed}"

    def _flow_items(self, value: dict[str, Any] | list[Any]) -> list[str]:
        if isinstance(value, list):
            return [self._flow(item) for item in value]
        return [f"{self._key(key)}: {self._flow(item)}" for key, item in value.items()]


def _as_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
