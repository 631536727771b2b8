"""A reference that a worker reports leads into executions by their ids, or it is none."""

from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.commands.reference import executions_of
from noetl_serverless.errors import InvalidRequest
from noetl_serverless.results.reference import Meta, ResultRef, storage_key

URI = "noetl://execution/7/result/a/00000000"
REF = {"ref": URI, "store": "disk", "key": "7/a/0.json"}


def test_what_the_engine_itself_makes_is_one() -> None:
    key = storage_key("7", "a", "0" * 32)
    meta = Meta(bytes=9, sha256="0" * 64, created_at="2026-01-01T00:00:00.000Z", row_count=3)
    made = ResultRef(ref=URI, store="disk", key=key, meta=meta, preview="[1", extracted={"n": 1})
    assert executions_of(made.to_dict()) == {"7"}
    manifest = {"kind": "manifest", "ref": "noetl://execution/8/manifest/a/12", "store": "manifest", "count": 3}
    assert executions_of({**manifest, "meta": {"bytes": 9}, "extracted": {"stats": {}}}) == {"8"}


def test_both_the_name_and_the_place_say_whose_it_is() -> None:
    assert executions_of({**REF, "key": "8/a/0.json"}) == {"7", "8"}


@pytest.mark.parametrize(
    "change",
    [
        *({"ref": ref} for ref in (None, 1, "", "file:///etc/passwd", URI + "?", URI + "/../x", "noetl://execution/x")),
        *({"key": key} for key in (None, 1, "k", "/etc/passwd", "7/../8/a", "7//a", "7/a/.", "7\0/a", "archive/log/x")),
        *({"expires_at": at} for at in (1, "soon", "infinity", "2026-01-01", "2026-13-01T00:00:00Z")),
        *({"meta": meta} for meta in ({"bytes": -1}, {"bytes": 1 << 63}, {"bytes": "9"}, {"sha256": "x"})),
        {"meta": []},
        *({"meta": {"content_type": kind}} for kind in (1, "\0")),
        *({name: "\0"} for name in ("store", "scope", "kind")),
        {"extracted": [1]},
        # the database could not look for it, and a whole report would fail for that
        {"ref": f"noetl://execution/{1 << 63}/result/a/00000000"},
        {"key": f"{1 << 63}/a/0.json"},
    ],
)
def test_anything_else_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="is not a valid reference"):
        executions_of({**REF, **change})
