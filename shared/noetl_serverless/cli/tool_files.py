"""The tools of the catalog that a playbook calls and whose definitions are files beside it.

With them it can be checked, drawn and tested without a stack. When it is registered, the catalog's own versions take
their place.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ..playbook.document import Document

# folders below that of the playbook which are looked into, too
FOLDERS: Final = ("", "tools")
# files of one folder
MAX_FILES: Final = 500


def tool_definitions(document: Document, file: str) -> dict[str, str]:
    """What the calls add to the text of the playbook in `file`, for those whose tool is a file beside it. A file has no
    version: it stands for whichever is called."""
    from ..playbook.tool_calls import calls_of, found, parts_of

    calls = [call for _, call in calls_of(document.root) if found(call, document.scripts) is None]
    if not calls or file == "-":
        return {}
    texts = dict(_definitions(Path(file).resolve().parent))
    parts: dict[str, str] = {}
    for call in calls:
        if call.path in texts:
            parts |= parts_of(call, call.version or 1, texts[call.path])
    return parts


def _definitions(folder: Path) -> Iterator[tuple[str, str]]:
    """(path in the catalog, text)"""
    from ..errors import InvalidPlaybook
    from ..playbook.load import read_playbook
    from ..tools.resources import kind_of

    for name in FOLDERS:
        for path in sorted((folder / name).glob("*.y*ml"))[:MAX_FILES]:
            try:
                text = path.read_text(encoding="utf-8")
                if kind_of(text) == "Tool":
                    metadata = read_playbook(text).value(("metadata",))
                    yield str(metadata.get("path") or metadata.get("name")), text
            except (OSError, UnicodeDecodeError, InvalidPlaybook, AttributeError):
                # whoever checks that file says what is wrong with it
                continue
