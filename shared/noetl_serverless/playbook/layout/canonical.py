"""The canonical layout of a playbook's text. It changes no value and loses no comment: that is checked, not assumed."""

from __future__ import annotations

import json

from ...errors import Fault
from ..document import Document, Unreadable, plain_data, read_document
from ..scripts import InvalidScripts, split, with_scripts
from .comments import attach
from .order import arrange
from .syntax import Tree, Unsupported, parse
from .write import write


class NotFormatted(ValueError):
    """Why a text is left as it is; `fault` is the first one of a document that cannot be read."""

    def __init__(self, message: str, fault: Fault | None = None) -> None:
        super().__init__(message)
        self.fault = fault


def canonical(text: str) -> str:
    """Raises NotFormatted if the text is not one readable mapping, or if its values or its comments would change.
    Scripts behind the document stay as they are."""
    try:
        document, scripts = split(text)
    except InvalidScripts as invalid:
        raise NotFormatted(str(invalid)) from None
    return with_scripts(_canonical(document), scripts)


def _canonical(text: str) -> str:
    values = _values(_read(text))
    tree = _tree(text)
    comments = attach(tree)
    # what begins the file is about all of it, whichever key comes first
    first = tree.root.entries[0] if tree.root.entries else None
    head, marker = (first.leading if first else []), ["---"] if tree.has_marker else []
    if marker and head and not head[-1]:
        # of a blank line after the marker, which parts the head from the first key
        head = head[:-1]
    if first is not None:
        first.leading = []
    arrange(tree.root)
    written = "\n".join([*head, *marker, *write(tree.root)]) + "\n"
    try:
        is_same = _values(_read(written)) == values and attach(_tree(written)) == comments
    except NotFormatted:
        is_same = False
    if not is_same:
        raise NotFormatted("the values or the comments would not stay the same; please report this with the file")
    return written


def _tree(text: str) -> Tree:
    try:
        return parse(text)
    except Unsupported as unsupported:
        raise NotFormatted(str(unsupported)) from None


def _read(text: str) -> Document:
    try:
        document = read_document(text)
    except Unreadable as unreadable:
        raise NotFormatted(unreadable.fault.message, unreadable.fault) from None
    if document.faults:
        raise NotFormatted(document.faults[0].message, document.faults[0])
    return document


def _values(document: Document) -> str:
    """What the canonical hash is made of, and the version label, which the hash leaves out."""
    return json.dumps(plain_data(document.root), sort_keys=True)
