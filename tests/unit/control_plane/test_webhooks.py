"""What counts as a signed webhook, by the examples that the schemes publish."""

from __future__ import annotations

import base64
import hmac
import re
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from noetl_serverless.control_plane.webhooks import (
    MAX_HEADERS,
    TOLERANCE,
    Claim,
    WebhookRefused,
    claim_of,
    event_of,
    secrets_of,
    verify,
)
from noetl_serverless.errors import InvalidRequest
from noetl_serverless.store.credentials import Credential

AT = datetime.fromtimestamp(1614265330, UTC)
SECOND = timedelta(seconds=1)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
STANDARD = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
GITHUB = {
    "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
    "x-github-event": "push",
    "x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
}
STRIPE_BODY = b'{"id": "evt_1", "type": "charge.paid"}'


def signed(body: bytes = BODY, secret: str = SECRET, id: str = "msg_1", at: datetime = AT) -> dict[str, str]:
    seconds = str(int(at.timestamp()))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.digest(key, f"{id}.{seconds}.".encode() + body, "sha256")).decode()
    return {"webhook-id": id, "webhook-timestamp": seconds, "webhook-signature": f"v1,{signature}"}


def stripe(at: datetime = AT, secret: bytes = b"whsec_x") -> dict[str, str]:
    seconds = str(int(at.timestamp()))
    signature = hmac.digest(secret, f"{seconds}.".encode() + STRIPE_BODY, "sha256").hex()
    return {"stripe-signature": f"t={seconds},v1={'0' * 64},v1={signature},v0=6ffb"}


def accepted(scheme: str, headers: Mapping[str, str], body: bytes, *secrets: str, now: datetime = AT) -> Claim:
    claim = claim_of(scheme, headers, body, now)
    verify(scheme, claim, secrets)
    return claim


def test_the_example_of_standard_webhooks() -> None:
    assert accepted("standard", STANDARD, BODY, SECRET).id == "msg_p5jXN8AQM9LWM0D4loKWxJek"


def test_the_example_of_github() -> None:
    claim = accepted("github", GITHUB, b"Hello, World!", "It's a Secret to Everybody")
    assert (claim.id, claim.type) == ("72d3162e-cc78-11e3-81ab-4c9367dc0958", "push")


def test_one_of_stripe_has_its_id_in_the_body() -> None:
    claim = accepted("stripe", stripe(), STRIPE_BODY, "whsec_x")
    assert (claim.id, claim.type, claim.at) == ("evt_1", "charge.paid", AT)


def test_each_of_several_secrets_is_accepted_and_each_of_several_signatures() -> None:
    other = "whsec_" + base64.b64encode(b"another secret of 24 bytes").decode()
    assert accepted("standard", signed(), BODY, other, SECRET)
    both = signed()
    both["webhook-signature"] = f"v1a,xyz v1,{'A' * 43}= {signed()['webhook-signature']}"
    assert accepted("standard", both, BODY, SECRET)
    assert accepted("standard", signed(), BODY, SECRET.removeprefix("whsec_")), "the prefix may be left out"


@pytest.mark.parametrize("off", [-TOLERANCE - SECOND, TOLERANCE + SECOND])
@pytest.mark.parametrize("scheme", ["standard", "stripe"])
def test_what_is_too_old_or_of_the_future_is_refused(scheme: str, off: timedelta) -> None:
    headers, body = (signed(), BODY) if scheme == "standard" else (stripe(), STRIPE_BODY)
    claim_of(scheme, headers, body, AT + off * 0.99)
    with pytest.raises(WebhookRefused, match="unknown, or its signature is not valid") as refusal:
        claim_of(scheme, headers, body, AT + off)
    assert "time differs" in refusal.value.why


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": "1614265331"},
        {"webhook-signature": "v1," + base64.b64encode(bytes(32)).decode()},
        {"webhook-signature": signed()["webhook-signature"].replace("v1,", "v2,")},
        {"webhook-signature": signed()["webhook-signature"].replace("v1,", "")},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,é"},
        {"webhook-signature": "v1,"},
        {"webhook-timestamp": ""},
        {"webhook-timestamp": "now"},
        {"webhook-timestamp": "-1614265330"},
        {"webhook-timestamp": "1614265330.0"},
        {"webhook-timestamp": "١٦١٤٢٦٥٣٣٠"},
        {"webhook-timestamp": "9" * 40},
        {"webhook-id": ""},
        {"webhook-id": "x" * 300},
    ],
)
def test_what_was_changed_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(WebhookRefused):
        accepted("standard", {**signed(), **change}, BODY, SECRET)


@pytest.mark.parametrize("body", [b"", BODY + b" ", BODY.replace(b"4", b"5")])
def test_another_body_is_refused(body: bytes) -> None:
    with pytest.raises(WebhookRefused):
        accepted("standard", signed(), body, SECRET)
    with pytest.raises(WebhookRefused):
        accepted("github", GITHUB, body, "It's a Secret to Everybody")


@pytest.mark.parametrize("body", [b"[]", b'{"id": 7}', b"not json", b'{"id": ""}', b"{}"])
def test_one_of_stripe_without_an_id_is_refused(body: bytes) -> None:
    with pytest.raises(WebhookRefused):
        claim_of("stripe", stripe(), body, AT)


def credential(type: str = "webhook_secret", **data: Any) -> Credential:
    return Credential(1, "c", type, {}, [], None, AT, AT, data)


def test_a_credential_has_one_secret_or_several() -> None:
    assert secrets_of(credential(secret="a")) == ["a"]
    assert secrets_of(credential(secret="a", secrets=["b", "c"])) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "wrong",
    [
        credential(),
        credential(secret=""),
        credential(secret="whsec_"),
        credential(secrets=[7]),
        credential("bearer", secret="a"),
    ],
)
def test_without_a_secret_nothing_is_accepted(wrong: Credential) -> None:
    with pytest.raises(WebhookRefused):
        secrets_of(wrong)


@pytest.mark.parametrize(
    ("body", "data"),
    [
        (b'{"a": [1]}', {"data": {"a": [1]}}),
        (b"a=1&b=2", {"data": "a=1&b=2"}),
        (b"", {"data": ""}),
        (b"NaN", {"data": "NaN"}),
        (b"\xff\xfe", {"data": None, "data_base64": "//4="}),
    ],
)
def test_any_body_becomes_data(body: bytes, data: dict[str, Any]) -> None:
    claim = claim_of("standard", signed(body), body, AT)
    event = event_of("webhook:a/b", claim, {"x-kind": "new", "authorization": "s", **signed(body)}, body, AT)
    assert event == {
        "id": "msg_1",
        "source": "webhook:a/b",
        "type": "webhook",
        "time": "2021-02-25T15:02:10.000Z",
        "headers": {"x-kind": "new", "webhook-id": "msg_1", "webhook-timestamp": "1614265330"},
        **data,
    }


@pytest.mark.parametrize("headers", [{"x": "y" * 20_000}, {f"x-{number}": "" for number in range(MAX_HEADERS + 1)}])
def test_too_many_headers_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="the headers"):
        event_of("webhook:a/b", claim_of("standard", signed(), BODY, AT), headers, BODY, AT)


def test_what_the_page_shows_signs_a_webhook() -> None:
    page = (Path(__file__).parents[3] / "playbooks" / "README.md").read_text()
    lines = re.findall(r"```sh\n(SECRET=.*?)```", page, re.S)[0]
    signing, _, sending = lines.partition("curl ")
    shown = ["SECRET", "ID", "AT", "BODY", "SIGNATURE"]
    done = subprocess.run(
        ["sh", "-c", signing + "".join(f'printf "%s\\n" "${name}";' for name in shown)],
        capture_output=True,
        text=True,
        check=True,
    )
    secret, id, at, body, signature = done.stdout.splitlines()
    names = re.findall(r"(webhook-\w+): ([^\"]+)", sending)
    values = {"$ID": id, "$AT": at, "v1,$SIGNATURE": f"v1,{signature}"}
    headers = {name: values[value] for name, value in names}
    now = datetime.fromtimestamp(int(at), UTC)
    verify("standard", claim_of("standard", headers, body.encode(), now), [secret])
    with pytest.raises(WebhookRefused):
        verify("standard", claim_of("standard", headers, b"{}", now), [secret])
