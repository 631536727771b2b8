from __future__ import annotations

import asyncio
import time

import pytest

from noetl_serverless.errors import Unavailable
from noetl_serverless.hosts.cloud.transport import ApiError
from noetl_serverless.hosts.gcp.metadata import RENEWAL_SECONDS, Metadata, claims_of
from noetl_serverless.hosts.local.ports import free_port

from .conftest import EMAIL, Google, id_token


async def test_a_token_is_asked_for_once_while_it_is_good(google: Google, metadata: Metadata) -> None:
    assert [await metadata.access_token() for _ in range(3)] == ["token-1"] * 3
    assert google.asked_metadata == ["/computeMetadata/v1/instance/service-accounts/default/token"]


async def test_a_token_near_its_end_is_replaced(google: Google, metadata: Metadata) -> None:
    google.lifetime = RENEWAL_SECONDS - 1
    assert [await metadata.access_token() for _ in range(2)] == ["token-1", "token-2"]


async def test_an_identity_is_for_one_audience(google: Google, metadata: Metadata) -> None:
    token = await metadata.id_token("https://one.example/a b")
    assert claims_of(token)["email"] == EMAIL
    await metadata.id_token("https://one.example/a b")
    await metadata.id_token("https://two.example")
    assert [path.partition("identity?")[2] for path in google.asked_metadata] == [
        "audience=https%3A%2F%2Fone.example%2Fa%20b&format=full",
        "audience=https%3A%2F%2Ftwo.example&format=full",
    ]


async def test_an_identity_near_its_end_is_replaced(google: Google, metadata: Metadata) -> None:
    google.lifetime = RENEWAL_SECONDS - 1
    await metadata.id_token("https://one.example")
    await metadata.id_token("https://one.example")
    assert len(google.asked_metadata) == 2


async def test_a_token_that_cannot_be_renewed_is_used_to_its_end(google: Google, metadata: Metadata) -> None:
    google.lifetime = RENEWAL_SECONDS - 1
    assert await metadata.access_token() == "token-1"
    google.broken = b"<html>"
    assert await metadata.access_token() == "token-1"
    metadata._clock = lambda: time.time() + RENEWAL_SECONDS
    with pytest.raises(ApiError, match="the answer is no token"):
        await metadata.access_token()


async def test_many_who_ask_at_once_cost_one_request(google: Google, metadata: Metadata) -> None:
    tokens = await asyncio.gather(*(metadata.access_token() for _ in range(50)))
    assert set(tokens) == {"token-1"}
    assert len(google.asked_metadata) == 1


@pytest.mark.parametrize("answer", [b"<html>", b"{}", b"[]", b'{"access_token": "t", "expires_in": "soon"}'])
async def test_an_answer_that_is_no_token_is_an_error(google: Google, metadata: Metadata, answer: bytes) -> None:
    google.broken = answer
    with pytest.raises(ApiError, match="the answer is no token"):
        await metadata.access_token()


async def test_without_a_metadata_server_there_is_no_identity() -> None:
    metadata = Metadata(f"127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable, match="metadata does not answer"):
        await metadata.access_token()
    await metadata.close()


@pytest.mark.parametrize("text", ["", "a.b", "a.!.c", "a.bnVsbA.c"])
def test_what_is_no_token_has_no_claims(text: str) -> None:
    with pytest.raises(ValueError, match="not a JSON Web Token"):
        claims_of(text)


def test_claims_are_read_without_their_signature() -> None:
    assert claims_of(id_token("https://service").rpartition(".")[0] + ".SIGNATURE_REMOVED")["aud"] == "https://service"
