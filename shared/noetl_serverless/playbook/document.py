"""YAML text to plain data that records the place of every key and value.

The text is read as a stream of events, so that size, depth, aliases and duplicate keys are checked before anything is
built from them. Scalars are those of JSON; keys are always strings, as written.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final

import yaml
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.nodes import ScalarNode
from yaml.resolver import Resolver

from ..errors import Fault, json_pointer
from . import yaml_readings
from .scripts import InvalidScripts, split

MAX_BYTES: Final = 4 * 1024 * 1024
MAX_DEPTH: Final = 64
# the size of the document with every alias expanded
MAX_NODES: Final = 500_000
# of scalars that are read differently elsewhere, more are not listed
MAX_SURPRISES: Final = 100
# of keys that are there twice with the same value, more are faults
MAX_DUPLICATES: Final = 100

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# numbers of JSON that YAML 1.1 reads as text: an exponent without a sign, and one without a decimal point as in 1e-06
_FLOAT: Final = re.compile(r"-?\d+\.\d+[eE]\d+|-?\d+[eE][-+]\d+")
_TAG: Final = "tag:yaml.org,2002:"
_RESOLVER: Final[Any] = Resolver()
_CONSTRUCTOR: Final = SafeConstructor()

Path = Sequence[str | int]


@dataclass(frozen=True, slots=True)
class Mark:
    """Counted from 1. `content` and `content_column` are where the text itself begins: behind a quote, and for a block
    scalar in the line below, which like all its lines is indented by `indent` columns."""

    line: int
    column: int
    content: int
    content_column: int = 1
    indent: int = 0


class MapNode(dict[str, Any]):
    """A mapping with the marks of its keys and values."""

    __slots__ = ("key_marks", "mark", "value_marks")

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark
        self.key_marks: dict[str, Mark] = {}
        self.value_marks: dict[str, Mark] = {}

    def without(self, keys: Collection[str]) -> MapNode:
        copy = MapNode(self.mark)
        copy.update({key: value for key, value in self.items() if key not in keys})
        copy.key_marks, copy.value_marks = self.key_marks, self.value_marks
        return copy

    def marks_of(self, key: str) -> tuple[Mark, Mark]:
        """Of the key and of its value."""
        return self.key_marks[key], self.value_marks[key]

    def having(self, key: str, value: Any, key_mark: Mark, value_mark: Mark) -> MapNode:
        """A copy with this value under `key`."""
        copy = MapNode(self.mark)
        copy.update(self)
        copy[key] = value
        copy.key_marks = {**self.key_marks, key: key_mark}
        copy.value_marks = {**self.value_marks, key: value_mark}
        return copy

    def having_all(self, values: Mapping[str, Any]) -> MapNode:
        """A copy with other values under keys that it has."""
        copy = MapNode(self.mark)
        copy.update(self)
        copy.update(values)
        copy.key_marks, copy.value_marks = self.key_marks, self.value_marks
        return copy


class ListNode(list[Any]):
    """A sequence with the marks of its items."""

    __slots__ = ("mark", "marks")

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark
        self.marks: list[Mark] = []


class Unreadable(Exception):
    """The text cannot be read further; `fault` says why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


@dataclass(slots=True)
class Document:
    root: Any
    # duplicate keys and similar faults that do not prevent reading the rest
    faults: list[Fault] = field(default_factory=list)
    # a key that is there twice with the same value, and each older form
    warnings: list[Fault] = field(default_factory=list)
    # of a document whose older forms have been rewritten: where the rewritten parts stood, and the root before
    moved: dict[tuple[str | int, ...], tuple[str | int, ...]] = field(default_factory=dict)
    written: Any = None
    # a warning for each plain scalar that other readers of YAML take for something else
    surprises: list[Fault] = field(default_factory=list)
    # the content of the scripts that are a part of the text, by location
    scripts: Mapping[str, str] = field(default_factory=dict)

    @property
    def as_written(self) -> Any:
        return self.root if self.written is None else self.written

    def find(self, path: Path) -> tuple[list[str | int], Mark]:
        """The nearest part of the document to `path` and its mark; parts of `path` the document lacks are left out."""
        value, mark, found = self.root, getattr(self.root, "mark", Mark(1, 1, 1)), []
        for part in path:
            if isinstance(value, MapNode) and part in value:
                mark, value = value.value_marks[str(part)], value[str(part)]
            elif isinstance(value, ListNode) and isinstance(part, int) and 0 <= part < len(value):
                mark, value = value.marks[part], value[part]
            else:
                continue
            found.append(part)
        return found, mark

    def fault(self, message: str, path: Path, code: str = "playbook.invalid_value", *, key: bool = False) -> Fault:
        """A fault at the value of `path`, or at its key."""
        found, mark = self.find(path)
        if key and path:
            value = self.value(path[:-1])
            if isinstance(value, MapNode):
                mark = value.key_marks.get(str(path[-1]), mark)
        return Fault(message, pointer=self.pointer(found), line=mark.line, column=mark.column, code=code)

    def pointer(self, path: Path) -> str:
        """The JSON pointer of `path` in the document as written."""
        for length in range(len(path), 0, -1) if self.moved else ():
            if (origin := self.moved.get(tuple(path[:length]))) is not None:
                return json_pointer([*origin, *path[length:]])
        return json_pointer(path)

    def value(self, path: Path) -> Any:
        value = self.root
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return value


def read_document(text: str) -> Document:
    """Raises Unreadable if `text` is not YAML, is too large or is nested too deeply."""
    try:
        text, scripts = split(text)
    except InvalidScripts as error:
        raise Unreadable(Fault(str(error), code="playbook.script")) from None
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise Unreadable(
            Fault("the text contains an unpaired surrogate", line=line, column=1, code="playbook.yaml")
        ) from None
    if size > MAX_BYTES:
        raise Unreadable(Fault(f"the playbook has {size} bytes, more than {MAX_BYTES}", code="playbook.too_large"))
    builder = _Builder(text)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        raise Unreadable(_syntax_fault(error, text)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Unreadable(Fault(f"{error.reason}", line=line, column=1, code="playbook.yaml")) from None
    except yaml.YAMLError as error:
        raise Unreadable(Fault(str(error), line=1, column=1, code="playbook.yaml")) from None
    if not builder.documents:
        raise Unreadable(Fault("the document is empty", line=1, column=1, code="playbook.yaml"))
    return Document(builder.root, builder.faults, builder.warnings, surprises=builder.surprises, scripts=scripts)


def _syntax_fault(error: yaml.MarkedYAMLError, text: str) -> Fault:
    mark = error.problem_mark or error.context_mark
    message = ", ".join(part for part in (error.context, error.problem) if part)
    lines = text.splitlines() or [""]
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    if line > len(lines):
        # what is missing at the end is missing behind the last line, and not in one that is not there
        line, column = len(lines), len(lines[-1]) + 1
    elif lines[line - 1][max(0, column - 2) :].startswith("{%"):
        message += '; a text that begins with a template needs quotes: "{% ... %}"'
    return Fault(message, line=line, column=column, code="playbook.yaml")


@dataclass(slots=True)
class _Open:
    """A container being read."""

    node: MapNode | ListNode
    anchor: str | None
    path: list[str | int]
    key: str | None = None
    key_mark: Mark | None = None
    # nodes and levels in it, with aliases expanded
    size: int = 1
    height: int = 1
    merges: list[MapNode] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Anchored:
    value: Any
    mark: Mark
    size: int
    height: int


class _Builder:
    def __init__(self, text: str) -> None:
        # read for the first block scalar
        self._text: str | list[str] = text
        self.root: Any = None
        self.documents = 0
        self.faults: list[Fault] = []
        self.warnings: list[Fault] = []
        self.surprises: list[Fault] = []
        self._stack: list[_Open] = []
        self._anchors: dict[str, _Anchored] = {}

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                raise self._stop("a playbook must be one document; a second one starts here", _mark(event))
        elif isinstance(event, yaml.ScalarEvent):
            mark = self._text_mark(event)
            if self._wants_key():
                if event.tag is not None:
                    raise self._stop(f"a key cannot have a tag, as here {event.tag}", mark)
                self._key(str(event.value), mark, merge=event.value == "<<" and event.implicit[0])
            else:
                self._add(_Anchored(self._scalar(event, mark), mark, 1, 1), event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            self._start(event)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            self._end()

    def _text_mark(self, event: Any) -> Mark:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if event.style not in ("|", ">"):
            return Mark(line, column, line, column + 1 if event.style in ("'", '"') else column)
        if isinstance(self._text, str):
            self._text = self._text.splitlines()
        lines = self._text
        written = next((lines[index] for index in range(line, len(lines)) if lines[index].strip()), "")
        kept = next((one for one in event.value.splitlines() if one.strip()), "")
        # spaces beyond the indentation of the block belong to the text
        indent = max(0, len(written) - len(written.lstrip(" ")) - len(kept) + len(kept.lstrip(" ")))
        return Mark(line, column, content=line + 1, content_column=indent + 1, indent=indent)

    def _wants_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].node, MapNode) and self._stack[-1].key is None

    def _start(self, event: Any) -> None:
        mark = _mark(event)
        is_map = isinstance(event, yaml.MappingStartEvent)
        if self._wants_key():
            raise self._stop(f"a key must be a plain string{self._unquoted(event)}", mark)
        if event.tag is not None and event.tag != _TAG + ("map" if is_map else "seq"):
            raise self._stop(f"the tag {event.tag} is not allowed", mark)
        if len(self._stack) >= MAX_DEPTH:
            raise self._stop(f"nested deeper than {MAX_DEPTH} levels", mark, "playbook.too_large")
        node: MapNode | ListNode = MapNode(mark) if is_map else ListNode(mark)
        self._stack.append(_Open(node, event.anchor, self._path_here()))

    def _unquoted(self, event: Any) -> str:
        """The advice for `{{ x }}` without quotes, which is a mapping whose key is a mapping."""
        outer, start = self._stack[-1].node.mark, event.start_mark
        is_template = event.flow_style and (outer.line, outer.column) == (start.line + 1, start.column)
        return '; a text that begins with a template needs quotes: "{{ ... }}"' if is_template else ""

    def _end(self) -> None:
        done = self._stack.pop()
        if isinstance(done.node, MapNode):
            _merge(done.node, done.merges)
        self._add(_Anchored(done.node, done.node.mark, done.size, done.height), done.anchor)

    def _alias(self, event: Any) -> None:
        mark = _mark(event)
        if self._wants_key():
            raise self._stop("a key must be a plain string", mark)
        known = self._anchors.get(event.anchor)
        if known is None:
            inside = any(open_.anchor == event.anchor for open_ in self._stack)
            what = "refers to an object that contains it" if inside else "is not defined before"
            raise self._stop(f"the alias *{event.anchor} {what}", mark)
        self._add(_Anchored(known.value, mark, known.size, known.height), None)

    def _key(self, key: str, mark: Mark, merge: bool) -> None:
        top = self._stack[-1]
        top.key, top.key_mark = ("<<" if merge else key), mark

    def _add(self, item: _Anchored, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = item
        if not self._stack:
            self.root = item.value
            return
        top = self._stack[-1]
        top.size += item.size
        top.height = max(top.height, item.height + 1)
        self._check_bounds(top, item.mark)
        if isinstance(top.node, ListNode):
            top.node.append(item.value)
            top.node.marks.append(item.mark)
        else:
            self._add_to_map(top, top.node, item)

    def _add_to_map(self, top: _Open, node: MapNode, item: _Anchored) -> None:
        key, key_mark, top.key = top.key or "", top.key_mark or item.mark, None
        if key == "<<":
            sources = item.value if isinstance(item.value, ListNode) else [item.value]
            if not all(isinstance(source, MapNode) for source in sources):
                raise self._stop("<< must be a mapping or a list of mappings", item.mark)
            top.merges.extend(sources)
            return
        if key in node:
            self._note_duplicate(top, key, key_mark, node[key], item.value)
        node[key] = item.value
        node.key_marks[key] = key_mark
        node.value_marks[key] = item.mark

    def _note_duplicate(self, top: _Open, key: str, mark: Mark, first: Any, second: Any) -> None:
        """It means nothing else if both times it is the same scalar."""
        is_scalar = not isinstance(first, (MapNode, ListNode)) and not isinstance(second, (MapNode, ListNode))
        # by its text, which tells 1 from 1.0, true and "1"
        is_same = is_scalar and repr(first) == repr(second) and len(self.warnings) < MAX_DUPLICATES
        message = f"duplicate key '{key}'{', with the same value: leave it out' if is_same else ''}"
        pointer = json_pointer([*top.path, key])
        fault = Fault(message, pointer=pointer, line=mark.line, column=mark.column, code="playbook.duplicate_key")
        (self.warnings if is_same else self.faults).append(fault)

    def _check_bounds(self, top: _Open, mark: Mark) -> None:
        if len(self._stack) + top.height - 1 > MAX_DEPTH:
            raise self._stop(f"nested deeper than {MAX_DEPTH} levels", mark, "playbook.too_large")
        if sum(open_.size for open_ in self._stack) > MAX_NODES:
            raise self._stop(f"more than {MAX_NODES} values, aliases counted each time", mark, "playbook.too_large")

    def _scalar(self, event: yaml.ScalarEvent, mark: Mark) -> Any:
        tag, text = event.tag, event.value
        is_plain = tag is None and event.implicit[0]
        if tag is None or tag == "!":
            tag = _RESOLVER.resolve(ScalarNode, text, (True, False)) if is_plain else _TAG + "str"
            if is_plain and _FLOAT.fullmatch(text):
                tag = _TAG + "float"
        kind = tag.removeprefix(_TAG)
        if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text if char > "\ud7ff"):
            raise self._stop("the text contains a character that cannot be stored", mark)
        is_text = kind in ("str", "timestamp", "value", "merge") or (kind in ("int", "float") and ":" in text)
        if not is_text and kind not in ("int", "float", "bool", "null"):
            raise self._stop(f"the tag {event.tag or tag} is not allowed", mark)
        value = text if is_text else self._construct(kind, tag, text, mark)
        if is_plain:
            self._note_surprise(text, value, mark)
        return value

    def _note_surprise(self, text: str, value: Any, mark: Mark) -> None:
        message = yaml_readings.surprise(text, value)
        if message is not None and len(self.surprises) < MAX_SURPRISES:
            pointer = json_pointer(self._path_here())
            fault = Fault(message, pointer=pointer, line=mark.line, column=mark.column, code=yaml_readings.CODE)
            self.surprises.append(fault)

    def _construct(self, kind: str, tag: str, text: str, mark: Mark) -> Any:
        try:
            value = getattr(_CONSTRUCTOR, f"construct_yaml_{kind}")(ScalarNode(tag, text))
        except (ValueError, KeyError, IndexError, ConstructorError, OverflowError):
            raise self._stop(f"'{text[:40]}' is not a value of type {kind}", mark) from None
        if isinstance(value, float) and not isfinite(value):
            raise self._stop(f"'{text}' is not a JSON number; to make it a string, put it in quotes", mark)
        if isinstance(value, int) and not -(2**63) <= value < 2**64:
            raise self._stop("the number does not fit in 64 bits; to keep it as a string, put it in quotes", mark)
        return value

    def _path_here(self) -> list[str | int]:
        if not self._stack:
            return []
        top = self._stack[-1]
        return [*top.path, len(top.node) if isinstance(top.node, ListNode) else (top.key or "")]

    def _stop(self, message: str, mark: Mark, code: str = "playbook.yaml") -> Unreadable:
        return Unreadable(
            Fault(message, pointer=json_pointer(self._path_here()), line=mark.line, column=mark.column, code=code)
        )


def _merge(node: MapNode, sources: Sequence[MapNode]) -> None:
    for source in sources:
        for key, value in source.items():
            if key not in node:
                node[key] = value
                node.key_marks[key] = source.key_marks[key]
                node.value_marks[key] = source.value_marks[key]


def _mark(event: Any) -> Mark:
    start = event.start_mark
    return Mark(start.line + 1, start.column + 1, start.line + 1)


def plain_data(value: Any) -> Any:
    """`value` in ordinary dicts and lists."""
    if isinstance(value, dict):
        return {key: plain_data(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain_data(item) for item in value]
    return value


def walk(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every scalar in `value` with its path."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from walk(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from walk(item, (*path, index))
    else:
        yield path, value
