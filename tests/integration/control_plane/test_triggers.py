from __future__ import annotations

import asyncio
import base64
import hmac
import time
from typing import Any

import orjson
import pytest
from tests.integration.control_plane.conftest import Answer, Client

SECRET = "whsec_" + base64.b64encode(b"a secret of the shop, 32 bytes!!").decode()
OLDER = "whsec_" + base64.b64encode(b"the secret before, of 32 bytes!!").decode()
PATH = "shop/on_order"
HOOK = f"{PATH}/paid"
TEXT = f"""\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {{name: on_order, path: {PATH}}}
triggers:
  - name: paid
    kind: webhook
    auth: shop
    when: "{{{{ event.data.total > 10 }}}}"
    input: {{order: "{{{{ event.data.id }}}}"}}
  - {{name: after, kind: playbook, path: shop/other}}
workload: {{order: null}}
workflow:
  - {{step: one, tool: {{kind: python, code: "result = 1"}}}}
"""
ORDER = {"id": 7, "total": 20}
OTHER = (
    "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: o, path: shop/other}\n"
    "workflow: [{step: a, tool: {kind: noop}}]\n"
)


@pytest.fixture(autouse=True)
async def shop(user: Client) -> None:
    for path, body in (
        ("/api/credentials", {"name": "shop", "type": "webhook_secret", "data": {"secrets": [SECRET, OLDER]}}),
        ("/api/catalog/register", {"content": TEXT}),
    ):
        answer = await user.post(path, body)
        assert answer.status == 200, answer.body


async def deliver(
    user: Client,
    data: Any = ORDER,
    *,
    id: str = "msg_1",
    secret: str = SECRET,
    age: int = 0,
    hook: str = HOOK,
    **headers: str,
) -> Answer:
    body = data if isinstance(data, bytes) else orjson.dumps(data)
    at = str(int(time.time()) - age)
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.digest(key, f"{id}.{at}.".encode() + body, "sha256")).decode()
    signed = {"webhook-id": id, "webhook-timestamp": at, "webhook-signature": f"v1,{signature}"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await user.call("POST", f"/api/hooks/{hook}", body, headers={**signed, **named})


async def executions(user: Client) -> list[dict[str, Any]]:
    return (await user.get("/api/executions", path=PATH)).json  # type: ignore[no-any-return]


async def test_a_signed_webhook_starts_one_execution_however_often_it_is_sent(user: Client) -> None:
    answers = [await deliver(user) for _ in range(3)]
    assert [answer.status for answer in answers] == [202] * 3
    first, *others = [answer.json for answer in answers]
    assert (first["event_id"], first["status"], first["duplicate"]) == ("msg_1", "started", False)
    assert others == [{**first, "duplicate": True}] * 2
    [execution] = await executions(user)
    assert execution["execution_id"] == first["execution_id"]
    shown = (await user.get(f"/api/executions/{first['execution_id']}")).json
    assert shown["principal"] == {"kind": "trigger", "name": HOOK, "event_id": "msg_1", "depth": 1}


async def test_a_hundred_deliveries_at_once_start_one_execution(user: Client) -> None:
    answers = await asyncio.gather(*(deliver(user) for _ in range(100)))
    assert {answer.status for answer in answers} == {202}
    assert sum(not answer.json["duplicate"] for answer in answers) == 1
    assert len(await executions(user)) == 1


async def test_the_secret_before_is_still_accepted(user: Client) -> None:
    assert (await deliver(user, secret=OLDER)).status == 202


@pytest.mark.parametrize(
    "wrong",
    [
        {"secret": "whsec_" + base64.b64encode(b"of somebody else").decode()},
        {"age": 400},
        {"age": -400},
        {"webhook_signature": "v1,AAAA"},
        {"webhook_id": "msg_2"},
        {"webhook_timestamp": "soon"},
        {"hook": f"{PATH}/after"},
        {"hook": f"{PATH}/nothing"},
        {"hook": "nowhere"},
    ],
)
async def test_every_refusal_looks_the_same(user: Client, wrong: dict[str, Any]) -> None:
    answer = await deliver(user, **wrong)
    assert (answer.status, answer.json["code"]) == (401, "webhook.refused")
    assert answer.json["detail"] == "The webhook is unknown, or its signature is not valid"
    assert await executions(user) == []


async def test_a_webhook_without_its_credential_is_refused(user: Client) -> None:
    await user.delete("/api/credentials/shop")
    assert (await deliver(user)).status == 401
    await user.post("/api/credentials", {"name": "shop", "type": "bearer", "data": {"token": SECRET}})
    assert (await deliver(user)).status == 401


async def test_a_disabled_trigger_receives_nothing(user: Client) -> None:
    assert (await user.post(f"/api/triggers/{HOOK}/disable")).json["effective"] is False
    refused = await deliver(user)
    assert (refused.status, refused.json["detail"].partition(":")[0]) == (409, f"the trigger {HOOK} is disabled")
    assert (await user.post(f"/api/triggers/{HOOK}/enable")).json["effective"] is True
    assert (await deliver(user)).json["duplicate"] is False


async def test_a_trigger_whose_playbook_is_deleted_is_shown_as_not_effective(user: Client) -> None:
    assert (await user.post("/api/catalog/delete", {"path": PATH})).status == 200
    assert (await user.get(f"/api/triggers/{HOOK}")).json["when"] is None
    listed = await user.get("/api/triggers")
    assert (listed.status, [one["effective"] for one in listed.json["items"]]) == (200, [False, False])
    for answer in (await user.get(f"/api/triggers/{HOOK}"), await user.post(f"/api/triggers/{HOOK}/enable")):
        assert (answer.status, answer.json["enabled"], answer.json["effective"]) == (200, True, False)
    refused = await deliver(user)
    assert (refused.status, "does not declare the trigger" in refused.json["detail"]) == (409, True)


@pytest.mark.parametrize("body", [b"total=20", b"\xff\xfe", b"[" * 100_000, b'{"total": "\\u0000"}', b"", b"null"])
async def test_a_body_that_the_filter_cannot_read_is_a_dead_letter(user: Client, body: bytes) -> None:
    answer = await deliver(user, body)
    assert (answer.status, answer.json["status"]) == (202, "dead")
    [event] = (await user.get(f"/api/triggers/{HOOK}/events", status="dead")).json["items"]
    assert event["event_id"] == "msg_1"
    assert (event["error"]["code"], event["error"]["line"]) == ("template.error", 8)


@pytest.mark.parametrize("levels", [112, 300, 1000])
async def test_a_body_that_is_nested_too_deeply_is_refused(user: Client, levels: int) -> None:
    answer = await deliver(user, b"[" * levels + b"]" * levels)
    assert (answer.status, answer.json["code"]) == (400, "request.invalid")
    assert "nested deeper than 112 levels" in answer.json["detail"]
    assert (await user.get(f"/api/triggers/{HOOK}/events")).json["items"] == []


async def test_an_id_that_cannot_be_stored_is_known_by_its_digest(user: Client) -> None:
    body = {"event": {"id": "a\0b", "data": ORDER}}
    fired = await user.post(f"/api/triggers/{HOOK}/fire", body)
    assert (fired.status, fired.json["status"]) == (200, "started")
    assert fired.json["event_id"].startswith("sha256:")
    assert len(await executions(user)) == 1


async def test_a_webhook_of_stripe_with_an_id_that_cannot_be_stored_is_answered_once_it_is_recorded(
    user: Client,
) -> None:
    text = TEXT.replace("auth: shop", "auth: shop\n    scheme: stripe").replace("event.data.id", "event.data.total")
    await user.post("/api/catalog/register", {"content": text})
    body = orjson.dumps({"id": "evt\0", "type": "paid", "total": 20})
    at = str(int(time.time()))
    signature = hmac.digest(SECRET.encode(), f"{at}.".encode() + body, "sha256").hex()
    signed = {"stripe-signature": f"t={at},v1={signature}"}
    answers = [await user.call("POST", f"/api/hooks/{HOOK}", body, headers=signed) for _ in range(2)]
    assert [(answer.status, answer.json["duplicate"]) for answer in answers] == [(202, False), (202, True)]
    assert len(await executions(user)) == 1


async def test_a_large_body_is_refused_before_anything_else(user: Client) -> None:
    answer = await deliver(user, b"x" * 1_100_000)
    assert (answer.status, answer.json["code"]) == (413, "request.too_large")


async def test_large_headers_are_refused(user: Client) -> None:
    assert (await deliver(user, x_huge="y" * 20_000)).status == 400


async def test_a_dead_letter_is_retried_or_dropped(user: Client) -> None:
    await deliver(user, {"id": 7})
    await deliver(user, {"id": 8}, id="msg_2")
    wrong = await user.post(f"/api/triggers/{HOOK}/retry", {"event_id": "msg_3"})
    assert wrong.status == 404
    retried = await user.post(f"/api/triggers/{HOOK}/retry", {"event_id": "msg_1"})
    assert (retried.status, retried.json["status"], retried.json["attempts"]) == (200, "received", 1)
    dropped = await user.post(f"/api/triggers/{HOOK}/drop", {"event_id": "msg_2"})
    assert (dropped.status, dropped.json["status"]) == (200, "dropped")
    assert (await user.post(f"/api/triggers/{HOOK}/drop", {"event_id": "msg_2"})).status == 409
    assert (await deliver(user, {"id": 8}, id="msg_2")).json["duplicate"] is True


async def test_the_content_of_a_dead_letter_is_read(user: Client) -> None:
    await deliver(user, {"id": 7}, x_shop="north")
    await deliver(user, id="msg_2")
    read = await user.post(f"/api/triggers/{HOOK}/read", {"event_id": "msg_1"})
    assert (read.status, read.json["status"], read.json["error"]["line"]) == (200, "dead", 8)
    assert (read.json["event"]["data"], read.json["event"]["headers"]["x-shop"]) == ({"id": 7}, "north")
    settled = await user.post(f"/api/triggers/{HOOK}/read", {"event_id": "msg_2"})
    assert (settled.json["status"], settled.json["event"]) == ("started", None)
    await user.post(f"/api/triggers/{HOOK}/drop", {"event_id": "msg_1"})
    assert (await user.post(f"/api/triggers/{HOOK}/read", {"event_id": "msg_1"})).json["event"] is None
    assert (await user.post(f"/api/triggers/{HOOK}/read", {"event_id": "msg_3"})).status == 404


async def test_triggers_and_their_events_are_listed_page_by_page(user: Client) -> None:
    first = (await user.get("/api/triggers", limit=1)).json
    assert [one["name"] for one in first["items"]] == ["after"]
    second = (await user.get("/api/triggers", limit=1, after=first["next"])).json
    assert ([one["name"] for one in second["items"]], second["next"]) == (["paid"], None)
    shown = (await user.get(f"/api/triggers/{HOOK}")).json
    assert (shown["kind"], shown["config"], shown["effective"]) == (
        "webhook",
        {"auth": "shop", "scheme": "standard"},
        True,
    )
    assert (shown["when"], shown["input"]) == ("{{ event.data.total > 10 }}", {"order": "{{ event.data.id }}"})
    assert (await user.get(f"/api/triggers/{shown['trigger_id']}")).json == shown
    other = (await user.get(f"/api/triggers/{PATH}/after")).json
    assert (other["when"], other["input"], other["error"]) == (None, None, None)
    for number in range(3):
        await deliver(user, id=f"msg_{number}")
    page = (await user.get(f"/api/triggers/{HOOK}/events", limit=2)).json
    rest = (await user.get(f"/api/triggers/{HOOK}/events", limit=2, before=page["next"])).json
    assert [one["event_id"] for one in page["items"] + rest["items"]] == ["msg_2", "msg_1", "msg_0"]
    assert rest["next"] is None
    assert (await user.get(f"/api/triggers/{HOOK}/events", before="yesterday")).status == 400
    assert (await user.get("/api/triggers/nothing")).status == 404


async def test_a_dry_run_shows_what_a_trigger_would_make_of_an_event(user: Client) -> None:
    async def fire(data: Any, **more: Any) -> dict[str, Any]:
        body = {"event": {"id": "e", "data": data}, "dry_run": True, **more}
        answer = await user.post(f"/api/triggers/{HOOK}/fire", body)
        assert answer.status == 200, answer.body
        return answer.json  # type: ignore[no-any-return]

    matched = await fire(ORDER)
    assert (matched["matched"], matched["input"], matched["status"]) == (True, {"order": 7}, None)
    assert (await fire({"total": 1}))["matched"] is False
    wrong = await fire({})
    assert (wrong["matched"], wrong["error"]["line"]) == (None, 8)
    assert await executions(user) == []
    fired = await fire(ORDER, dry_run=False)
    assert (fired["matched"], fired["status"]) == (True, "started")
    assert [one["execution_id"] for one in await executions(user)] == [fired["execution_id"]]


async def test_a_dry_run_refuses_what_the_schema_of_the_playbook_does(user: Client) -> None:
    schema = "schemas: {input: {type: object, properties: {order: {type: [integer, 'null'], minimum: 10}}}}\n"
    assert (await user.post("/api/catalog/register", {"content": TEXT + schema})).status == 200
    event = {"event": {"id": "e", "data": ORDER}}
    dry = (await user.post(f"/api/triggers/{HOOK}/fire", {**event, "dry_run": True})).json
    assert (dry["matched"], dry["input"], dry["error"]["code"]) == (True, {"order": 7}, "input.invalid")
    fired = (await user.post(f"/api/triggers/{HOOK}/fire", event)).json
    assert (fired["status"], fired["error"]["detail"]) == ("dead", dry["error"]["detail"])


async def test_a_trigger_that_would_wait_for_ever_is_refused(user: Client) -> None:
    def text(trigger: str) -> dict[str, str]:
        return {"content": TEXT.replace("{name: after, kind: playbook, path: shop/other}", trigger)}

    fine = text("{name: queue, kind: message, source: nats, stream: ORDERS}")
    assert (await user.post("/api/catalog/register", fine)).status == 200
    wrong = text("{name: drop, kind: object, url: 's3://bucket/in/'}")
    refused = await user.post("/api/catalog/register", wrong)
    assert (refused.status, refused.json["code"]) == (422, "playbook.invalid")
    [fault] = refused.json["errors"]
    assert (fault["code"], fault["line"], fault["pointer"]) == ("playbook.not_supported", 10, "/triggers/1/url")
    assert "cannot listen to s3; it can to nats" in fault["message"]


async def test_what_a_trigger_lacks_is_a_warning_until_it_is_there(user: Client) -> None:
    text = TEXT.replace("auth: shop", "auth: nobody").replace(PATH, "shop/lacking")
    answer = await user.post("/api/catalog/register", {"content": text})
    found = [
        (each["code"], each["pointer"], each["message"].rpartition("there is ")[2]) for each in answer.json["warnings"]
    ]
    assert (answer.status, found) == (
        200,
        [
            ("playbook.trigger_not_ready", "/triggers/0/auth", "no credential 'nobody'"),
            ("playbook.trigger_not_ready", "/triggers/1/path", "no playbook 'shop/other'"),
        ],
    )
    await user.post("/api/catalog/register", {"content": OTHER})
    answer = await user.post("/api/catalog/register", {"content": TEXT})
    assert answer.json["warnings"] == []
    text = TEXT.replace("input: {order:", "input: {odrer:")
    [warning] = (await user.post("/api/catalog/register", {"content": text})).json["warnings"]
    assert (warning["code"], warning["pointer"]) == ("playbook.unused_name", "/triggers/0/input/odrer")


@pytest.mark.parametrize(
    ("scheme", "type_", "data", "said", "shown"),
    [
        ("standard", "webhook_secret", {"secret": "whsec_not base64!"}, "begins with whsec_", True),
        ("standard", "webhook_secret", {"secrets": [SECRET, "not base64!"]}, "is not base64", False),
        ("standard", "bearer", {"token": SECRET}, "is not of type webhook_secret", True),
        ("github", "webhook_secret", {"secrets": []}, "has no secret", True),
        ("stripe", "webhook_secret", {"secret": "whsec_not base64!"}, None, False),
        ("standard", "webhook_secret", {"secret": SECRET}, None, False),
    ],
)
async def test_secrets_that_do_not_fit_their_scheme_are_a_warning_and_an_error_of_the_trigger(
    user: Client, scheme: str, type_: str, data: dict[str, Any], said: str | None, shown: bool
) -> None:
    await user.post("/api/credentials", {"name": "other", "type": type_, "data": data})
    path = "shop/secrets"
    text = TEXT.replace("auth: shop", f"auth: other\n    scheme: {scheme}").replace(PATH, path)
    text = text.replace("  - {name: after, kind: playbook, path: shop/other}\n", "")
    warnings = (await user.post("/api/catalog/register", {"content": text})).json["warnings"]
    assert [(one["code"], one["pointer"]) for one in warnings] == [
        ("playbook.trigger_not_ready", "/triggers/0/auth")
    ] * (said is not None)
    assert said is None or said in warnings[0]["message"]
    trigger = (await user.get(f"/api/triggers/{path}/paid")).json
    error = trigger["error"]
    assert (error is not None) is shown
    if shown:
        assert said in error["message"]
    assert [said in one for one in trigger["warnings"]] == [True] * (said is not None and not shown)
    # as when the secret is changed later
    again = (await user.post("/api/credentials", {"name": "other", "type": type_, "data": data})).json["warnings"]
    assert [said in one and f"the trigger {path}/paid" in one for one in again] == [True] * (said is not None)
    secrets = [*data.get("secrets", ()), data.get("secret"), data.get("token")]
    assert not any(secret in str([warnings, trigger, again]) for secret in secrets if secret)


async def test_a_webhook_whose_credential_is_missing_has_that_as_its_error(user: Client) -> None:
    await user.delete("/api/credentials/shop")
    [after, paid] = (await user.get("/api/triggers")).json["items"]
    assert after["error"] is None
    assert paid["error"] == {
        "code": "playbook.trigger_not_ready",
        "message": "there is no credential 'shop': every webhook is refused",
    }
    assert (await user.get(f"/api/triggers/{HOOK}")).json["error"] == paid["error"]


async def test_the_log_says_that_a_signature_has_not_the_form_of_its_scheme(
    user: Client, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await deliver(user, webhook_signature="v1,AAAA")).status == 401
    assert "it has no signature in the form of the scheme standard, SHA-256" in caplog.text
