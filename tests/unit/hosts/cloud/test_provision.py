from __future__ import annotations

import time

import jwt
import pytest

from noetl_serverless.hosts.cloud.provision import DAY_SECONDS, ends_soon, provision, service_token

from .conftest import MemoryVault

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
def vault() -> MemoryVault:
    """As Terraform makes it: without values."""
    return MemoryVault(dict.fromkeys("abc"))


PLACES = {"token_key": "a", "encryption_keys": "b", "service_token/worker": "c"}


async def test_what_is_missing_is_made_once(vault: MemoryVault) -> None:
    assert sorted(await provision(vault, PLACES, 90, "aws")) == sorted(PLACES)
    before = dict(vault.values)
    assert await provision(vault, PLACES, 90, "aws") == []
    assert vault.values == before
    claims = jwt.decode(str(before["c"]), str(before["a"]), algorithms=["HS256"], issuer="noetl")
    assert (claims["role"], claims["sub"]) == ("worker", "worker@aws")
    assert claims["exp"] - claims["iat"] == 90 * DAY_SECONDS


async def test_a_token_near_its_end_is_replaced_and_nothing_else(vault: MemoryVault) -> None:
    await provision(vault, PLACES, 90, "aws")
    key = str(vault.values["a"])
    vault.values["c"] = token(0.2, key=key)
    assert await provision(vault, PLACES, 90, "aws") == ["service_token/worker"]
    assert not ends_soon(str(vault.values["c"]), key)
    assert vault.values["a"] == key


async def test_the_first_of_two_values_stays(vault: MemoryVault) -> None:
    class Slow(MemoryVault):
        """Another writes between the look and the write."""

        async def read(self, id: str) -> str | None:
            found = await super().read(id)
            if found is None and id == "a":
                self.values[id] = "k" * 32
            return found

    slow = Slow(dict.fromkeys("abc"))
    assert await provision(slow, PLACES, 90, "aws") == ["encryption_keys", "service_token/worker"]
    assert slow.values["a"] == "k" * 32
    assert not ends_soon(str(slow.values["c"]), "k" * 32)


def test_two_tokens_of_one_second_differ() -> None:
    assert service_token(KEY, "worker", 1, "aws") != service_token(KEY, "worker", 1, "aws")


async def test_what_nothing_can_be_made_for_is_reported() -> None:
    with pytest.raises(ValueError, match="cannot generate the secret 'odd'"):
        await provision(MemoryVault({"a": None}), {"odd": "a"}, 90, "aws")
