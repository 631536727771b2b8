"""URLs that a service account signs, checked with its public key."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from noetl_serverless.errors import AccessDenied, Unavailable
from noetl_serverless.hosts.gcp.api import Api
from noetl_serverless.hosts.gcp.default_credentials import user_gcs_results
from noetl_serverless.hosts.gcp.results import GcsResultStore
from noetl_serverless.hosts.gcp.signing import IamSigner

from .conftest import EMAIL, Google, error

KEY = rsa.generate_private_key(65537, 2048)


async def url_of(store: GcsResultStore) -> str:
    return await store.signed_url("1/a b/é.csv", 3600, content_type="text/csv", filename="é.csv")


def check(url: str, email: str) -> None:
    """As Cloud Storage does (V4 signing process); raises InvalidSignature."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    signature = bytes.fromhex(query.pop("X-Goog-Signature"))
    assert query["X-Goog-Credential"].startswith(f"{email}/")
    assert query["X-Goog-Expires"] == "3600"
    assert query["response-content-type"] == "text/csv"
    canonical = "&".join(f"{quote(name, safe='~')}={quote(query[name], safe='~')}" for name in sorted(query))
    request = f"GET\n{parts.path}\n{canonical}\nhost:{parts.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    scope = query["X-Goog-Credential"].partition("/")[2]
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"GOOG4-RSA-SHA256\n{query['X-Goog-Date']}\n{scope}\n{digest}"
    KEY.public_key().verify(signature, text.encode(), padding.PKCS1v15(), hashes.SHA256())


@pytest.fixture
def store(api: Api) -> GcsResultStore:
    async def email() -> str:
        return EMAIL

    return GcsResultStore(api, "gs://results/p", IamSigner(api, email))


async def test_iam_signs_for_an_account_without_a_key(
    google: Google, store: GcsResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def signed(service: str, method: str, path: str, body: Any) -> dict[str, str]:
        assert (service, method) == ("iamcredentials", "POST")
        assert path == f"/v1/projects/-/serviceAccounts/{EMAIL}:signBlob"
        message = base64.b64decode(body["payload"])
        return {"signedBlob": base64.b64encode(KEY.sign(message, padding.PKCS1v15(), hashes.SHA256())).decode()}

    monkeypatch.setattr(store._api, "json", signed)
    url = await url_of(store)
    assert url.startswith(f"{google.url}/results/p/1/a%20b/%C3%A9.csv?")
    check(url, EMAIL)


async def test_an_account_that_may_not_sign_learns_which_role_it_lacks(google: Google, store: GcsResultStore) -> None:
    google.answers = [error(403, "PERMISSION_DENIED", "Permission 'iam.serviceAccounts.signBlob' denied")]
    with pytest.raises(AccessDenied, match=r"roles/iam\.serviceAccountTokenCreator"):
        await url_of(store)


async def test_iam_may_be_away(google: Google, store: GcsResultStore) -> None:
    google.answers = [error(503, "UNAVAILABLE")]
    with pytest.raises(Unavailable):
        await url_of(store)


def _key_file(folder: Path) -> Path:
    private = KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    key = {
        "type": "service_account",
        "client_email": EMAIL,
        "private_key": private.decode(),
        "private_key_id": "1",
        "token_uri": "http://127.0.0.1:1/token",
    }
    path = folder / "key.json"
    path.write_text(json.dumps(key))
    return path


async def test_an_account_with_a_key_signs_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(_key_file(tmp_path)))
    store = user_gcs_results("gs://results/p", {})
    url = await url_of(store)
    assert url.startswith("https://storage.googleapis.com/results/p/1/a%20b/%C3%A9.csv?")
    check(url, EMAIL)
    # and nobody gives it a token
    with pytest.raises(Unavailable, match="token"):
        await store.get("k")


async def test_a_person_does_not_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "person.json"
    person = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
    path.write_text(json.dumps(person))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(AccessDenied, match="service account"):
        await url_of(user_gcs_results("gs://results/p", {}))


def test_who_has_no_credentials_learns_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(AccessDenied, match=r"none\.json"):
        user_gcs_results("gs://results/p", {})
