"""Values of the keychain that are given over REST: who uses them, for how long, and who sees them."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.integration.control_plane.conftest import Client, FakeWorker
from tests.integration.control_plane.test_keychain import (
    CHILD,
    Cache,
    Entry,
    TokenServer,
    Workers,
    cache,
    pass_time,
    server,
    token_entry,
    workers,
)

from noetl_serverless.store.database import Database

__all__ = ["Cache", "TokenServer", "cache", "server", "token_entry", "workers"]

VALUE = {"access_token": "given-1", "token_type": "Bearer"}


async def give(workers: Workers, catalog_id: str, name: str = "api", **body: Any) -> dict[str, Any]:
    answer = await workers.user.post(f"/api/keychain/{catalog_id}/{name}", {"token_data": VALUE, **body})
    assert answer.status == 200, answer.body
    return answer.json  # type: ignore[no-any-return]


async def refused(workers: Workers, catalog_id: str, name: str = "api", **body: Any) -> tuple[int, str]:
    answer = await workers.user.post(f"/api/keychain/{catalog_id}/{name}", {"token_data": VALUE, **body})
    assert b"given-1" not in answer.body, "a refusal shows the secret"
    return answer.status, answer.json["detail"]


class TestUse:
    async def test_templates_read_what_is_given_and_nothing_is_fetched(
        self, workers: Workers, token_entry: Entry
    ) -> None:
        catalog_id = await workers.register(token_entry("scope: local"))
        given = await give(workers, catalog_id, ttl_seconds=600, auto_renew=False)
        assert (given["status"], given["keychain_name"], given["catalog_id"]) == ("success", "api", catalog_id)
        assert (given["cache_key"], given["scope_type"]) == (f"api:{catalog_id}:global", "global")
        assert (given["ttl_seconds"], given["auto_renew"]) == (600, False)
        assert [await workers.token(await workers.start()) for _ in range(2)] == ["given-1", "given-1"]
        assert workers.server.issued == 0

    async def test_that_of_the_execution_comes_before_that_of_its_family_and_of_the_playbook(
        self, workers: Workers, token_entry: Entry, hands: FakeWorker
    ) -> None:
        await workers.register(token_entry("scope: local"), "child")
        catalog_id = await workers.register(token_entry("scope: local"), steps=CHILD)
        parent, other = await workers.start(), await workers.start()
        for command in await hands.claim():
            if command["execution_id"] == parent:
                child = {"path": "demo/child", "payload": {"api": workers.server.url}}
                await hands.report(command, status="parked", child=child, resume={"task": "call"})
        [child_entry] = (await workers.user.get("/api/executions", parent_execution_id=parent)).json
        for scope, more in (
            ("global", {}),
            ("shared", {"parent_execution_id": parent}),
            ("local", {"execution_id": parent}),
        ):
            await give(workers, catalog_id, token_data={"access_token": scope}, scope_type=scope, **more)
        assert await workers.token(parent) == "local"
        assert await workers.token(child_entry["execution_id"], "child") == "shared"
        assert await workers.token(other) == "global"
        gone = await workers.user.delete(f"/api/keychain/{catalog_id}/api?scope_type=local")
        assert gone.json["count"] == 1
        assert await workers.token(parent) == "shared"

    async def test_when_it_has_expired_the_entry_is_fetched(
        self, workers: Workers, token_entry: Entry, database: Database
    ) -> None:
        catalog_id = await workers.register(token_entry("scope: global"))
        id = await workers.start()
        assert await workers.token(id) == "token-1"
        await give(workers, catalog_id, ttl_seconds=60)
        assert await workers.token(id) == "given-1", "what was fetched before is used instead of what is given"
        await pass_time(database, 61)
        assert await workers.token(id) == "token-1"

    @pytest.mark.parametrize("more", ["auto_renew: true", "scope: local"])
    async def test_one_worker_of_eight_renews_it_before_it_expires(
        self, workers: Workers, token_entry: Entry, database: Database, more: str
    ) -> None:
        catalog_id = await workers.register(token_entry(more))
        id = await workers.start()
        renews: dict[str, Any] = {} if "auto_renew" in more else {"auto_renew": True}
        await give(workers, catalog_id, ttl_seconds=600, **renews)
        await pass_time(database, 400)
        assert await workers.token(id) == "given-1"
        await pass_time(database, 160)
        workers.server.delay = 0.3
        tokens = await asyncio.gather(*(workers.token(id) for _ in range(8)))
        assert sorted(tokens) == ["given-1"] * 7 + ["token-1"]
        assert workers.server.issued == 1
        assert await workers.token(id) == "token-1", "the renewed value is not used"

    async def test_if_the_one_that_renews_is_killed_another_does_later(
        self, workers: Workers, token_entry: Entry, database: Database
    ) -> None:
        catalog_id = await workers.register(token_entry("auto_renew: true"))
        id = await workers.start()
        await give(workers, catalog_id, ttl_seconds=1500)
        await pass_time(database, 1380)
        workers.server.delay = 60
        renewing = asyncio.create_task(workers.token(id))
        while not workers.server.requests:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert await workers.token(id) == "given-1"
        # as if its process had ended: it gives nothing back
        workers.cache.calls.clear()
        await database.run("UPDATE noetl.keychain SET fetch_id = 'of a killed one' WHERE fetch_id IS NOT NULL")
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        workers.server.delay = 0
        assert await workers.token(id) == "given-1", "somebody else fetches although the permission has not expired"
        await pass_time(database, 91)
        issued = workers.server.issued
        tokens = await asyncio.gather(*(workers.token(id) for _ in range(8)))
        assert workers.server.issued == issued + 1, tokens

    async def test_fields_of_a_map_are_needed_and_a_token_has_all_its_names(self, workers: Workers) -> None:
        workers.credentials["g"] = ("service_account", {})
        entries = (
            "  - {name: api, kind: secrets, provider: gcp, auth: g, map: {a: x, b: y}}\n"
            "  - {name: google, kind: google_access_token, auth: g}\n"
        )
        catalog_id = await workers.register(entries)
        status, detail = await refused(workers, catalog_id, token_data={"a": "given-1"})
        assert (status, detail) == (400, "token_data has no field b, which the keychain entry has")
        await give(workers, catalog_id, token_data={"a": "one", "b": 2}, cache_type="secret")
        await give(
            workers, catalog_id, "google", token_data={"token": "given-2"}, credential_type="google_access_token"
        )
        id = await workers.start()
        assert await workers.read(id) == {"a": "one", "b": 2}
        token = {"access_token": "given-2", "token": "given-2", "token_type": "Bearer"}
        assert await workers.read(id, "google") == token


class TestRefusals:
    async def test_what_nothing_would_read_is_refused(
        self, workers: Workers, token_entry: Entry, hands: FakeWorker
    ) -> None:
        entries = token_entry("scope: local") + "  - {name: plain, kind: static, map: {a: b}}\n"
        catalog_id = await workers.register(entries)
        status, detail = await refused(workers, catalog_id, "other")
        assert status == 400 and "has no keychain entry 'other'" in detail
        status, detail = await refused(workers, catalog_id, "plain")
        assert status == 400 and "is of kind static" in detail
        assert (await refused(workers, "77"))[0] == 404
        ended = await workers.start()
        await hands.finish()
        assert (await refused(workers, catalog_id, scope_type="local", execution_id=ended))[0] == 409
        assert (await refused(workers, catalog_id, scope_type="local", execution_id="77"))[0] == 404
        await workers.register(token_entry("scope: local"), "elsewhere")
        elsewhere = await workers.start("elsewhere")
        status, detail = await refused(workers, catalog_id, scope_type="local", execution_id=elsewhere)
        assert status == 400 and "is of the playbook with the catalog id" in detail

    @pytest.mark.parametrize(("body", "message"), [
        ({"renew_config": {"url": "http://a"}}, "renew_config"),
        ({"ttl_seconds": 60, "expires_at": "2030-01-01T00:00:00Z"}, "either ttl_seconds or expires_at"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at must be between"),
        ({"ttl_seconds": 0}, "ttl_seconds"),
        ({"scope_type": "local"}, "requires execution_id"),
        ({"scope_type": "shared"}, "requires either execution_id"),
        ({"execution_id": "1"}, "a global secret belongs to no execution"),
        ({"credential_type": "bearer"}, "is of kind oauth2"),
        ({"cache_type": "secret"}, "cache_type token"),
        ({"token_data": {}}, "token_data"),
        ({"token_data": {"a": "x" * 70_000}}, "the limit is"),
    ])  # fmt: skip
    async def test_a_wrong_field_is_refused(
        self, workers: Workers, token_entry: Entry, body: dict[str, Any], message: str
    ) -> None:
        catalog_id = await workers.register(token_entry("scope: local"))
        status, detail = await refused(workers, catalog_id, **body)
        assert status == 400 and message in detail, detail
        assert (await workers.user.get(f"/api/keychain/{catalog_id}")).json["items"] == []


class TestWhoSees:
    async def test_only_an_operator_reads_the_value_and_each_time_is_audited(
        self, workers: Workers, token_entry: Entry, caplog: pytest.LogCaptureFixture, worker: Client
    ) -> None:
        caplog.set_level(logging.DEBUG)
        catalog_id = await workers.register(token_entry("scope: local"))
        expires_at = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
        await give(workers, catalog_id, expires_at=expires_at)
        place = f"/api/keychain/{catalog_id}/api"
        masked = (await workers.user.get(place, scope_type="global")).json
        assert masked["token_data"] == {"access_token": "***", "token_type": "***"}
        assert 7100 < masked["ttl_seconds"] <= 7200 and masked["given"] and masked["renew_config"] is None
        assert (await workers.user.get(place, include_data="true")).status == 403, "an editor reads a secret"
        assert (await worker.get(place, include_data="true")).status == 403, "a worker reads what no command needs"
        shown = (await workers.user.of("operator").get(place, include_data="true")).json
        assert (shown["token_data"], shown["status"]) == (VALUE, "success")
        read = [vars(record) for record in caplog.records if getattr(record, "operation", "") == "readSecret"]
        assert [(entry["secret"], entry["role"]) for entry in read] == [("api", "operator")]
        assert "given-1" not in "".join(str(vars(record)) for record in caplog.records)

    async def test_uses_are_counted_of_workers_one_in_a_minute(
        self, workers: Workers, token_entry: Entry, database: Database
    ) -> None:
        catalog_id = await workers.register(token_entry("scope: global"))
        id = await workers.start()
        place = f"/api/keychain/{catalog_id}/api"

        async def counted() -> int:
            return int((await workers.user.get(place)).json["access_count"])

        await workers.token(id)
        assert (await workers.user.get(place)).json["accessed_at"] is None, "who fetches it has not read it here"
        for _ in range(3):
            await workers.token(id)
        assert await counted() == 1
        await database.run("UPDATE noetl.keychain SET accessed_at = accessed_at - interval '61 s'")
        await workers.token(id)
        assert await counted() == 2
        for _ in range(2):
            await workers.user.of("operator").get(place, include_data="true")
        assert await counted() == 4

    async def test_it_is_sealed_at_rest_and_listed_under_both_paths(
        self, workers: Workers, token_entry: Entry, database: Database
    ) -> None:
        catalog_id = await workers.register(token_entry("scope: local"))
        await give(workers, catalog_id)
        [[row]] = await database.run("SELECT keychain::text FROM noetl.keychain")
        assert "given-1" not in row and b"given-1".hex() not in row
        one = (await workers.user.get(f"/api/keychain/{catalog_id}")).json
        other = (await workers.user.get(f"/api/keychain/catalog/{catalog_id}")).json
        for entry in (*one["items"], *other["items"]):
            entry.pop("ttl_seconds")
        assert one == other and len(one["items"]) == 1
