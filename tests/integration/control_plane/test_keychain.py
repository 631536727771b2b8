"""The keychain of running commands: their worker, the control plane with its database, and a real token endpoint."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import BaseModel
from tests.eventually import eventually
from tests.integration.control_plane.conftest import Client, FakeWorker
from tests.serving import serving_app

from noetl_serverless.errors import Unavailable
from noetl_serverless.hosts.aws.account import Credentials as Keys
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.protocol import (
    CallbackRequest,
    CallbackUrl,
    ClaimedCommand,
    FetchedSecret,
    SecretAnswer,
    SecretRequest,
    SecretStored,
)
from noetl_serverless.reconciler.retention import Retention
from noetl_serverless.store.archives import Archives
from noetl_serverless.store.database import Database
from noetl_serverless.store.maintenance import MaintenanceTasks
from noetl_serverless.tools import registry
from noetl_serverless.tools.aws_signature import signed_headers
from noetl_serverless.tools.google_account import GRANT_TYPE
from noetl_serverless.tools.port import Credential, ToolFailure
from noetl_serverless.worker.execution import keychain, secret_sources
from noetl_serverless.worker.execution.keychain import Secrets
from noetl_serverless.worker.execution.toolbox import Toolbox
from noetl_serverless.worker.orchestrator import refusal

HEAD = (
    "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {{name: k, path: demo/{path}}}\nworkload: {{api: none, x: 1}}\n"
)
TOKEN_ENTRY = """\
  - name: api
    kind: oauth2
    endpoint: "{{ workload.api }}/token"
    data: {grant_type: client_credentials, client_id: me, client_secret: client-secret, x: "{{ x }}"}
    MORE
"""
STEPS = """\
workflow:
  - step: work
    tool: {kind: noop}
    next: {arcs: [{step: work, when: "{{ workload.x > 1000 }}"}]}
"""
CHILD = "workflow:\n  - {step: call, tool: {kind: playbook, path: demo/child, input: {api: '{{ workload.api }}'}}}\n"

RSA = rsa.generate_private_key(65537, 2048)
PEM = RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@dataclass
class TokenServer:
    """Gives out token-1, token-2, ...; and serves as Google's token endpoint and Secret Manager."""

    url: str = ""
    issued: int = 0
    expires_in: Any = 3600
    delay: float = 0.0
    # the body of each answer instead, as text
    text: str | None = None
    # statuses of the next answers
    failures: list[int] = None  # type: ignore[assignment]
    requests: list[tuple[str, dict[str, str], dict[str, str]]] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self.failures, self.requests = [], []

    async def token(self, request: web.Request) -> web.Response:
        form = {key: str(value) for key, value in (await request.post()).items()}
        self.requests.append((request.path, dict(request.headers), form))
        await asyncio.sleep(self.delay)
        if self.failures:
            status = self.failures.pop(0)
            return web.json_response({"error": "no", "sent": form}, status=status, headers={"location": "/elsewhere"})
        self.issued += 1
        if self.text is not None:
            return web.Response(text=self.text)
        if form.get("grant_type") == GRANT_TYPE:
            claims = jwt.decode(form["assertion"], RSA.public_key(), algorithms=["RS256"], audience=f"{self.url}/token")
            if "target_audience" in claims:
                id_token = jwt.encode({"aud": claims["target_audience"], "exp": claims["exp"]}, "k" * 32, "HS256")
                return web.json_response({"id_token": id_token})
            return web.json_response({"access_token": f"google-{claims['scope'].rpartition('/')[2]}"})
        fields = {"access_token": f"token-{self.issued}", "token_type": "Bearer", "nested": {"id": "deep-secret"}}
        return web.json_response({**fields, "expires_in": self.expires_in})

    async def aws(self, request: web.Request) -> web.Response:
        self.requests.append((request.path, dict(request.headers), {}))
        content = await request.read()
        at = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ")
        named = {name: request.headers[name] for name in ("content-type", "x-amz-target")}
        keys = Keys("AKIA1", "aws-secret-key")
        expected = signed_headers(keys, "eu-x-1", "secretsmanager", "POST", f"{self.url}/", named, content, at)
        if request.headers["authorization"] != expected["authorization"]:
            return web.json_response({"message": "The signature does not match"}, status=400)
        assert request.headers["x-amz-target"] == "secretsmanager.GetSecretValue"
        values = {
            "plain": {"SecretString": "plain-value"},
            "json": {"SecretString": json.dumps({"user": "ann", "pin": "the-pin"})},
            "binary": {"SecretBinary": base64.b64encode(b"\xff").decode()},
        }
        body = json.dumps(values[json.loads(content)["SecretId"]])
        return web.Response(text=body, content_type="application/x-amz-json-1.1")

    async def secret(self, request: web.Request) -> web.Response:
        self.requests.append((request.path, dict(request.headers), {}))
        if request.headers.get("Authorization") != "Bearer google-cloud-platform":
            return web.json_response({}, status=403)
        secrets = {"key": json.dumps(account(self.url)), "binary": "\udcff"}
        name = request.match_info["name"]
        content = secrets.get(name, f"value of {name}").encode(errors="surrogateescape")
        return web.json_response({"payload": {"data": base64.b64encode(content).decode()}})


def account(url: str) -> dict[str, str]:
    return {"client_email": "me@p.example", "private_key": PEM, "project_id": "p", "token_uri": f"{url}/token"}


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    server = TokenServer()
    app = web.Application()
    app.router.add_post("/token", server.token)
    app.router.add_post("/", server.aws)
    app.router.add_get("/v1/projects/p/secrets/{name}/versions/{version}:access", server.secret)
    async with serving_app(app) as url:
        server.url = url
        yield server
    await registry.close()


class Cache:
    """The control plane as workers reach it."""

    def __init__(self, worker: Client) -> None:
        self.worker = worker
        self.calls: Counter[str] = Counter()

    async def acquire_secret(self, request: SecretRequest) -> SecretAnswer:
        return SecretAnswer.model_validate(await self._post("acquire", request))

    async def store_secret(self, request: FetchedSecret) -> SecretStored:
        return SecretStored.model_validate(await self._post("store", request))

    async def callback_url(self, request: CallbackRequest) -> CallbackUrl:
        return CallbackUrl.model_validate(await self._post("callbacks", request, "/api/callbacks"))

    async def _post(self, name: str, request: BaseModel, path: str = "") -> Any:
        self.calls[name] += 1
        answer = await self.worker.post(path or f"/api/keychain/{name}", request.model_dump())
        if answer.status >= 400:
            raise refusal(answer.status, answer.json["detail"])
        return answer.json


class Workers:
    """Workers that run commands of executions, each without what another has in memory."""

    def __init__(self, user: Client, scratch: Path, server: TokenServer, cache: Cache) -> None:
        self.user, self.scratch, self.server, self.cache = user, scratch, server, cache
        self.texts: dict[str, str] = {}
        self.credentials: dict[str, tuple[str, dict[str, Any]]] = {}

    async def register(self, entries: str, path: str = "main", steps: str = STEPS) -> str:
        self.texts[path] = HEAD.format(path=path) + "keychain:\n" + entries + steps
        answer = await self.user.post("/api/catalog/register", {"content": self.texts[path]})
        assert answer.status == 200, answer.body
        return str(answer.json["catalog_id"])

    async def start(self, path: str = "main", **payload: Any) -> str:
        body = {"path": f"demo/{path}", "payload": {"api": self.server.url, **payload}}
        answer = await self.user.post("/api/execute", body)
        assert answer.status == 200, answer.body
        return str(answer.json["execution_id"])

    def secrets(self, execution_id: str, path: str = "main", **workload: Any) -> Secrets:
        """Those of one command."""
        command = ClaimedCommand(
            execution_id=execution_id,
            command_id="work#1",
            step="work",
            generation=1,
            kind="step",
            attempt=1,
            delivery=1,
            fence=1,
            lease_until="2030-01-01T00:00:00Z",
            plan="h",
            path=f"demo/{path}",
            workload={"api": self.server.url, "x": 1, **workload},
            scope={},
        )
        toolbox = Toolbox(
            load_tool=registry.load,
            python=cast(Any, None),
            credential=self._credential,
            stores=cast(Any, None),
            resolver=cast(Any, None),
            scratch=self.scratch,
            allow_private_http=True,
            secrets=self.cache,
        )
        return Secrets(command, load_plan(self.texts[path]).keychain, toolbox)

    async def read(self, execution_id: str, name: str = "api", path: str = "main", **workload: Any) -> dict[str, Any]:
        views = await self.secrets(execution_id, path, **workload).views([name])
        fields: dict[str, Any] = views[name].whole()
        return fields

    async def token(self, execution_id: str, path: str = "main", **workload: Any) -> str:
        return str((await self.read(execution_id, path=path, **workload))["access_token"])

    async def _credential(self, name: str) -> Credential:
        type_, data = self.credentials[name]
        return Credential(name, type_, data)


@pytest.fixture
def cache(worker: Client) -> Cache:
    return Cache(worker)


@pytest.fixture
def workers(user: Client, tmp_path: Path, server: TokenServer, cache: Cache) -> Workers:
    return Workers(user, tmp_path, server, cache)


@pytest.fixture
def token_entry() -> Callable[[str], str]:
    return lambda more: TOKEN_ENTRY.replace("MORE", more)


async def pass_time(database: Database, seconds: float) -> None:
    """As if what is cached had been fetched that much earlier."""
    await database.run(
        "UPDATE noetl.keychain SET fetched_at = fetched_at - make_interval(secs => :s),"
        " expires_at = expires_at - make_interval(secs => :s),"
        " fetching_until = fetching_until - make_interval(secs => :s)",
        s=seconds,
    )


Entry = Callable[[str], str]


class TestScopes:
    async def test_a_local_value_is_fetched_once_for_each_execution(self, workers: Workers, token_entry: Entry) -> None:
        await workers.register(token_entry("scope: local"))
        one, other = await workers.start(), await workers.start()
        assert [await workers.token(id) for id in (one, one, other, one)] == [
            "token-1",
            "token-1",
            "token-2",
            "token-1",
        ]

    async def test_a_global_value_is_fetched_once_for_each_version_and_input(
        self, workers: Workers, token_entry: Entry
    ) -> None:
        await workers.register(token_entry("scope: global"))
        one, other = await workers.start(), await workers.start()
        assert [await workers.token(id) for id in (one, other)] == ["token-1", "token-1"]
        assert await workers.token(other, x=2) == "token-2", (
            "an execution got what was fetched from the input of another"
        )
        assert await workers.token(one) == "token-1"
        await workers.register(token_entry("scope: global\n    ttl: 900"))
        assert await workers.token(await workers.start()) == "token-3"

    async def test_a_shared_value_is_that_of_the_sub_playbooks_too(
        self, workers: Workers, token_entry: Entry, hands: FakeWorker
    ) -> None:
        await workers.register(token_entry("scope: shared"), "child")
        await workers.register(token_entry("scope: shared"), steps=CHILD)
        parents = [await workers.start(), await workers.start()]
        assert [await workers.token(id) for id in parents] == ["token-1", "token-2"]
        for command in await hands.claim():
            child = {"path": "demo/child", "payload": {"api": workers.server.url}}
            await hands.report(command, status="parked", child=child, resume={"task": "call"})
        listed = (await workers.user.get("/api/executions")).json
        children = [entry for entry in listed if entry["path"] == "demo/child"]
        assert len(children) == 2, listed
        for child in children:
            expected = {parents[0]: "token-1", parents[1]: "token-2"}[child["parent_execution_id"]]
            assert await workers.token(child["execution_id"], "child") == expected, child

    async def test_an_execution_that_has_ended_gets_none(
        self, workers: Workers, token_entry: Entry, hands: FakeWorker
    ) -> None:
        await workers.register(token_entry("scope: global"))
        id = await workers.start()
        await workers.token(id)
        await hands.finish()
        with pytest.raises(ToolFailure, match="has ended") as caught:
            await workers.token(id)
        assert caught.value.error["code"] == "keychain.denied"

    async def test_a_worker_gets_only_what_the_playbook_of_its_execution_declares(
        self, workers: Workers, token_entry: Entry, worker: Client, started: str
    ) -> None:
        body = {"execution_id": started, "command_id": "first#1", "name": "api", "inputs": "0" * 64}
        answer = await worker.post("/api/keychain/acquire", body)
        assert (answer.status, answer.json["detail"]) == (404, "the playbook has no keychain entry 'api'")
        assert (await worker.post("/api/keychain/acquire", {**body, "execution_id": "77"})).status == 404
        assert (await workers.user.post("/api/keychain/acquire", body)).status == 403


class TestExpiry:
    async def test_an_expired_value_is_fetched_again(
        self, workers: Workers, token_entry: Entry, database: Database
    ) -> None:
        await workers.register(token_entry("scope: local"))
        id = await workers.start()
        assert await workers.token(id) == "token-1"
        await pass_time(database, 3590)
        assert await workers.token(id) == "token-1", "it was fetched again although it is valid"
        await pass_time(database, 20)
        assert await workers.token(id) == "token-2"

    @pytest.mark.parametrize(("expires_in", "passed", "token"), [
        (3600, 3200, "token-1"), (3600, 3300, "token-2"), ("100", 60, "token-1"), (100, 75, "token-2"),
        (20, 5, "token-1"), (20, 12, "token-2"),
    ])  # fmt: skip
    async def test_a_value_is_renewed_in_the_last_tenth_of_its_life_and_in_its_last_half_minute(
        self, workers: Workers, token_entry: Entry, database: Database, expires_in: Any, passed: float, token: str
    ) -> None:
        await workers.register(token_entry("auto_renew: true"))
        workers.server.expires_in = expires_in
        id = await workers.start()
        await workers.token(id)
        await pass_time(database, passed)
        assert await workers.token(id) == token

    async def test_ttl_shortens_what_the_server_states_and_stands_in_for_it(
        self, workers: Workers, token_entry: Entry, database: Database
    ) -> None:
        await workers.register(token_entry("ttl: 60"))
        for expires_in in (3600, None):
            workers.server.expires_in = expires_in
            id = await workers.start()
            first = await workers.token(id)
            await pass_time(database, 50)
            assert await workers.token(id) == first
            await pass_time(database, 20)
            assert await workers.token(id) != first

    async def test_a_value_that_cannot_be_renewed_is_used_while_it_is_valid(
        self, workers: Workers, token_entry: Entry, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(secret_sources, "FIRST_DELAY_SECONDS", 0.01)
        await workers.register(token_entry("auto_renew: true"))
        id = await workers.start()
        await workers.token(id)
        await pass_time(database, 3500)
        workers.server.failures = [500] * 100
        assert await workers.token(id) == "token-1"
        tries = len(workers.server.requests)
        assert tries == 1 + secret_sources.MAX_ATTEMPTS
        assert await workers.token(id) == "token-1"
        assert len(workers.server.requests) == tries, "a failed renewal is tried again at once, for every use"
        workers.server.failures = []
        await database.run("UPDATE noetl.keychain SET fetching_until = now() WHERE fetching_until IS NOT NULL")
        assert await workers.token(id) == "token-2"
        workers.server.failures = [500] * 100
        await pass_time(database, 4000)
        with pytest.raises(ToolFailure) as caught:
            await workers.token(id)
        assert (caught.value.error["code"], caught.value.error["retryable"]) == ("keychain.unavailable", True)

    async def test_a_value_under_a_key_that_is_gone_is_fetched_again(
        self, workers: Workers, token_entry: Entry, database: Database
    ) -> None:
        await workers.register(token_entry("scope: local"))
        id = await workers.start()
        await workers.token(id)
        await database.run("UPDATE noetl.keychain SET key_id = 'gone'")
        assert [await workers.token(id), await workers.token(id)] == ["token-2", "token-2"]

    async def test_a_value_moved_to_another_entry_does_not_open(
        self, workers: Workers, token_entry: Entry, database: Database
    ) -> None:
        await workers.register(token_entry("scope: local"))
        one, other = await workers.start(), await workers.start()
        await workers.token(one), await workers.token(other)
        await database.run(
            "UPDATE noetl.keychain SET sealed = (SELECT sealed FROM noetl.keychain WHERE execution_id = :one)"
            " WHERE execution_id = :other",
            one=int(one),
            other=int(other),
        )
        assert [await workers.token(one), await workers.token(other)] == ["token-1", "token-3"]


class TestFetching:
    async def test_twenty_workers_at_once_fetch_it_once(self, workers: Workers, token_entry: Entry) -> None:
        await workers.register(token_entry("scope: global"))
        ids = [await workers.start() for _ in range(4)]
        workers.server.delay = 0.3
        tokens = await asyncio.gather(*(workers.token(ids[n % 4]) for n in range(20)))
        assert (set(tokens), workers.server.issued) == ({"token-1"}, 1)

    async def test_a_renewal_holds_nobody_up(self, workers: Workers, token_entry: Entry, database: Database) -> None:
        await workers.register(token_entry("auto_renew: true"))
        id = await workers.start()
        await workers.token(id)
        await pass_time(database, 3590)
        workers.server.delay = 0.5
        tokens = await asyncio.gather(*(workers.token(id) for _ in range(10)))
        assert Counter(tokens) == {"token-1": 9, "token-2": 1}

    async def test_the_items_of_a_loop_in_one_command_ask_once(
        self, workers: Workers, token_entry: Entry, cache: Cache
    ) -> None:
        await workers.register(token_entry("scope: local"))
        secrets = workers.secrets(await workers.start())
        await asyncio.gather(*(secrets.views(["api"]) for _ in range(50)))
        assert cache.calls == {"acquire": 1, "store": 1}

    async def test_if_the_one_that_fetches_fails_another_does(
        self, workers: Workers, token_entry: Entry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await workers.register(token_entry("scope: local"))
        id = await workers.start()
        workers.server.failures = [403]
        workers.server.delay = 0.2
        results = await asyncio.gather(workers.token(id), workers.token(id), return_exceptions=True)
        assert [result for result in results if result == "token-1"] == ["token-1"], results
        [denied] = [result for result in results if isinstance(result, ToolFailure)]
        assert denied.error["code"] == "keychain.denied"

    async def test_if_the_one_that_fetches_is_cancelled_another_does_at_once(
        self, workers: Workers, token_entry: Entry
    ) -> None:
        await workers.register(token_entry("scope: local"))
        id = await workers.start()
        workers.server.delay = 1.0
        first = asyncio.create_task(workers.token(id))
        await eventually(lambda: workers.server.requests)
        second = asyncio.create_task(workers.token(id))
        first.cancel()
        assert await asyncio.wait_for(second, 20) == "token-2"

    async def test_if_the_one_that_fetches_is_killed_another_does_later(
        self, workers: Workers, token_entry: Entry, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await workers.register(token_entry("scope: local"))
        id = await workers.start()
        inputs = keychain.digest_of(*digested(workers, id))
        body = SecretRequest(execution_id=id, command_id="c", name="api", inputs=inputs)
        assert (await workers.cache.acquire_secret(body)).fetch, "nothing was cached"
        monkeypatch.setattr(keychain, "WAIT_SECONDS", 0.3)
        with pytest.raises(ToolFailure, match="another worker") as caught:
            await workers.token(id)
        assert caught.value.error["retryable"]
        await pass_time(database, 91)
        assert await workers.token(id) == "token-1"

    async def test_who_fetched_too_long_stores_nothing_over_the_value_of_another(
        self, workers: Workers, token_entry: Entry, database: Database
    ) -> None:
        await workers.register(token_entry("scope: local"))
        id = await workers.start()
        inputs = keychain.digest_of(*digested(workers, id))
        key = {"execution_id": id, "command_id": "c", "name": "api", "inputs": inputs}
        late = await workers.cache.acquire_secret(SecretRequest(**key))
        assert late.fetch
        await pass_time(database, 91)
        await workers.token(id)
        fetched = FetchedSecret(**key, fetch=late.fetch, data={"access_token": "late"}, ttl=60)
        assert (await workers.cache.store_secret(fetched)).stored is False
        assert await workers.token(id) == "token-1"

    async def test_a_flaky_endpoint_is_asked_again(
        self, workers: Workers, token_entry: Entry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(secret_sources, "FIRST_DELAY_SECONDS", 0.01)
        await workers.register(token_entry("scope: local"))
        workers.server.failures = [503, 429]
        assert await workers.token(await workers.start()) == "token-1"

    @pytest.mark.parametrize(("status", "code"), [
        (400, "keychain.denied"), (401, "keychain.denied"), (404, "keychain.denied"), (307, "keychain.denied"),
        (429, "keychain.unavailable"), (500, "keychain.unavailable"),
    ])  # fmt: skip
    async def test_a_refusal_says_which_entry_and_why_and_shows_no_secret(
        self, workers: Workers, token_entry: Entry, monkeypatch: pytest.MonkeyPatch, status: int, code: str
    ) -> None:
        monkeypatch.setattr(secret_sources, "FIRST_DELAY_SECONDS", 0.01)
        entry = TOKEN_ENTRY.replace("client-secret", '"{{ keychain.me.token }}"').replace("MORE", "scope: local")
        await workers.register(entry + "  - {name: me, kind: bearer, token: client-secret}\n")
        workers.server.failures = [status] * 10
        with pytest.raises(ToolFailure) as caught:
            await workers.token(await workers.start())
        error = caught.value.error
        assert (error["code"], error["retryable"]) == (code, code.endswith("unavailable"))
        assert "'api'" in error["message"] and str(status) in error["message"]
        assert "client-secret" not in json.dumps(error)
        assert workers.server.requests[0][2]["client_secret"] == "client-secret"

    async def test_an_endpoint_that_is_not_there_is_unavailable(
        self, workers: Workers, token_entry: Entry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(secret_sources, "FIRST_DELAY_SECONDS", 0.01)
        await workers.register(token_entry("scope: local"))
        with pytest.raises(ToolFailure) as caught:
            await workers.token(await workers.start(), api="http://127.0.0.1:9")
        assert caught.value.error["code"] == "keychain.unavailable"

    async def test_a_metadata_address_is_refused(self, workers: Workers, token_entry: Entry) -> None:
        await workers.register(token_entry("scope: local"))
        with pytest.raises(ToolFailure, match=r"169\.254\.169\.254") as caught:
            await workers.token(await workers.start(), api="http://169.254.169.254")
        assert caught.value.error["code"] == "keychain.denied"

    async def test_a_control_plane_that_is_away_makes_it_unavailable(
        self, workers: Workers, token_entry: Entry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def away(request: SecretRequest) -> SecretAnswer:
            raise Unavailable("the control plane does not answer")

        await workers.register(token_entry("scope: local"))
        monkeypatch.setattr(workers.cache, "acquire_secret", away)
        with pytest.raises(ToolFailure) as caught:
            await workers.token(await workers.start())
        assert (caught.value.error["code"], caught.value.error["retryable"]) == ("keychain.unavailable", True)


def digested(workers: Workers, id: str) -> tuple[Any, Any, Any]:
    secrets = workers.secrets(id)
    return secrets._entries["api"], secrets._entries, secrets._command


class TestKinds:
    async def test_a_map_renames_and_computes_fields_of_the_answer(self, workers: Workers) -> None:
        entry = TOKEN_ENTRY.replace(
            "MORE", 'map: {t: access_token, deep: nested.id, both: "{{ response.token_type }} x"}'
        )
        await workers.register(entry)
        assert await workers.read(await workers.start()) == {"t": "token-1", "deep": "deep-secret", "both": "Bearer x"}

    async def test_client_credentials_are_sent_by_basic_authentication(self, workers: Workers) -> None:
        workers.credentials["client"] = ("oauth2", {"client_id": "me", "client_secret": "se:cret/é"})
        await workers.register("  - {name: api, kind: oauth2, endpoint: '{{ workload.api }}/token', auth: client}\n")
        await workers.read(await workers.start())
        [(_, headers, form)] = workers.server.requests
        scheme, _, pair = headers["Authorization"].partition(" ")
        sent = [unquote(part) for part in base64.b64decode(pair).decode().split(":")]
        assert (scheme, sent, form) == ("Basic", ["me", "se:cret/é"], {"grant_type": "client_credentials"})

    async def test_templates_read_the_credential_and_then_it_is_not_sent_as_a_header(self, workers: Workers) -> None:
        workers.credentials["client"] = ("any", {"user": "me", "pin": "the-pin"})
        await workers.register(
            "  - {name: api, kind: oauth2, endpoint: '{{ workload.api }}/token', auth: client,"
            " data: {u: '{{ auth.user }}', p: '{{ auth.pin }}'}}\n"
        )
        await workers.read(await workers.start())
        [(_, headers, form)] = workers.server.requests
        assert (form, "Authorization" in headers) == ({"u": "me", "p": "the-pin"}, False)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("<html>", "is not JSON"),
            ("[1]", "is not an object"),
            ('{"error": "invalid_scope"}', "answered the error 'invalid_scope'"),
            ('{"access_token": "t", "expires_in": 1' + "0" * 400 + "}", "'api'.*expires_in"),
            ('{"access_token": "t", "expires_in": NaN}', "'api'.*expires_in"),
            ('{"access_token": "abc\\ud800defghij"}', "'api'.*access_token"),
            ('{"access_token": {"a": ["\\u0000"]}}', r"'api'.*access_token\.a\[0\]"),
            ("[" * 5000 + "]" * 5000, "'api'"),
            ('{"access_token": ' + "[" * 500 + "]" * 500 + "}", "'api'"),
        ],
    )
    async def test_an_answer_without_a_token_is_refused(self, workers: Workers, text: str, message: str) -> None:
        await workers.register(TOKEN_ENTRY.replace("MORE", "scope: local"))
        workers.server.text = text
        with pytest.raises(ToolFailure, match=message) as caught:
            await workers.token(await workers.start())
        assert caught.value.error["code"] == "keychain.denied"

    @pytest.mark.parametrize("expires_in", ["'nan'", "'1e999'", "'soon'", "[1]", "null", "true and false"])
    async def test_a_time_that_is_none_counts_as_not_stated(self, workers: Workers, expires_in: str) -> None:
        await workers.register(TOKEN_ENTRY.replace("MORE", "scope: local"))
        workers.server.text = json.dumps({"access_token": "t", "expires_in": expires_in.strip("'")})
        assert await workers.token(await workers.start()) == "t"

    async def test_more_values_than_can_be_masked_are_denied_and_can_be_fetched_again(self, workers: Workers) -> None:
        await workers.register(TOKEN_ENTRY.replace("MORE", "scope: local"))
        workers.server.text = json.dumps({"access_token": "t-1", "more": [f"text-{n}" for n in range(1001)]})
        id = await workers.start()
        with pytest.raises(ToolFailure, match="'api': more than 1000 secret values"):
            await workers.token(id)
        workers.server.text = None
        assert await workers.token(id) == "token-2"

    async def test_a_token_of_any_content_type_is_read_and_a_body_may_be_json(self, workers: Workers) -> None:
        more = "headers: {content-type: application/json, x-a: '{{ x }}'}"
        await workers.register(TOKEN_ENTRY.replace("MORE", more))
        workers.server.text = '{"access_token": "as-text"}'
        assert await workers.token(await workers.start()) == "as-text"
        [(_, headers, form)] = workers.server.requests
        sent = {name.lower(): value for name, value in headers.items()}
        assert (sent["content-type"], sent["x-a"], form) == ("application/json", "1", {})

    async def test_secrets_of_google_are_read_as_the_service_account(self, workers: Workers) -> None:
        workers.credentials["sa"] = ("service_account", account(workers.server.url))
        await workers.register(
            "  - {name: api, kind: secrets, provider: gcp, auth: '{{ workload.sa }}', endpoint:"
            " '{{ workload.api }}', map: {a: one, b: projects/p/secrets/two/versions/3, c: binary}}\n"
        )
        found = await workers.read(await workers.start(), sa="sa")
        assert found == {"a": "value of one", "b": "value of two", "c": base64.b64encode(b"\xff").decode()}
        paths = [path for path, _, _ in workers.server.requests]
        versions = ("one/versions/latest", "two/versions/3")
        assert paths[1:3] == [f"/v1/projects/p/secrets/{version}:access" for version in versions]

    async def test_secrets_of_aws_are_read_with_signed_requests(self, workers: Workers) -> None:
        keys = {"access_key_id": "AKIA1", "secret_access_key": "aws-secret-key", "region": "eu-x-1"}
        workers.credentials["aws"] = ("aws", keys)
        entry = "  - {name: NAME, kind: secrets, provider: aws, auth: aws, endpoint: '{{ workload.api }}', map: MAP}\n"
        named = {"api": "{a: plain, b: 'json#pin', c: json, d: binary}", "other": "{a: 'json#x'}"}
        await workers.register(
            "".join(entry.replace("NAME", name).replace("MAP", map_) for name, map_ in named.items())
        )
        id = await workers.start()
        assert await workers.read(id) == {
            "a": "plain-value",
            "b": "the-pin",
            "c": json.dumps({"user": "ann", "pin": "the-pin"}),
            "d": base64.b64encode(b"\xff").decode(),
        }
        with pytest.raises(ToolFailure, match="the secret json has no field x"):
            await workers.read(id, "other")
        workers.credentials["aws"] = ("aws", {**keys, "secret_access_key": "another-key"})
        with pytest.raises(ToolFailure, match="The signature does not match") as caught:
            await workers.read(await workers.start())
        assert caught.value.error["code"] == "keychain.denied"

    @pytest.mark.parametrize(
        "source", ["auth: sa", "service_account_credential: sa", "auth: sa, service_account_secret: key"]
    )
    async def test_an_identity_token_is_for_its_audience(self, workers: Workers, source: str) -> None:
        workers.credentials["sa"] = ("service_account", {"file": json.dumps(account(workers.server.url))})
        await workers.register(
            "  - {name: api, kind: google_id_token, target_audience: 'https://x.example/{{ x }}', endpoint:"
            " '{{ workload.api }}', " + source + "}\n"
        )
        found = await workers.read(await workers.start())
        claims = jwt.decode(found["token"], "k" * 32, algorithms=["HS256"], audience="https://x.example/1")
        assert claims["aud"] == "https://x.example/1" and found["id_token"] == found["access_token"] == found["token"]

    @pytest.mark.parametrize(
        ("more", "scope"), [("", "cloud-platform"), (", scopes: [one, 'two.{{ x }}']", "one two.1")]
    )
    async def test_an_access_token_is_for_its_scopes(self, workers: Workers, more: str, scope: str) -> None:
        workers.credentials["sa"] = ("service_account", {"file": json.dumps(account(workers.server.url))})
        await workers.register("  - {name: api, kind: google_access_token, auth: sa" + more + "}\n")
        found = await workers.read(await workers.start())
        assert found == {"token": f"google-{scope}", "access_token": f"google-{scope}", "token_type": "Bearer"}

    async def test_scopes_that_are_no_texts_are_denied(self, workers: Workers) -> None:
        workers.credentials["sa"] = ("service_account", {"file": json.dumps(account(workers.server.url))})
        await workers.register(
            "  - {name: api, kind: google_access_token, auth: sa, scopes: [one, '{{ workload.x }}']}\n"
        )
        with pytest.raises(ToolFailure, match="its scopes are not all texts"):
            await workers.read(await workers.start())

    async def test_an_access_token_of_what_is_no_service_account_is_denied(self, workers: Workers) -> None:
        workers.credentials["sa"] = ("basic", {"user": "me", "password": "pass-1"})
        await workers.register("  - {name: api, kind: google_access_token, auth: sa}\n")
        with pytest.raises(ToolFailure, match="'sa' is no service account: it needs client_email and private_key"):
            await workers.read(await workers.start())

    async def test_a_credential_is_read_anew_and_never_cached(self, workers: Workers, database: Database) -> None:
        workers.credentials["pg"] = ("postgres", {"user": "me", "password": "pass-1"})
        await workers.register(
            "  - {name: pg, kind: credential}\n  - {name: api, ref: pg, type: postgres}\n"
            "  - {name: b, kind: bearer, token: '{{ keychain.pg.password }}'}\n"
            "  - {name: s, kind: static, map: {a: 'x-{{ keychain.b.token }}', n: 1}}\n"
            "  - {name: c, kind: secrets, provider: credential, auth: pg, map: {p: password}}\n"
        )
        id = await workers.start()
        assert await workers.read(id) == await workers.read(id, "pg") == {"user": "me", "password": "pass-1"}
        workers.credentials["pg"] = ("postgres", {"user": "me", "password": "pass-2"})
        assert await workers.read(id, "b") == {"token": "pass-2", "access_token": "pass-2"}
        assert await workers.read(id, "s") == {"a": "x-pass-2", "n": 1}
        assert await database.run("SELECT count(*) FROM noetl.keychain") == [[0]]
        assert await workers.read(id, "c") == {"p": "pass-2"}

    async def test_the_auth_of_a_tool_may_name_an_entry_or_a_stored_credential(self, workers: Workers) -> None:
        workers.credentials["pg"] = ("postgres", {"user": "me", "password": "pass-1"})
        await workers.register(
            TOKEN_ENTRY.replace("MORE", "scope: local")
            + "  - {name: db, kind: credential, credential: pg}\n  - {name: s, kind: static, map: {a: b}}\n"
            + "  - {name: broken, kind: static, map: {a: '{{ workload.nothing }}'}}\n"
        )
        secrets = workers.secrets(await workers.start())
        found = {name: await secrets.credential(name) for name in ("api", "db", "s", "pg")}
        types = {"api": "bearer", "db": "postgres", "s": "static", "pg": "postgres"}
        assert {name: credential.type for name, credential in found.items()} == types
        assert found["api"].data["access_token"] == "token-1"
        written: dict[str, Any] = {"data": "token-1 pass-1", "error": None, "meta": {}, "extra": {}}
        assert (await secrets.masked(written))["data"] == "*** ***"
        with pytest.raises(ToolFailure, match="'broken'"):
            await secrets.credential("broken")

    @pytest.mark.parametrize(("entry", "message"), [
        ("{name: api, ref: nobody}", "there is no credential 'nobody'"),
        ("{name: api, ref: pg, type: bearer}", "is of type 'postgres', not 'bearer'"),
        ("{name: api, kind: secrets, provider: credential, auth: pg, map: {a: missing}}", "has no field missing"),
        ("{name: api, kind: secrets, provider: gcp, auth: pg, map: {a: b}}", "is no service account"),
        ("{name: api, kind: secrets, provider: aws, auth: pg, map: {a: b}}", "has no keys of AWS"),
        ("{name: api, kind: google_id_token, auth: bad, target_audience: x}", "private_key of the service account"),
    ])  # fmt: skip
    async def test_what_cannot_be_resolved_says_why(self, workers: Workers, entry: str, message: str) -> None:
        workers.credentials["pg"] = ("postgres", {"password": "pass-1"})
        workers.credentials["bad"] = ("service_account", {"client_email": "me", "private_key": "not-a-key"})
        await workers.register(f"  - {entry}\n")
        with pytest.raises(ToolFailure) as caught:
            await workers.read(await workers.start())
        assert caught.value.error["code"] == "keychain.denied"
        assert "'api'" in caught.value.error["message"] and message in caught.value.error["message"]
        assert "not-a-key" not in caught.value.error["message"]


class TestRoutes:
    async def test_users_see_which_values_are_cached_but_no_value(
        self, workers: Workers, token_entry: Entry, database: Database
    ) -> None:
        catalog_id = await workers.register(token_entry("scope: local"))
        ids = sorted([await workers.start(), await workers.start()])
        for id in ids:
            await workers.token(id)
        listed = await workers.user.get(f"/api/keychain/{catalog_id}", limit=1)
        entry = listed.json["items"][0]
        assert (entry["keychain_name"], entry["scope_type"], entry["status"]) == ("api", "local", "success")
        assert entry["cache_key"] == f"api:{catalog_id}:{ids[0]}"
        assert entry["token_data"]["access_token"] == "***"
        following = await workers.user.get(f"/api/keychain/{catalog_id}", limit=1, after=listed.json["next"])
        assert [item["execution_id"] for item in following.json["items"]] == ids[1:]
        assert following.json["next"] is None
        of_one = await workers.user.get(f"/api/keychain/{catalog_id}/api", execution_id=ids[1])
        assert of_one.json["execution_id"] == ids[1]
        await pass_time(database, 4000)
        expired = await workers.user.get(f"/api/keychain/{catalog_id}/api", execution_id=ids[1])
        assert (expired.json["status"], expired.json["expired"]) == ("expired", True)
        assert b"token-" not in b"".join(answer.body for answer in (listed, following, of_one, expired))
        assert (await workers.user.get(f"/api/keychain/{catalog_id}/other")).status == 404
        assert (await workers.user.get("/api/keychain/x/other")).status == 404

    async def test_a_value_of_an_execution_that_has_ended_is_not_listed(
        self, workers: Workers, token_entry: Entry, hands: FakeWorker
    ) -> None:
        catalog_id = await workers.register(token_entry("scope: local"))
        ended = await workers.start()
        await workers.token(ended)
        await hands.finish()
        running = await workers.start()
        await workers.token(running)
        listed = await workers.user.get(f"/api/keychain/{catalog_id}")
        assert [item["execution_id"] for item in listed.json["items"]] == [running]
        assert (await workers.user.get(f"/api/keychain/{catalog_id}/api", execution_id=ended)).status == 404
        assert (await workers.user.delete(f"/api/keychain/{catalog_id}/api")).json["count"] == 1

    async def test_a_deleted_value_is_fetched_again(self, workers: Workers, token_entry: Entry) -> None:
        catalog_id = await workers.register(token_entry("scope: local"))
        ids = [await workers.start(), await workers.start()]
        for id in ids:
            await workers.token(id)
        gone = await workers.user.delete(f"/api/keychain/{catalog_id}/api?execution_id={ids[0]}")
        assert gone.json == {"status": "deleted", "name": "api", "count": 1}
        assert [await workers.token(id) for id in ids] == ["token-3", "token-2"]
        assert (await workers.user.delete(f"/api/keychain/{catalog_id}/api?scope=global")).status == 404
        assert (await workers.user.delete(f"/api/keychain/{catalog_id}/api?scope=local")).json["count"] == 2

    async def test_of_an_entry_that_the_playbook_does_not_have_it_is_said_so(
        self, workers: Workers, token_entry: Entry
    ) -> None:
        catalog_id = await workers.register(token_entry("scope: local"))
        for name, says in (
            ("api", "no value is cached for the keychain entry 'api'"),
            ("apy", "has no keychain entry 'apy'; did you mean 'api'?"),
            ("other", "has no keychain entry 'other'; it has api"),
        ):
            place = f"/api/keychain/{catalog_id}/{name}"
            for answer in (await workers.user.get(place), await workers.user.delete(place)):
                assert (answer.status, answer.json["detail"].endswith(says)) == (404, True), answer.json
        assert "no value is cached" in (await workers.user.delete("/api/keychain/1/api")).json["detail"]

    async def test_every_read_of_a_value_is_audited_and_no_value_is_logged(
        self, workers: Workers, token_entry: Entry, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        await workers.register(token_entry("scope: local"))
        id = await workers.start()
        await workers.token(id), await workers.token(id)
        read = [vars(record) for record in caplog.records if getattr(record, "operation", "") == "readSecret"]
        assert [(entry["secret"], entry["execution_id"]) for entry in read] == [("api", id)]
        assert "token-1" not in "".join(str(vars(record)) for record in caplog.records)

    async def test_the_secret_is_nowhere_in_the_database(
        self, workers: Workers, token_entry: Entry, database: Database
    ) -> None:
        await workers.register(token_entry("scope: local"))
        await workers.token(await workers.start())
        [[row]] = await database.run("SELECT keychain::text FROM noetl.keychain")
        assert "token-1" not in row and b"token-1".hex() not in row


class TestMaintenance:
    async def do(self, database: Database) -> dict[str, int]:
        await database.run("UPDATE noetl.chore SET due_at = now() + interval '1 hour' WHERE name <> 'keychain'")
        await database.run("UPDATE noetl.chore SET due_at = now() WHERE name = 'keychain'")
        nothing = cast(Callable[[], Awaitable[None]], None)
        retention = Retention(Archives(database), MaintenanceTasks(database), cast(Any, None), nothing)
        return await retention.run_next_task()

    async def test_values_that_expired_or_whose_execution_has_ended_are_deleted(
        self, workers: Workers, token_entry: Entry, database: Database, hands: FakeWorker
    ) -> None:
        await workers.register(token_entry("scope: local"))
        await workers.register(token_entry("scope: global"), "global")
        ended = await workers.start()
        await workers.token(ended)
        await hands.finish()
        running = [await workers.start(), await workers.start("global")]
        await workers.token(running[0]), await workers.token(running[1], "global")
        assert await self.do(database) == {"secrets_expired": 0, "secrets_of_ended": 1}
        assert await database.run("SELECT count(*) FROM noetl.keychain") == [[2]]
        await pass_time(database, 4000)
        assert await self.do(database) == {"secrets_expired": 2, "secrets_of_ended": 0}
        assert await database.run("SELECT count(*) FROM noetl.keychain") == [[0]]

    async def test_a_value_that_somebody_fetches_stays(
        self, workers: Workers, token_entry: Entry, database: Database
    ) -> None:
        await workers.register(token_entry("scope: global"))
        workers.server.delay = 0.5
        under_way = asyncio.create_task(workers.token(await workers.start()))
        await asyncio.sleep(0.25)
        await database.run("UPDATE noetl.keychain SET expires_at = now() - interval '1 hour'")
        assert await self.do(database) == {"secrets_expired": 0, "secrets_of_ended": 0}
        assert await under_way == "token-1"
        assert await database.run("SELECT count(*) FROM noetl.keychain WHERE sealed IS NOT NULL") == [[1]]
