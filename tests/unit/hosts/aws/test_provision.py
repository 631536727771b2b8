from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from noetl_serverless.hosts.aws.api import Api
from noetl_serverless.hosts.aws.provision import DAY_SECONDS, ends_soon, provision, service_token

KEY = "k" * 32


def token(left: float, life: float = 100 * DAY_SECONDS, key: str = KEY) -> str:
    """One of whose life that part is left."""
    now = time.time()
    return jwt.encode({"iat": now - life * (1 - left), "exp": now + life * left}, key, algorithm="HS256")


@pytest.mark.parametrize(("left", "soon"), [(0.9, False), (0.26, False), (0.24, True), (0.03, True), (-0.1, True)])
def test_a_token_is_renewed_in_the_last_quarter_of_its_life(left: float, soon: bool) -> None:
    assert ends_soon(token(left), KEY) is soon


@pytest.mark.parametrize(
    "given", ["", "no token", token(0.9, key="another key, of thirty-two bytes"), jwt.encode({}, KEY)]
)
def test_what_is_no_token_of_this_key_is_renewed(given: str) -> None:
    assert ends_soon(given, KEY)


@pytest.fixture
def places(client: Callable[[str], Any]) -> dict[str, str]:
    """Secrets without a value, as Terraform makes them."""
    names = {"token_key": "a", "encryption_keys": "b", "service_token/worker": "c"}
    return {name: client("secretsmanager").create_secret(Name=of)["ARN"] for name, of in names.items()}


@pytest.fixture
def read(client: Callable[[str], Any], places: dict[str, str]) -> Callable[[str], str]:
    return lambda name: str(client("secretsmanager").get_secret_value(SecretId=places[name])["SecretString"])


async def test_what_is_missing_is_made_once(api: Api, places: dict[str, str], read: Callable[[str], str]) -> None:
    assert sorted(await provision(api, places, 90)) == sorted(places)
    before = {name: read(name) for name in places}
    assert await provision(api, places, 90) == []
    assert {name: read(name) for name in places} == before
    claims = jwt.decode(before["service_token/worker"], before["token_key"], algorithms=["HS256"], issuer="noetl")
    assert (claims["role"], claims["exp"] - claims["iat"]) == ("worker", 90 * DAY_SECONDS)


async def test_a_token_near_its_end_is_replaced_and_nothing_else(
    api: Api, places: dict[str, str], read: Callable[[str], str], client: Callable[[str], Any]
) -> None:
    await provision(api, places, 90)
    key, old = read("token_key"), token(0.2, key=read("token_key"))
    client("secretsmanager").put_secret_value(SecretId=places["service_token/worker"], SecretString=old)
    assert await provision(api, places, 90) == ["service_token/worker"]
    assert not ends_soon(read("service_token/worker"), key)
    assert read("token_key") == key


def test_two_tokens_of_one_second_differ() -> None:
    assert service_token(KEY, "worker", 1) != service_token(KEY, "worker", 1)


async def test_what_nothing_can_be_made_for_is_reported(api: Api, client: Callable[[str], Any]) -> None:
    arn = client("secretsmanager").create_secret(Name="odd")["ARN"]
    with pytest.raises(ValueError, match="cannot generate the secret 'odd'"):
        await provision(api, {"odd": arn}, 90)
