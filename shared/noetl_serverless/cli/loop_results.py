"""The results of a loop's items, which the control plane gives page by page."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from .client import Client
from .failure import Failure
from .tabular import value_in
from .transfer import download


@dataclass(frozen=True, slots=True)
class Value:
    """A result that is at hand, as JSON has it, with tables in it."""

    value: Any


def loop_path(execution_id: str, step: str) -> str:
    return f"/api/aggregate/loop/results?{urlencode({'execution_id': execution_id, 'step_name': step})}"


def results_of(client: Client, path: str) -> dict[str, Any]:
    """As `{{ step }}` has it in a template: {"results", "stats"}. Raises Refused and Failure."""
    results: list[Any] = []
    stats: Any = None
    after: int | None = 0
    while after is not None:
        page = client.get(f"{path}&after={after}")
        stats = page["stats"]
        results += page["results"]
        for part in page["refs"]:
            results += [None] * (part["start"] - len(results))
            results += _rows(client, part)
        after = page["next"]
    return {"results": results, "stats": stats}


def item_of(client: Client, path: str, item: int) -> Any:
    """The result of the item with this number, from 0 on. Raises Refused and Failure."""
    page = client.get(f"{path}&after={item}")
    if page["results"]:
        return page["results"][0]
    for part in page["refs"]:
        if part["start"] <= item < part["end"]:
            return _rows(client, part)[item - part["start"]]
    raise Failure(f"the loop has no result of an item {item}: {page['stats']['total']} items, counted from 0")


def _rows(client: Client, part: dict[str, Any]) -> list[Any]:
    ref = part["ref"]
    query = {"ref": ref["ref"], "sha256": ref["meta"]["sha256"]}
    with tempfile.TemporaryDirectory(prefix="noetls-") as folder:
        source = Path(folder) / "part"
        with source.open("wb") as file:
            # as it is stored: what items have as tables are tables here as well
            path = f"/api/result/resolve?{urlencode(query)}"
            content_type = download(client, path, file.write, lambda done, total: None).content_type
        found = value_in(source, content_type)
    if not isinstance(found, list) or len(found) != part["end"] - part["start"]:
        raise Failure(f"{ref['ref']} is not the results of the items from {part['start']} to {part['end']}")
    return found
