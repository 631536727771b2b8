"""Cuts the smallest fragment that shows a key out of the text of a playbook, by the places of its values."""

from __future__ import annotations

from typing import Final

import yaml

from .places import Place

# a mapping is shown as a whole if it has at most so many lines, or so many characters on one line
_WHOLE_LINES: Final = 6
_WHOLE_WIDTH: Final = 140
# a value that is longer ends with `# ...`
_MOST_LINES: Final = 14
# keys that tell what a mapping is, shown with any other key of it
_TELLING: Final = ("step", "name", "kind", "do", "path", "as")


def fragment(text: str, place: Place) -> str:
    """The mapping that holds the key, or what tells what it is and the key with its value."""
    lines = _holder(text, place)
    if place.under is None:
        lines = [f"- {lines[0]}", *(f"  {line}".rstrip() for line in lines[1:])]
    elif place.under and place.holder.flow_style:
        lines = [f"{place.under}: {lines[0]}", *lines[1:]]
    elif place.under:
        lines = [f"{place.under}:", *(f"  {line}".rstrip() for line in lines)]
    if len(lines) > _MOST_LINES:
        kept = lines[: _MOST_LINES - 1]
        indent = len(kept[-1]) - len(kept[-1].lstrip())
        lines = [*kept, f"{' ' * indent}# ..."]
    return "\n".join(lines)


def _holder(text: str, place: Place) -> list[str]:
    whole = cut(text, place.holder, place.holder)
    if place.under != "" and len(whole) <= _WHOLE_LINES and max(map(len, whole)) <= _WHOLE_WIDTH:
        return whole
    shown = [
        (key, value)
        for key, value in place.holder.value
        if key is place.key or (place.under != "" and key.value in _TELLING and isinstance(value, yaml.ScalarNode))
    ]
    pairs = [cut(text, key, value) for key, value in shown]
    if place.holder.flow_style:
        first, *rest = [line for number, pair in enumerate(pairs) for line in _joined(pair, number == 0)]
        return _closed([f"{{{first}", *rest])
    return [line for pair in pairs for line in pair]


def _joined(pair: list[str], is_first: bool) -> list[str]:
    return pair if is_first else [f", {pair[0]}", *pair[1:]]


def _closed(lines: list[str]) -> list[str]:
    """The pairs of a flow mapping on one line, as far as each has only one."""
    found = [lines[0]]
    for line in lines[1:]:
        if line.startswith(", "):
            found[-1] += line
        else:
            found.append(line)
    found[-1] += "}"
    return found


def cut(text: str, first: yaml.Node, last: yaml.Node) -> list[str]:
    """The lines from the beginning of one node to the end of the other, without the indentation of the first."""
    start, end = first.start_mark, last.end_mark
    column = start.column
    lines = text[start.index : end.index].rstrip().split("\n")
    lines = [lines[0], *(line[column:] if not line[:column].strip() else line.lstrip() for line in lines[1:])]
    if isinstance(last, yaml.CollectionNode):
        while lines[-1].lstrip().startswith("#") or not lines[-1].strip():
            lines.pop()
    return lines
