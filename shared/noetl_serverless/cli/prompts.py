"""What a person who watches an execution is told while it goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..inspection.limit_text import limits_text
from .client import Client
from .output import remark
from .progress import Progress

# waits for signals that are shown, and steps that limits keep waiting
MAX_PROMPTS = 20


class Prompts:
    """Tells, on stderr, which execution runs, which commands end its waits, and which limits keep it waiting."""

    def __init__(self, execution_id: str) -> None:
        self._execution_id = execution_id
        self._count = 0
        # runs of steps of which it was said that a limit keeps them waiting
        self._limited: set[tuple[str, int]] = set()
        self._are_all_shown = False

    def begin(self) -> None:
        remark(f"execution {self._execution_id}")

    def show(self, client: Client, page: Sequence[Mapping[str, Any]], progress: Progress) -> None:
        """The first MAX_PROMPTS waits for signals; when nothing happens, the limits that are used up."""
        if not page and not self._are_all_shown:
            self._show_limits(client.under_way(self._execution_id))
        for wait in progress.new_waits():
            self._count += 1
            if self._count <= MAX_PROMPTS:
                remark(wait.prompt(self._execution_id))
            elif self._count == MAX_PROMPTS + 1:
                remark(f"more waits are not shown here; to see them, run: noetls explain {self._execution_id}")

    def _show_limits(self, under_way: Iterable[Mapping[str, Any]]) -> None:
        for run in under_way:
            key = (str(run["step"]), int(run["generation"] or 0))
            if run["status"] != "queued" or not run.get("limits") or key in self._limited:
                continue
            if len(self._limited) == MAX_PROMPTS:
                self._are_all_shown = True
                remark(f"more are not shown here; to see them, run: noetls explain {self._execution_id}")
                return
            self._limited.add(key)
            remark(f"{key[0]} is queued: {limits_text(run['limits'])}")
