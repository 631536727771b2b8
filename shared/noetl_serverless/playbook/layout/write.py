"""Writes a tree in the canonical layout: two spaces for each level, texts of several lines as blocks."""

from __future__ import annotations

import re
from itertools import takewhile
from typing import Final

from .syntax import Alias, Collection, Entry, Scalar, Value

WIDTH: Final = 120
_STEP: Final = "  "
# what a literal block holds as it is
_BLOCK_TEXT: Final = re.compile(
    r"[\t\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]*"
)


def write(root: Collection) -> list[str]:
    """The lines of the document."""
    return _block(root, "") if root.entries else ["{}"]


def _block(node: Collection, indent: str) -> list[str]:
    lines: list[str] = []
    for place, entry in enumerate(node.entries):
        # a blank line after a text that keeps those at its end would be one of its own
        has_blank = entry.has_blank_above and place > 0 and not _keeps_blank_lines(node.entries[place - 1].value)
        lines += [""] if has_blank else []
        lines += _entry(entry, indent)
    trailing = node.trailing
    if trailing and not trailing[0] and node.entries and _keeps_blank_lines(node.entries[-1].value):
        trailing = trailing[1:]
    return lines + _comments(trailing, indent)


def _keeps_blank_lines(value: Value) -> bool:
    """Whether it ends with a block scalar that keeps the blank lines at its end."""
    while isinstance(value, Collection):
        if value.is_flow or value.trailing or not value.entries:
            return False
        value = value.entries[-1].value
    return isinstance(value, Scalar) and value.style in ("|", ">") and "+" in value.indicators


def _entry(entry: Entry, indent: str) -> list[str]:
    value = entry.value
    head = f"{indent}-" if entry.key is None else f"{indent}{_key(entry.key)}:"
    head += f" {value.properties}" if value.properties else ""
    inline = _on_one_line(value, len(head) + 1) if isinstance(value, Collection) else None
    shares_line = isinstance(value, Collection) and inline is None and entry.key is None and not value.properties
    # one comment has room beside the entry, and none beside a dash alone
    last = entry.comments[-1:] if not shares_line else []
    above = _comments([*entry.leading, *entry.comments[: len(entry.comments) - len(last)]], indent)
    comment = f"  {last[0]}" if last else ""
    if not isinstance(value, Collection):
        return [*above, *_scalar(value, head, comment, indent + _STEP)]
    if inline is not None:
        return [*above, f"{head} {inline}{comment}"]
    inner = _block(value, indent + _STEP)
    if not shares_line:
        return [*above, f"{head}{comment}", *inner]
    # what stands above the first key stands above the dash
    first = list(takewhile(lambda line: not line or line.lstrip(" ").startswith("#"), inner))
    start, *rest = inner[len(first) :]
    return [
        *above,
        *(indent + line.lstrip(" ") if line else "" for line in first),
        f"{head} {start.lstrip(' ')}",
        *rest,
    ]


def _comments(comments: list[str], indent: str) -> list[str]:
    return [indent + text if text else "" for text in comments]


def _key(key: Scalar) -> str:
    is_simple = key.style not in ("|", ">") and "\n" not in key.source and not _has_rare_break(key) and key.source
    source = key.source if is_simple else _quoted(key.value)
    return f"{key.properties} {source}" if key.properties else source


# -- scalars


def _scalar(value: Scalar | Alias, head: str, comment: str, indent: str) -> list[str]:
    if isinstance(value, Alias):
        return [f"{head} *{value.name}{comment}"]
    if _has_rare_break(value):
        return [f"{head} {_quoted(value.value)}{comment}"]
    if value.style in ("|", ">"):
        return _as_written(value, head, comment, indent)
    if _is_better_as_block(value):
        chomping = "" if value.value.endswith("\n") else "-"
        lines = value.value.removesuffix("\n").split("\n")
        return [f"{head} |{chomping}{comment}", *_indented(lines, indent)]
    if not value.source:
        return [f"{head}{comment}"]
    first, *rest = value.source.split("\n")
    lines = [f"{head} {first}", *_indented([line.lstrip(" \t") for line in rest], indent)]
    return [*(line.rstrip(" \t") for line in lines[:-1]), lines[-1] + comment]


def _is_better_as_block(value: Scalar) -> bool:
    """A text of several lines that a literal block can hold exactly."""
    text = value.value
    if value.style in ("|", ">") or "\n" not in text.strip("\n") or not _BLOCK_TEXT.fullmatch(text):
        return False
    lines = text.removesuffix("\n").split("\n")
    is_plain = all(line == line.rstrip() for line in lines) and not lines[0].startswith((" ", "\t"))
    return is_plain and bool(lines[0]) and bool(lines[-1])


def _as_written(value: Scalar, head: str, comment: str, indent: str) -> list[str]:
    """A block scalar, moved to another indentation."""
    header, *lines = value.source.split("\n")
    filled = [line for line in lines if line.strip(" ")]
    content = [line for line in value.value.split("\n") if line.strip(" ")]
    if not filled or not content:
        return [f"{head} {_quoted(value.value)}{comment}"]
    own = len(content[0]) - len(content[0].lstrip(" "))
    margin = len(filled[0]) - len(filled[0].lstrip(" ")) - own
    lines = [line[margin:] for line in lines]
    keeps = "+" in value.indicators
    if keeps and not lines[-1]:
        lines.pop()
    while not keeps and not lines[-1]:
        lines.pop()
    # without it, the indentation of the first line would be that of the block
    indicator = str(len(_STEP)) if lines[0].startswith(" ") or own else ""
    chomping = "+" if keeps else "-" if "-" in value.indicators or not value.value.endswith("\n") else ""
    return [f"{head} {header[0]}{indicator}{chomping}{comment}", *_indented(lines, indent)]


def _has_rare_break(value: Scalar) -> bool:
    """Whether it is written on several lines that do not end with \\n: how they join depends on what is between."""
    return any(char in value.source for char in "\x85\u2028\u2029")


def _quoted(text: str) -> str:
    return '"' + "".join(_in_quotes(char) for char in text) + '"'


def _in_quotes(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if char in " \u3000" or char.isprintable():
        return char
    return "\\n" if char == "\n" else f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\U{ord(char):08x}"


def _indented(lines: list[str], indent: str) -> list[str]:
    return [indent + line if line else "" for line in lines]


# -- collections in brackets


def _on_one_line(node: Collection, column: int) -> str | None:
    """None if the collection becomes a block: if it is one, if it has comments or texts of several lines, or if it was
    on several lines and is too long for one."""
    text = _in_brackets(node) if node.is_flow else None
    return None if text is None or (node.is_broken and column + len(text) > WIDTH) else text


def _in_brackets(node: Collection) -> str | None:
    if node.trailing:
        return None
    parts = []
    for entry in node.entries:
        text = _flow(entry.value)
        if text is None or entry.leading or entry.comments:
            return None
        parts.append(text if entry.key is None else f"{_key(entry.key)}: {text}")
    return f"{{{', '.join(parts)}}}" if node.is_map else f"[{', '.join(parts)}]"


def _flow(value: Value) -> str | None:
    if isinstance(value, Alias):
        return f"*{value.name}"
    if isinstance(value, Collection):
        text = _in_brackets(value)
    else:
        is_long = "\n" in value.source or _has_rare_break(value) or _is_better_as_block(value)
        text = None if is_long else value.source or "null"
    return f"{value.properties} {text}" if value.properties and text is not None else text
