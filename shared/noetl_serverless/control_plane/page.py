"""Lists in answers: as many rows as fit, and a link to the next page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlencode

import orjson
from pydantic import BaseModel

from ..limits import PAGE_BYTES
from .encode import encode

Row = TypeVar("Row", bound=BaseModel)


@dataclass(slots=True)
class Page:
    """A list answer, cut where the rows reach PAGE_BYTES: {"items", "next"}, or bare items as in the original NoETL.
    `more`: whether rows follow the last of `items`. `next_parameters` returns the query parameters that continue after
    an item; the value of the first one is `next`. A Link header has the same parameters. It is relative to the request,
    which may have come through a gateway. `headers` are for values that do not belong in the list itself."""

    items: Sequence[Any]
    headers: dict[str, str] = field(default_factory=dict)
    more: bool = False
    next_parameters: Callable[[Any], dict[str, Any]] | None = None

    def encode(self, query: Iterable[tuple[str, str]], *, bare: bool = False) -> tuple[bytes, dict[str, str]]:
        """The JSON, and the headers; `query` is that of the request. `bare`: the items alone."""
        rows = rows_that_fit(self.items)
        headers = dict(self.headers)
        next_value = None
        if rows and self.next_parameters is not None and (self.more or len(rows) < len(self.items)):
            changed = self.next_parameters(self.items[len(rows) - 1])
            next_value = next(iter(changed.values()))
            parameters = {name: value for name, value in {**dict(query), **changed}.items() if value is not None}
            headers["link"] = f'<?{urlencode(parameters)}>; rel="next"'
        items = b"[" + b",".join(rows) + b"]"
        return items if bare else b'{"items":' + items + b',"next":' + orjson.dumps(next_value) + b"}", headers


def rows_that_fit(items: Iterable[Any]) -> list[bytes]:
    """The first of `items` as JSON: as many as fit into a page, and at least one. An item that is too large by itself
    is shortened by its own `without_payload`."""
    rows: list[bytes] = []
    remaining = PAGE_BYTES
    for item in items:
        row = encode(item)
        if len(row) > PAGE_BYTES and hasattr(item, "without_payload"):
            row = encode(item.without_payload())
        remaining -= len(row) + 1
        if rows and remaining < 0:
            break
        rows.append(row)
    return rows


def from_offset(rows: list[Row], limit: int, offset: int) -> tuple[list[Row], int | None]:
    """Those of `rows` that fit into a page, and the offset of the next page, if there is one. `rows` begins at
    `offset` and has one row more than `limit`, if that many exist."""
    page = rows[: len(rows_that_fit(rows[:limit]))]
    return page, offset + len(page) if len(page) < len(rows) else None


def truncate_payloads(items: Iterable[Row]) -> list[Row]:
    """All of `items`; those that do not fit into the page any more are shortened by their own `without_payload`."""
    result: list[Row] = []
    remaining = PAGE_BYTES
    for item in items:
        size = len(encode(item))
        result.append(item if size <= remaining else item.without_payload())  # type: ignore[attr-defined]
        remaining -= size if size <= remaining else 0
    return result
