"""The order of keys: only of mappings whose keys are the language's own, never of an author's data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .syntax import Alias, Collection, Entry, Scalar


@dataclass(frozen=True, slots=True)
class Part:
    """`first` and `last` are its keys in order; others stay between them, as written, and so do keys of one place,
    separated by spaces. `parts` are the mappings, or the items of lists, below it, by the path of keys to them."""

    first: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    parts: Mapping[str, Part] = field(default_factory=dict)


_THEN = Part(("do", "to", "attempts", "backoff", "delay", "max_delay", "allow", "set"))
_RULE = Part(("when", "then", "else"), parts={"then": _THEN, "else.then": _THEN})
_TOOL = Part(("name kind",), ("output", "assert", "spec"), {"spec.policy.rules": _RULE})
_LOOP = Part(("in", "cursor", "iterator"), ("spec",))
_ARC = Part(("step", "when", "set"))
_STEP = Part(
    ("step", "desc", "pool", "loop", "input", "tool"),
    ("set", "compensate", "spec", "next"),
    {
        "loop": _LOOP,
        "tool": _TOOL,
        "compensate": Part(("loop", "input", "tool"), ("spec",), {"loop": _LOOP, "tool": _TOOL}),
        "spec.policy.admit.rules": _RULE,
        "next": Part(("spec", "arcs"), parts={"arcs": _ARC}),
    },
)
PLAYBOOK = Part(
    # input, output, credentials and tool are those of a tool of the catalog
    (
        *("apiVersion", "kind", "metadata", "executor", "keychain", "triggers", "workload", "schemas"),
        *("input", "output", "credentials"),
    ),
    ("tool", "workbook", "workflow"),
    {
        "tool": _TOOL,
        "metadata": Part(("name", "path")),
        "schemas": Part(("input", "result")),
        "executor": Part(("profile", "version", "requires", "spec")),
        "triggers": Part(("name", "kind"), ("when", "input")),
        "workbook": Part(("name", "desc", "tool"), parts={"tool": _TOOL}),
        "workflow": _STEP,
    },
)


def arrange(node: Collection, part: Part = PLAYBOOK) -> None:
    """Order the keys of `node` and below it, except where an alias would come before its anchor."""
    if not node.is_map:
        for entry in node.entries:
            if isinstance(entry.value, Collection):
                arrange(entry.value, part)
        return
    for path, below in part.parts.items():
        found = _below(node, path.split("."))
        if found is not None:
            arrange(found, below)
    arranged = sorted(node.entries, key=lambda entry: _rank(entry, part))
    if _keeps_anchors_first(node.entries, arranged):
        node.entries = arranged


def _below(node: Collection, path: list[str]) -> Collection | None:
    for key in path:
        found = next((entry.value for entry in node.entries if entry.key and entry.key.value == key), None)
        if not isinstance(found, Collection):
            return None
        node = found
    return node


def _rank(entry: Entry, part: Part) -> int:
    """Sorting keeps what has the same rank as it is."""
    key = entry.key.value if entry.key is not None else ""
    if key == "<<":
        return -1
    for place, keys in enumerate(part.first):
        if key in keys.split():
            return place
    return len(part.first) + (1 + part.last.index(key) if key in part.last else 0)


def _keeps_anchors_first(written: list[Entry], arranged: list[Entry]) -> bool:
    """Whether every alias still means the anchor that it means as written."""
    if written == arranged:
        return True
    names = {id(entry): (set(_anchors(entry)), set(_aliases(entry))) for entry in written}
    places = {id(entry): place for place, entry in enumerate(arranged)}
    for index, entry in enumerate(written):
        defined, used = names[id(entry)]
        for later in written[index + 1 :]:
            touched = names[id(later)]
            depends = defined & (touched[0] | touched[1]) or used & touched[0]
            if depends and places[id(later)] < places[id(entry)]:
                return False
    return True


def _nodes(entry: Entry) -> Iterator[Scalar | Alias | Collection]:
    if entry.key is not None:
        yield entry.key
    yield entry.value
    if isinstance(entry.value, Collection):
        for inner in entry.value.entries:
            yield from _nodes(inner)


def _anchors(entry: Entry) -> Iterator[str]:
    yield from (node.anchor for node in _nodes(entry) if node.anchor is not None)


def _aliases(entry: Entry) -> Iterator[str]:
    yield from (node.name for node in _nodes(entry) if isinstance(node, Alias))
