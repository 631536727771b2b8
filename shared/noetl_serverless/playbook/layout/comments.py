"""Gives each comment and blank line of a text to the entry that it stands with."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from .syntax import Collection, Entry, Scalar, Tree

_MARKER = re.compile(r"(?:---|\.\.\.)(?=\s|$)")


def attach(tree: Tree) -> list[str]:
    """All comments, sorted, once each has its entry.

    A comment on a line of its own belongs to the entry below it, or, if it is indented deeper than that, to the end of
    the block that it is in. Any other comment belongs to what is on its line.
    """
    return sorted(_Attachment(tree).run())


class _Attachment:
    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        ends = [*(start - 1 for start in tree.starts[1:]), len(tree.text)]
        self.lines = [tree.text[start:end] for start, end in zip(tree.starts, ends, strict=True)]
        # in the order of the text, what contains others first
        self.entries = list(_entries(tree.root))
        self.starts = [entry.start for entry in self.entries]
        # in brackets, without those in others
        self.flows = [node for node in _collections(tree.root) if node.is_flow and not _is_in_flow(node)]
        self.flow_starts = [node.start for node in self.flows]
        # parts of the text in which # does not begin a comment, and lines that are never blank
        spans = sorted(span for entry in self.entries for span in self._spans(entry))
        self.span_starts = [start for start, _ in spans]
        self.span_ends = [end for _, end in spans]

    def run(self) -> list[str]:
        found = []
        for number, line in enumerate(self.lines):
            begin = self.tree.starts[number]
            at = self._comment(line, begin)
            if at is None:
                continue
            found.append(line[at:].rstrip())
            if line[:at].strip() and not _MARKER.match(line):
                self._on_line(begin + at, found[-1])
            else:
                self._alone(found[-1], begin + at, at, self._blank_above(number))
        for entry in self.entries:
            if not self._blank_above(self.tree.line(entry.start)):
                continue
            if entry.leading:
                entry.leading.append("")
            else:
                entry.has_blank_above = True
        for collection in _collections(self.tree.root):
            # a blank line above the first entry does not set it apart from another
            for entry in collection.entries[:1]:
                entry.has_blank_above = False
        return found

    def _alone(self, text: str, offset: int, column: int, has_blank: bool) -> None:
        index = bisect_left(self.starts, offset)
        following = self.entries[index] if index < len(self.entries) else None
        before = self.entries[index - 1] if index else None
        flow = self._open_flow(offset)
        if flow is not None and (following is None or following.start >= flow.end):
            # an empty one stays on its line
            _add(flow.trailing if flow.entries or flow.owner is None else flow.owner.leading, text, has_blank)
        elif flow is None and before is not None and (block := self._block(before, following, column)) is not None:
            _add(block.trailing, text, has_blank)
        elif following is not None:
            if not following.leading:
                following.has_blank_above = has_blank
                following.leading.append(text)
            else:
                _add(following.leading, text, has_blank)

    def _block(self, before: Entry, following: Entry | None, column: int) -> Collection | None:
        """The block that a comment at this column ends; None if it belongs to the entry that follows."""
        chain = [before, *before.ancestors()]
        if following is not None and following.parent.owner is before:
            return None
        outer = set()
        if following is not None:
            outer = {id(following.parent), *(id(entry.parent) for entry in following.ancestors())}
            if column <= following.column:
                return None
        for entry in chain:
            if entry.parent.is_flow:
                continue
            if id(entry.parent) in outer:
                return None
            if entry.column <= column:
                return entry.parent
        return self.tree.root if following is None else None

    def _on_line(self, offset: int, text: str) -> None:
        index = bisect_right(self.starts, offset) - 1
        if index < 0:
            self.entries[0].leading.append(text)
            return
        entry = self.entries[index]
        while entry.parent.is_flow and entry.parent.end <= offset and entry.parent.owner is not None:
            entry = entry.parent.owner
        entry.comments.append(text)

    def _open_flow(self, offset: int) -> Collection | None:
        """The innermost brackets around the offset."""
        index = bisect_left(self.flow_starts, offset) - 1
        flow = self.flows[index] if index >= 0 and offset < self.flows[index].end else None
        while flow is not None:
            inner = (entry.value for entry in flow.entries if isinstance(entry.value, Collection))
            deeper = next((node for node in inner if node.start < offset < node.end), None)
            if deeper is None:
                return flow
            flow = deeper
        return None

    def _comment(self, line: str, begin: int) -> int | None:
        at = line.find("#")
        while at >= 0:
            if (at == 0 or line[at - 1] in " \t") and not self._is_text(begin + at):
                return at
            at = line.find("#", at + 1)
        return None

    def _blank_above(self, number: int) -> bool:
        above = number - 1
        return above >= 0 and not self.lines[above].strip() and not self._is_text(self.tree.starts[above])

    def _is_text(self, offset: int) -> bool:
        index = bisect_right(self.span_starts, offset) - 1
        return index >= 0 and offset < self.span_ends[index]

    def _spans(self, entry: Entry) -> Iterator[tuple[int, int]]:
        for node in (entry.key, entry.value):
            if not isinstance(node, Scalar) or node.start >= node.end:
                continue
            if node.style not in ("|", ">"):
                yield node.start, node.end
                continue
            # its header may have a comment; blank lines at its end are of the text only if it keeps them
            _, _, body = node.source.partition("\n")
            indicators = node.indicators
            yield node.start, node.end - len(node.source) + len(indicators)
            yield node.end - len(body), node.end - (0 if "+" in indicators else len(body) - len(body.rstrip()))


def _entries(node: Collection) -> Iterator[Entry]:
    for entry in node.entries:
        yield entry
        if isinstance(entry.value, Collection):
            yield from _entries(entry.value)


def _collections(node: Collection) -> Iterator[Collection]:
    yield node
    for entry in node.entries:
        if isinstance(entry.value, Collection):
            yield from _collections(entry.value)


def _is_in_flow(node: Collection) -> bool:
    return node.owner is not None and node.owner.parent.is_flow


def _add(comments: list[str], text: str, has_blank: bool) -> None:
    if has_blank:
        comments.append("")
    comments.append(text)
