"""The id of an execution on the command line."""

from __future__ import annotations

import shlex

from .failure import WrongUse

# as in store.ids, whose import takes longer
MAX_DIGITS = 19
MAX_CHARACTERS = 200


def checked(text: str) -> str:
    """`text` as it is; WrongUse for what can be no id, such as the path of a playbook."""
    if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS:
        return text
    shown = text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}..."
    hint = "to see the latest, run: noetls executions"
    if text and shown == text and text.isprintable() and not text.isdigit():
        hint = f"to see those of a playbook, run: noetls executions --playbook {shlex.quote(text)}"
    raise WrongUse(f"{shown!r} is no execution id; {hint}")


def path_of(execution_id: str) -> str:
    """Where the API has the execution. Raises WrongUse."""
    return f"/api/executions/{checked(execution_id)}"
