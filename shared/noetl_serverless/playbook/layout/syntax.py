"""A YAML text as a tree that keeps what values do not have: how each scalar is written, anchors, and places.

Only the text of a readable document (see playbook.document) is given to it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import yaml

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# what ends a line in YAML 1.1
_BREAK: Final = re.compile(r"[\n\x85\u2028\u2029]")
# anchors and tags before a node
_PROPERTIES: Final = re.compile(r"(?:[&!]\S*\s+)*(?:[&!]\S*$)?")
_ANCHOR: Final = re.compile(r"&(\S+)")
# what ends the indicators of a block scalar
_INDICATORS: Final = re.compile(r"[ \t\n]")


@dataclass(slots=True, kw_only=True)
class Node:
    """`start` and `end` are offsets in the text; `properties` are its anchor and its tag, as written."""

    start: int
    end: int
    properties: str = ""

    @property
    def anchor(self) -> str | None:
        match = _ANCHOR.search(self.properties)
        return match[1] if match else None


@dataclass(slots=True, kw_only=True)
class Scalar(Node):
    """`source` is the scalar as written, without properties; `style` is None for plain, else ' " | or >."""

    source: str
    value: str
    style: str | None

    @property
    def indicators(self) -> str:
        """What begins a block scalar: `|`, `>-` or `|2+`, without the comment behind it."""
        return _INDICATORS.split(self.source, maxsplit=1)[0]


@dataclass(slots=True, kw_only=True)
class Alias(Node):
    name: str


@dataclass(slots=True, kw_only=True)
class Collection(Node):
    """A mapping or, if its entries have no keys, a sequence."""

    is_map: bool
    is_flow: bool
    entries: list[Entry] = field(default_factory=list)
    # comments after the last entry
    trailing: list[str] = field(default_factory=list)
    owner: Entry | None = None
    # in brackets on more than one line
    is_broken: bool = False


@dataclass(slots=True, eq=False, kw_only=True)
class Entry:
    """A key with its value, or an item of a sequence, with the comments that belong to it.

    Comments are without indentation; an empty one is a blank line. `column` is that of the key or dash.
    """

    parent: Collection
    key: Scalar | None
    value: Value
    start: int
    column: int
    has_blank_above: bool = False
    leading: list[str] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)

    def ancestors(self) -> Iterator[Entry]:
        entry = self.parent.owner
        while entry is not None:
            yield entry
            entry = entry.parent.owner


Value: TypeAlias = Scalar | Alias | Collection


class Unsupported(ValueError):
    """The text is a document, but not one that can be laid out."""


@dataclass(slots=True)
class Tree:
    """`starts` are the offsets of its lines; `has_marker`: the document begins with ---."""

    text: str
    root: Collection
    has_marker: bool
    starts: list[int]

    def line(self, offset: int) -> int:
        """The number of the line of an offset, from 0."""
        return bisect_right(self.starts, offset) - 1


def parse(text: str) -> Tree:
    """Raises Unsupported if the root is no mapping, or if there are directives."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    starts = [0, *(match.end() for match in _BREAK.finditer(text))]
    reader = _Reader(text, starts)
    events = iter(yaml.parse(text, Loader=_LOADER))
    has_marker, root = False, None
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            if event.version or event.tags:
                raise Unsupported("a document with directives (%YAML, %TAG) is not formatted")
            has_marker = bool(event.explicit)
            root = reader.node(next(events), events)
    if not isinstance(root, Collection) or not root.is_map:
        raise Unsupported("a playbook must be a mapping")
    return Tree(text, root, has_marker, starts)


class _Reader:
    def __init__(self, text: str, starts: list[int]) -> None:
        self.text = text
        self.starts = starts

    def node(self, event: Any, events: Iterator[Any]) -> Value:
        start, end = self._offset(event.start_mark), self._offset(event.end_mark)
        if isinstance(event, yaml.AliasEvent):
            return Alias(start=start, end=end, name=str(event.anchor))
        properties = self._properties(event, start, end)
        if isinstance(event, yaml.ScalarEvent):
            return Scalar(
                start=start,
                end=end,
                properties=" ".join(properties.split()),
                source=self.text[start + len(properties) : end],
                value=event.value,
                style=event.style if event.style in ("'", '"', "|", ">") else None,
            )
        found = Collection(
            start=start,
            end=end,
            properties=" ".join(properties.split()),
            is_map=isinstance(event, yaml.MappingStartEvent),
            is_flow=bool(event.flow_style),
        )
        self._fill(found, events)
        return found

    def _fill(self, found: Collection, events: Iterator[Any]) -> None:
        before = found.start
        for event in events:
            if isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                # the end of a block is the next token, which may be far away
                found.end = self._offset(event.end_mark) if found.is_flow else before
                found.is_broken = found.is_flow and "\n" in self.text[found.start : found.end]
                return
            first = self.node(event, events)
            key = first if found.is_map and isinstance(first, Scalar) else None
            value = self.node(next(events), events) if found.is_map else first
            start = first.start if found.is_map or found.is_flow else self._dash(before, first.start)
            entry = Entry(
                parent=found, key=key, value=value, start=start, column=start - self.starts[self._line(start)]
            )
            if isinstance(value, Collection):
                value.owner = entry
            found.entries.append(entry)
            before = max(value.end, first.end)

    def _dash(self, after: int, before: int) -> int:
        """The dash of an item: the first that stands after the item before it, not in a comment."""
        while after < before:
            match self.text[after]:
                case "-":
                    return after
                case "#":
                    after = self.text.index("\n", after)
            after += 1
        return before

    def _properties(self, event: Any, start: int, end: int) -> str:
        if event.anchor is None and (event.tag is None or event.tag == "!"):
            is_bare_tag = self.text[start : start + 1] == "!"
            if not is_bare_tag:
                return ""
        limit = end if isinstance(event, yaml.ScalarEvent) else len(self.text)
        match = _PROPERTIES.match(self.text, start, limit)
        return match[0] if match else ""

    def _line(self, offset: int) -> int:
        return bisect_right(self.starts, offset) - 1

    def _offset(self, mark: Any) -> int:
        start: int = self.starts[min(mark.line, len(self.starts) - 1)]
        return min(start + int(mark.column), len(self.text))
