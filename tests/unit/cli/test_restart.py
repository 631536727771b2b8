"""What `noetls restart` says of the values that it is given."""

from __future__ import annotations

from typing import Any, cast

from noetl_serverless.cli.client import Client
from noetl_serverless.cli.commands.restart import _lines, _unchanged, _unused

CONTENT = "workload: {limit: 3}\nworkflow:\n  - {step: a, tool: {kind: noop, result: '{{ workload.limit }}'}}\n"
FOUND: dict[str, Any] = {
    "restarted_from": "7",
    "version": 2,
    "from": ["a"],
    "again": ["a"],
    "reused": [],
    "skipped": [],
    "failed": [],
    "items_reused": {},
}


class Catalog:
    """A control plane that knows one execution, and the playbook of it in version 2."""

    def execution(self, execution_id: str) -> dict[str, Any]:
        return {"7": {"path": "demo/one", "version": 1, "status": "FAILED"}}[execution_id]

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert (path, body) == ("/api/catalog/resource", {"path": "demo/one", "version": 2})
        return {"content": CONTENT, "payload": {"limit": 3}}


def test_a_value_that_the_playbook_does_not_use_is_reported_and_what_ctx_gets_is_not() -> None:
    unused = _unused(cast(Client, Catalog()), FOUND, {"limit": 4, "limt": 5, "ctx": {"n": 1}})
    assert unused == ["the playbook does not use 'limt'; did you mean 'limit'?"]
    assert _lines({**FOUND, "warnings": unused}, dry=False)[-1] == f"warning: {unused[0]}"


def test_a_newest_version_that_has_failed_before_is_a_warning() -> None:
    catalog = cast(Client, Catalog())
    assert _unchanged(catalog, {**FOUND, "version": 1}) == ["version 1 is the newest, and the one that failed"]
    assert _unchanged(catalog, FOUND) == []


def test_what_was_skipped_and_what_failed_is_not_said_to_be_done() -> None:
    found = {**FOUND, "reused": ["read", "ask", "other"], "skipped": ["other"], "failed": ["ask"], "warnings": []}
    assert _lines(found, dry=True)[1:] == [
        "stays done: read",
        "stays failed, and handled: ask",
        "stays skipped: other",
    ]
