from __future__ import annotations

import base64
import threading
from typing import Any

import pytest
from tests.integration.control_plane.conftest import Client

from noetl_serverless.control_plane.registration import document_of
from noetl_serverless.control_plane.routes import catalog


async def test_registering_answers_in_the_original_s_shape(registered: dict[str, Any]) -> None:
    assert registered.keys() == {"status", "message", "path", "version", "catalog_id", "kind", "warnings"}
    assert registered["warnings"] == []
    assert (registered["status"], registered["path"], registered["version"], registered["kind"]) == (
        "success",
        "demo/two",
        1,
        "Playbook",
    )
    assert isinstance(registered["catalog_id"], str)


async def test_the_same_text_again_even_in_base64_is_the_same_version(
    user: Client, registered: dict[str, Any], playbook: str
) -> None:
    again = await user.post("/api/catalog/register", {"content": base64.b64encode(playbook.encode()).decode()})
    assert again.json["catalog_id"] == registered["catalog_id"]
    changed = await user.post("/api/catalog/register", {"content": playbook + "# new\n"})
    assert changed.json["version"] == 2


async def test_an_older_form_is_a_warning_and_refused_if_strict(user: Client, playbook: str) -> None:
    older = playbook.replace("workflow:", "workflow:\n  - {step: older, tool: noop, next: {arcs: [{step: first}]}}", 1)
    answer = (await user.post("/api/catalog/register", {"content": older})).json
    [warning] = answer["warnings"]
    assert (warning["code"], warning["pointer"]) == ("playbook.older_form", "/workflow/0/tool")
    assert warning["message"] == "an older form: write tool: {kind: noop, ...}"
    refused = await user.post("/api/catalog/register", {"content": older + "# 2", "strict": True})
    assert (refused.status, [fault["code"] for fault in refused.json["errors"]]) == (422, ["playbook.older_form"])


async def test_a_faulty_playbook_is_refused_with_pointer_and_line(user: Client, playbook: str) -> None:
    answer = await user.post("/api/catalog/register", {"content": playbook.replace("step: second}", "step: nowhere}")})
    assert (answer.status, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json["code"] == "playbook.invalid"
    assert answer.json["errors"][0]["line"] == 9
    assert answer.json["errors"][0]["pointer"].startswith("/workflow/0/next")
    assert (await user.post("/api/catalog/list", {})).json == {"entries": [], "next": None}


async def test_others_are_answered_while_a_playbook_is_looked_at(
    user: Client, playbook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def noted(content: str, **options: Any) -> Any:
        threads.append(threading.get_ident())
        return document_of(content, **options)

    monkeypatch.setattr(catalog, "document_of", noted)
    assert (await user.post("/api/catalog/register", {"content": playbook})).json["version"] == 1
    assert threads and threads != [threading.get_ident()], "a large one takes seconds, in which nobody is answered"


async def test_entries_are_listed_without_and_read_with_their_text(
    user: Client, registered: dict[str, Any], playbook: str
) -> None:
    [entry] = (await user.post("/api/catalog/list", {"resource_type": "Playbook"})).json["entries"]
    assert (entry["path"], entry["content"], entry["payload"]) == ("demo/two", None, {"a": {"b": 1, "c": 2}})
    for body in (
        {"path": "demo/two"},
        {"path": "demo/two", "version": "latest"},
        {"path": "demo/two", "version": 1},
        {"catalog_id": registered["catalog_id"]},
        {"catalog_id": int(registered["catalog_id"])},
    ):
        assert (await user.post("/api/catalog/resource", body)).json["content"] == playbook


async def test_a_worker_reads_a_plan_s_text_by_its_hash(
    user: Client, worker: Client, registered: dict[str, Any], playbook: str
) -> None:
    hash = (await user.post("/api/catalog/resource", {"path": "demo/two"})).json["hash"]
    assert (await worker.get(f"/api/catalog/plans/{hash}")).json == {"hash": hash, "content": playbook}
    assert (await worker.get("/api/catalog/plans/unknown")).status == 404


async def test_asking_for_nothing_or_for_both_is_refused(user: Client) -> None:
    for body in ({}, {"path": "a", "catalog_id": "1"}):
        assert (await user.post("/api/catalog/resource", body)).status == 400
    assert (await user.post("/api/catalog/resource", {"path": "nowhere"})).status == 404


async def test_a_batch_registers_what_has_no_faults(user: Client, playbook: str) -> None:
    encoded = base64.b64encode(playbook.encode()).decode()
    items = [{"content": encoded, "resource_type": "Playbook"}, {"content": "kind: Playbook"}, {"content": playbook}]
    answer = await user.post("/api/catalog/register/batch", {"items": items})
    assert (answer.status, answer.json["registered"], answer.json["failed"]) == (200, 2, 1)
    first, faulty, again = answer.json["results"]
    assert (first["index"], first["status"], first["path"], first["version"]) == (0, "registered", "demo/two", 1)
    assert (faulty["index"], faulty["status"], faulty["path"]) == (1, "failed", None)
    assert "line 1" in faulty["error"], "a faulty one says why"
    assert again["catalog_id"] == first["catalog_id"], "the same text twice is one version"


async def test_the_size_of_a_batch_is_bounded(user: Client, playbook: str) -> None:
    for items in ([], [{"content": playbook}] * 101):
        assert (await user.post("/api/catalog/register/batch", {"items": items})).status == 400


async def test_a_kind_that_there_is_not_is_refused(user: Client) -> None:
    answer = await user.post("/api/catalog/list", {"resource_type": "tol"})
    assert (answer.status, "did you mean 'Tool'?" in answer.json["detail"]) == (400, True)
    assert (await user.post("/api/catalog/list", {"resource_type": "tool"})).status == 200


async def test_credentials_are_listed_as_entries_without_their_data(user: Client, registered: dict[str, Any]) -> None:
    stored = await user.post(
        "/api/credentials", {"name": "pg", "type": "generic", "data": {"password": "hidden"}, "tags": ["t"]}
    )
    for kind in ("Credential", "credential"):
        answer = await user.post("/api/catalog/list", {"resource_type": kind})
        [entry] = answer.json["entries"]
        assert (entry["path"], entry["kind"], entry["catalog_id"]) == ("pg", "Credential", stored.json["id"])
        assert (entry["meta"], entry["hash"], entry["content"]) == ({"type": "generic", "tags": ["t"]}, None, None)
        assert b"hidden" not in answer.body
    below = await user.post("/api/catalog/list", {"resource_type": "Credential", "path": "pg"})
    assert below.json["entries"] == [], "a stored one has no path"
    assert [one["path"] for one in (await user.post("/api/catalog/list", {})).json["entries"]] == ["demo/two"]
