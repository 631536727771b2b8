"""What the oracle says that each execution comes to."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from tests.oracle.names import Outcome
from tests.oracle.playbook import Playbook, read
from tests.oracle.prediction import Prediction, predict
from tests.oracle.tasks import Call
from tests.oracle.tools import answer

from .effects import answer_to
from .kinds import KINDS, TABLE, TABLE_ROWS, Kind


def prediction_of(kind: Kind, payload: Mapping[str, Any], execution_id: str) -> Prediction:
    """Of a kind that ends by itself."""
    rows = kind.claims(payload) if kind.claims is not None else None
    return predict(
        _book(kind.texts[-1]), payload, _answer, books(), execution_id=execution_id, claims=lambda step: rows
    )


@cache
def books() -> dict[str, Playbook]:
    found = [_book(text) for kind in KINDS for text in kind.texts]
    return {book.path: book for book in found}


def effects_of(prediction: Prediction) -> list[str]:
    """The names of the effects that it has."""
    return [name_of(call) for call in prediction.calls if call.kind == "http"]


def name_of(call: Call) -> str:
    _, _, name = urlsplit(str(call.config["url"])).path.strip("/").partition("/")
    return name


@cache
def _book(text: str) -> Playbook:
    return read(text)


def _answer(call: Call) -> Outcome:
    if call.kind == "http":
        return Outcome("ok", data={"status_code": 200, "data": answer_to(name_of(call))})
    if call.kind == "postgres":
        # nobody reads what it gives
        return Outcome("ok")
    if call.kind == "duckdb":
        assert call.config["query"] == TABLE
        rows = [{"n": n, "text": "x" * 60} for n in range(TABLE_ROWS)]
        return Outcome("ok", data={"status": "ok", "rows": rows, "row_count": TABLE_ROWS})
    return answer(call)
