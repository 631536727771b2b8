"""Verifies signed webhooks, and makes events of them.

Every refusal looks the same to the sender, who might be guessing; the log says why. What costs little is checked first.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from ..bus.event_data import event_data
from ..errors import InvalidRequest, Problem
from ..limits import KIB
from ..store.credentials import Credential

logger = logging.getLogger(__name__)

CREDENTIAL_TYPE: Final = "webhook_secret"
TOLERANCE: Final = timedelta(minutes=5)
MAX_ID_CHARACTERS: Final = 255
MAX_SIGNATURES: Final = 20
MAX_SECRETS: Final = 10
MAX_HEADERS: Final = 100
MAX_HEADER_BYTES: Final = 16 * KIB
# headers that an event does not have: they authenticate, or are about one connection
_LEFT_OUT: Final = re.compile(
    r"(?:authorization|cookie|proxy-.*|x-noetl-.*|x-forwarded-.*|forwarded|host|connection|content-length"
    r"|transfer-encoding|webhook-signature|svix-signature|x-hub-signature(?:-256)?|stripe-signature|x-amzn-.*)"
)
_BASE64 = "whsec_"


class WebhookRefused(Problem):
    status, code, title = 401, "webhook.refused", "The webhook is refused"

    def __init__(self, why: str) -> None:
        """`why` is for the log alone."""
        super().__init__("The webhook is unknown, or its signature is not valid")
        self.why = why


@dataclass(kw_only=True, frozen=True, slots=True)
class Claim:
    """What a request says of itself, before it is known whether it is true. `signed`: what was signed, of which
    `signatures` are those that count if one of them is right."""

    id: str
    type: str
    at: datetime | None
    signed: bytes
    signatures: Sequence[bytes]


def claim_of(scheme: str, headers: Mapping[str, str], body: bytes, now: datetime) -> Claim:
    """Raises WebhookRefused for one that cannot be right, whatever the secret is: incomplete, too old, too new."""
    match scheme:
        case "github":
            claim = _github(headers, body)
        case "stripe":
            claim = _stripe(headers, body)
        case _:
            claim = _standard(headers, body)
    if not 0 < len(claim.id) <= MAX_ID_CHARACTERS:
        raise WebhookRefused("it has no id, or one that is too long")
    if not claim.signatures:
        raise WebhookRefused(f"it has no signature in the form of the scheme {scheme}, SHA-256")
    if claim.at is not None and abs(now - claim.at) > TOLERANCE:
        raise WebhookRefused(f"its time differs by more than {TOLERANCE}")
    return claim


def verify(scheme: str, claim: Claim, secrets: Iterable[str]) -> None:
    """Raises WebhookRefused unless one of the signatures was made with one of the secrets. Takes as long whichever of
    them is the right one."""
    found = False
    for secret in secrets:
        for key in _keys(scheme, secret):
            expected = hmac.digest(key, claim.signed, "sha256")
            for signature in claim.signatures:
                found |= hmac.compare_digest(expected, signature)
    if not found:
        raise WebhookRefused("no signature is right")


def secrets_of(credential: Credential) -> list[str]:
    """The secrets that a sender may sign with: several, while it changes from one to the other. Raises
    WebhookRefused for a credential that has none."""
    if credential.type != CREDENTIAL_TYPE:
        raise WebhookRefused(f"the credential {credential.name!r} is not of type {CREDENTIAL_TYPE}")
    data = credential.data or {}
    listed = data.get("secrets")
    found = [data.get("secret"), *(listed if isinstance(listed, list) else [listed])]
    secrets = [secret for secret in found if isinstance(secret, str) and secret.removeprefix(_BASE64)]
    if not secrets:
        raise WebhookRefused(f"the credential {credential.name!r} has no secret")
    return secrets[:MAX_SECRETS]


def fault_of(scheme: str, credential: Credential) -> str | None:
    """Why no webhook, or none that is signed with one of its secrets, can be right."""
    try:
        secrets = secrets_of(credential)
    except WebhookRefused as refused:
        return refused.why
    if all(any(_keys(scheme, secret)) for secret in secrets):
        return None
    return (
        f"a secret of the credential {credential.name!r} begins with {_BASE64}, and what follows is not base64: no "
        "signature by it is right"
    )


def doubt_of(scheme: str, credential: Credential) -> str | None:
    """What is unusual about secrets that can be right."""
    if scheme != "standard" or all(_decoded(secret) for secret in secrets_of(credential)):
        return None
    return (
        f"a secret of the credential {credential.name!r} is not base64, which senders of Standard Webhooks expect: its "
        "text is taken as the key"
    )


def event_of(source: str, claim: Claim, headers: Mapping[str, str], body: bytes, now: datetime) -> dict[str, Any]:
    """The event that the trigger's templates read. Raises InvalidRequest for too many headers."""
    kept = {name: value for name, value in headers.items() if not _LEFT_OUT.fullmatch(name)}
    if len(kept) > MAX_HEADERS or sum(len(name) + len(value) for name, value in kept.items()) > MAX_HEADER_BYTES:
        raise InvalidRequest(f"the headers are more than {MAX_HEADERS}, or have more than {MAX_HEADER_BYTES} bytes")
    at = (claim.at or now).astimezone(UTC)
    return {
        "id": claim.id,
        "source": source,
        "type": claim.type,
        "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "headers": kept,
        **event_data(body),
    }


# -- schemes


def _standard(headers: Mapping[str, str], body: bytes) -> Claim:
    """Standard Webhooks: the id, the time and the body are signed."""
    id, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    return Claim(
        id=id,
        type="webhook",
        at=_instant(at),
        signed=b".".join((id.encode("latin-1", "replace"), at.encode("latin-1", "replace"), body)),
        signatures=list(_versions(headers.get("webhook-signature", "").split(), "v1", ",", base64.b64decode)),
    )


def _github(headers: Mapping[str, str], body: bytes) -> Claim:
    """Only the body is signed."""
    signature = headers.get("x-hub-signature-256", "")
    return Claim(
        id=headers.get("x-github-delivery", ""),
        type=headers.get("x-github-event", "webhook"),
        at=None,
        signed=body,
        signatures=list(_versions([signature], "sha256", "=", bytes.fromhex)),
    )


def _stripe(headers: Mapping[str, str], body: bytes) -> Claim:
    """The time and the body are signed, and the body has the id."""
    parts = headers.get("stripe-signature", "").split(",")
    at = next((part.strip()[2:] for part in parts if part.strip().startswith("t=")), "")
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        data = None
    known = data if isinstance(data, dict) else {}
    id, type_ = known.get("id"), known.get("type")
    return Claim(
        id=id if isinstance(id, str) else "",
        type=type_ if isinstance(type_, str) else "webhook",
        at=_instant(at),
        signed=at.encode("latin-1", "replace") + b"." + body,
        signatures=list(_versions(parts, "v1", "=", bytes.fromhex)),
    )


def _versions(parts: Sequence[str], version: str, sign: str, decode: Any) -> Iterator[bytes]:
    """The signatures of one version; others are passed over."""
    for part in parts[:MAX_SIGNATURES]:
        name, _, text = part.strip().partition(sign)
        if name != version or not text.isascii():
            continue
        try:
            signature = decode(text)
        except (binascii.Error, ValueError):
            continue
        if len(signature) == hashlib.sha256().digest_size:
            yield signature


def _instant(text: str) -> datetime:
    """Raises WebhookRefused unless it is a number of seconds since 1970."""
    if not text.isascii() or not text.isdigit() or len(text) > 11:
        raise WebhookRefused("its time is not a number of seconds")
    return datetime.fromtimestamp(int(text), UTC)


def _keys(scheme: str, secret: str) -> Iterator[bytes]:
    """The key of a secret: Standard Webhooks writes it in base64, with or without a prefix."""
    if scheme == "standard":
        if key := _decoded(secret):
            yield key
        if secret.startswith(_BASE64):
            return
    yield secret.encode()


def _decoded(secret: str) -> bytes:
    """Empty if it is not base64."""
    try:
        return base64.b64decode(secret.removeprefix(_BASE64), validate=True)
    except (binascii.Error, ValueError):
        return b""
