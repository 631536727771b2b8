"""Older forms of the language, rewritten to today's before anything else looks at the document.

Each rewriting is a warning that names today's form. What could mean two things is left as it is, for the grammar to
refuse. Values keep their places in the text, so that a fault in one is reported where its author wrote it.
"""

from __future__ import annotations

from dataclasses import replace

from ..document import Document
from .edits import Edits
from .head import Head
from .steps import Steps


def rewrite(document: Document) -> Document:
    """The document in today's forms, with its warnings; the same one if it has no older form."""
    edits = Edits(document)
    root = Head(edits).of_playbook(document.root)
    root = Steps(edits, root).of_playbook(root)
    if root is document.root:
        return document
    warnings = sorted([*document.warnings, *edits.warnings], key=lambda fault: (fault.line or 0, fault.column or 0))
    return replace(document, root=root, warnings=warnings, moved=edits.moved, written=document.root)
