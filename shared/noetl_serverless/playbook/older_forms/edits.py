"""Changes of a document's nodes that keep the place of each value in the text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ...errors import Fault
from ..document import Document, ListNode, MapNode, Mark, Path

Place = tuple[str | int, ...]
Rewrite = Callable[[Any, Place], Any]

CODE: Final = "playbook.older_form"


class Edits:
    """Its methods return the node that they are given, or a copy if there is something to change: nodes may be shared
    through aliases, and the same one may be changed differently in two places."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.warnings: list[Fault] = []
        # place of a changed part -> where it stood
        self.moved: dict[Place, Place] = {}

    def renamed(self, node: Any, at: Place, names: Mapping[str, tuple[str, ...]], *, warns: bool = True) -> Any:
        if not isinstance(node, MapNode):
            return node
        for name, older in names.items():
            found = [key for key in older if key in node]
            if len(found) != 1 or name in node:
                continue
            (key,) = found
            if warns:
                self.warn(f"'{key}' is called '{name}' today", node, at, key)
            self.moved[(*at, name)] = self.origin((*at, key))
            node = node.having(name, node[key], *node.marks_of(key)).without({key})
        return node

    def moved_into(self, node: MapNode, key: str, at: Place, into: Place, name: str) -> MapNode:
        """`node[key]` as `name` of the mapping at `into` below it, unless that has one."""
        if key not in node or not can_hold(node, into) or name in (value_at(node, into) or ()):
            return node
        where = ": {".join(str(part) for part in into)
        self.warn(f"'{key}' belongs in '{into[0]}': write {where}: {{{name}: ...{'}' * len(into)}", node, at, key)
        self.moved[(*at, *into, name)] = self.origin((*at, key))
        return put(node.without({key}), into, name, node[key], *node.marks_of(key))

    def moved_deep(self, node: MapNode, at: Place, source: Path, key: str, into: Path, message: str) -> MapNode:
        """`key` of the mapping at `source` below `node` as one of the mapping at `into`, merged with what that has."""
        holder, target = value_at(node, source), value_at(node, into)
        value = holder[key]
        if not can_hold(node, into):
            return node
        known = None if target is None else target.get(key)
        if known is not None and not (isinstance(known, MapNode) and isinstance(value, MapNode)):
            return node
        place = (*at, *source)
        self.warn(message, holder, place, key)
        key_mark, value_mark = holder.marks_of(key)
        if isinstance(known, MapNode):
            for name, item in value.items():
                self.moved[(*at, *into, key, name)] = self.origin((*place, key, name))
                known = known.having(name, item, *value.marks_of(name))
            value = known
        else:
            self.moved[(*at, *into, key)] = self.origin((*place, key))
        node = removed(node, source, key)
        return put(node, into, key, value, key_mark, value_mark)

    def moved_to_item(self, step: MapNode, key: str, at: Place, items: ListNode) -> MapNode:
        """`step[key]` as that of the last item."""
        if key not in step:
            return step
        self.warn(f"'{key}' belongs to the task: write it in the last one", step, at[:-1], key)
        self.moved[(*at, len(items) - 1, key)] = self.origin((*at[:-1], key))
        last = items[-1].having(key, step[key], *step.marks_of(key))
        rest = step.without({key})
        return rest.having("tool", copied(items, {len(items) - 1: last}), *step.marks_of("tool"))

    def part(self, node: Any, key: str, at: Place, rewrite: Rewrite) -> Any:
        if not isinstance(node, MapNode) or key not in node:
            return node
        new = rewrite(node[key], (*at, key))
        if new is node[key]:
            return node
        return node.having(key, new, *node.marks_of(key))

    def deep(self, node: Any, at: Place, path: Path, rewrite: Rewrite) -> Any:
        if len(path) == 1:
            return self.part(node, str(path[0]), at, rewrite)
        return self.part(node, str(path[0]), at, lambda child, place: self.deep(child, place, path[1:], rewrite))

    def each(self, rewrite: Rewrite) -> Rewrite:
        def all_of(items: Any, at: Place) -> Any:
            if not isinstance(items, ListNode):
                return items
            changed = {}
            for index, item in enumerate(items):
                if (new := rewrite(item, (*at, index))) is not item:
                    changed[index] = new
            return copied(items, changed) if changed else items

        return all_of

    def origin(self, place: Place) -> Place:
        for length in range(len(place), 0, -1):
            if (origin := self.moved.get(place[:length])) is not None:
                return (*origin, *place[length:])
        return place

    def warn(self, message: str, node: MapNode, at: Place, key: str) -> None:
        self.warn_at(message, (*at, key), node.key_marks[key])

    def warn_at(self, message: str, at: Place, mark: Mark) -> None:
        pointer = Document(None, moved=self.moved).pointer(at)
        self.warnings.append(
            Fault(f"an older form: {message}", pointer=pointer, line=mark.line, column=mark.column, code=CODE)
        )


def value_at(node: Any, path: Path) -> Any:
    for part in path:
        if not isinstance(node, MapNode) or part not in node:
            return None
        node = node[str(part)]
    return node


def can_hold(node: MapNode, into: Path) -> bool:
    """Whether there is a mapping at `into` below `node`, or can be: what is no mapping is not replaced by one."""
    value: Any = node
    for part in into:
        value = value.get(str(part)) if part in value else None
        if value is None:
            return True
        if not isinstance(value, MapNode):
            return False
    return True


def put(node: MapNode, into: Path, key: str, value: Any, key_mark: Mark, value_mark: Mark) -> MapNode:
    """`node` with `key` in the mapping at `into` below it, which is made if there is none."""
    if not into:
        return node.having(key, value, key_mark, value_mark)
    first = str(into[0])
    child = node.get(first)
    if not isinstance(child, MapNode):
        child = MapNode(key_mark)
    new = put(child, into[1:], key, value, key_mark, value_mark)
    return node.having(first, new, node.key_marks.get(first, key_mark), node.value_marks.get(first, value_mark))


def removed(node: MapNode, source: Path, key: str) -> MapNode:
    if not source:
        return node.without({key})
    first = str(source[0])
    return node.having(first, removed(node[first], source[1:], key), *node.marks_of(first))


def copied(items: ListNode, changed: Mapping[int, Any]) -> ListNode:
    copy = ListNode(items.mark)
    copy.extend(changed.get(index, item) for index, item in enumerate(items))
    copy.marks = items.marks
    return copy
