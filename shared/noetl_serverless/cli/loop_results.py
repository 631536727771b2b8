"""The results of a loop's items, which the control plane gives page by page."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from ..tables.listed import has_table
from .client import Client
from .failure import Failure
from .tabular import as_failures, value_in
from .transfer import download

# in a message
MAX_NAMED: Final = 20


@dataclass(frozen=True, slots=True)
class Value:
    """A result that is at hand, as JSON has it, with tables in it."""

    value: Any

    def whole(self) -> Any:
        return self.value

    def json(self) -> Iterator[bytes]:
        """Raises Failure for a table that has no JSON."""
        if not has_table(self.value):
            yield json.dumps(self.value, ensure_ascii=False).encode()
            return
        from ..tables.export import pieces

        with as_failures("json"):
            yield from pieces(self.value, "json")


@dataclass(frozen=True, slots=True)
class LoopResults:
    """As `{{ step }}` has them in a template: {"results", "stats"}. `path`: of the first page. Each reading raises
    Refused and Failure."""

    client: Client
    path: str

    def whole(self) -> dict[str, Any]:
        """All of them at once; tables in them keep their files open."""
        results: list[Any] = []
        newest: Any = None
        for part, stats in self._parts():
            results += part
            newest = stats
        return {"results": results, "stats": newest}

    def json(self) -> Iterator[bytes]:
        """Of each part alone, so that neither memory nor open files grow with their number."""
        begin, newest = b'{"results": [', None
        separator = begin
        for part, stats in self._parts():
            if part:
                yield from _items(separator, part)
                separator = b", "
            newest = stats
        end = b'], "stats": ' + json.dumps(newest).encode() + b"}"
        yield begin + end if separator == begin else end

    def item(self, item: int) -> Any:
        """The result of the item at this place, from 0 on."""
        page = self._page(item)
        first = 0
        for places in page["places"]:
            if places["start"] <= item < places["end"]:
                return page["results"][first + item - places["start"]]
            first += places["end"] - places["start"]
        for part in page["refs"]:
            if part["start"] <= item < part["end"]:
                return _rows(self.client, part)[item - part["start"]]
        following = min((it["start"] for it in (*page["places"], *page["refs"])), default=None)
        nearest = "" if following is None else f"; the next one is {following}"
        raise Failure(f"the loop has no result of an item {item}: {self._places()}{nearest}")

    def _parts(self) -> Iterator[tuple[list[Any], Any]]:
        """Each with the stats as they are then. Of items that have not run, the control plane gives the nulls."""
        after: int | None = 0
        while after is not None:
            page = self._page(after)
            yield page["results"], page["stats"]
            for part in page["refs"]:
                yield _rows(self.client, part), page["stats"]
            after = page["next"]

    def _page(self, after: int) -> dict[str, Any]:
        page: dict[str, Any] = self.client.get(f"{self.path}&after={after}")
        return page

    def _places(self) -> str:
        """Where there are results, as far as the first page says it."""
        page = self._page(0)
        ranges = [*page["places"], *page["refs"]]
        shown = [
            str(it["start"]) if it["end"] == it["start"] + 1 else f"{it['start']}-{it['end'] - 1}" for it in ranges
        ]
        rest = ", ..." if page["next"] is not None or len(shown) > MAX_NAMED else ""
        return f"there are {', '.join(shown[:MAX_NAMED])}{rest}" if shown else "it has none"


def loop_path(execution_id: str, step: str) -> str:
    return f"/api/aggregate/loop/results?{urlencode({'execution_id': execution_id, 'step_name': step})}"


def _items(begin: bytes, items: Sequence[Any]) -> Iterator[bytes]:
    """The items as JSON, without brackets, after `begin`. Raises Failure for a table that has no JSON."""
    if not has_table(items):
        yield begin + json.dumps(items, ensure_ascii=False).encode()[1:-1]
        return
    from ..tables import export

    with as_failures("json"):
        yield begin
        yield from export.items(items)


def _rows(client: Client, part: Mapping[str, Any]) -> list[Any]:
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
