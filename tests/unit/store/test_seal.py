from __future__ import annotations

import base64
import os

import pytest

from noetl_serverless.store.credentials import _associated_data
from noetl_serverless.store.seal import BadKeys, Sealed, Sealer, UnknownKey

BOUND = ("credential", "warehouse", "postgres")


def key(name: str, raw: bytes | None = None) -> str:
    return f"{name}:{base64.b64encode(raw or os.urandom(32)).decode()}"


@pytest.fixture
def old() -> str:
    return key("k1")


@pytest.fixture
def sealer(old: str) -> Sealer:
    return Sealer.of(old)


def test_what_is_sealed_opens(sealer: Sealer) -> None:
    sealed = sealer.seal(b"secret", BOUND)
    assert b"secret" not in sealed.text
    assert sealer.open(sealed, BOUND) == b"secret"


def test_the_same_secret_never_looks_the_same(sealer: Sealer) -> None:
    assert sealer.seal(b"secret", BOUND).text != sealer.seal(b"secret", BOUND).text


@pytest.mark.parametrize("bound", [("credential", "other", "postgres"), ("credential", "warehousep", "ostgres"), ()])
def test_it_opens_only_for_what_it_is_bound_to(sealer: Sealer, bound: tuple[str, ...]) -> None:
    with pytest.raises(UnknownKey):
        sealer.open(sealer.seal(b"secret", BOUND), bound)


@pytest.mark.parametrize("place", [0, 12, -1])
def test_a_changed_byte_is_noticed(sealer: Sealer, place: int) -> None:
    sealed = sealer.seal(b"secret", BOUND)
    changed = bytearray(sealed.text)
    changed[place] ^= 1
    with pytest.raises(UnknownKey):
        sealer.open(Sealed(sealed.key_id, bytes(changed)), BOUND)


def test_a_text_too_short_to_be_sealed_is_refused(sealer: Sealer) -> None:
    with pytest.raises(UnknownKey):
        sealer.open(Sealed("k1", b"short"), BOUND)


def test_the_first_key_seals_and_all_open(old: str, sealer: Sealer) -> None:
    before = sealer.seal(b"secret", BOUND)
    rotated = Sealer.of(f"{key('k2')}, {old}")
    assert rotated.open(before, BOUND) == b"secret"
    assert rotated.seal(b"new", BOUND).key_id == "k2"


def test_resealing_lets_the_old_key_go(old: str, sealer: Sealer) -> None:
    new = key("k2")
    sealed = Sealer.of(f"{new},{old}").reseal(sealer.seal(b"secret", BOUND), BOUND)
    assert Sealer.of(new).open(sealed, BOUND) == b"secret"


def test_what_is_under_the_first_key_is_not_sealed_again(sealer: Sealer) -> None:
    sealed = sealer.seal(b"secret", BOUND)
    assert sealer.reseal(sealed, BOUND) is sealed


def test_an_unknown_key_is_named(sealer: Sealer) -> None:
    with pytest.raises(UnknownKey, match="'k1'"):
        Sealer.of(key("k2")).open(sealer.seal(b"secret", BOUND), BOUND)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("", "NOETL_ENCRYPTION_KEYS"),
        (" , ", "NOETL_ENCRYPTION_KEYS"),
        ("nocolon", "id:base64"),
        (":AAAA", "id:base64"),
        ("k:%%%", "not base64"),
        ("k:" + base64.b64encode(b"short").decode(), "5 bytes"),
        ("k:" + base64.b64encode(bytes(32)).decode(), "all zero"),
    ],
)
def test_without_a_good_key_there_is_no_sealer(keys: str, said: str) -> None:
    with pytest.raises(BadKeys, match=said):
        Sealer.of(keys)


def test_two_keys_of_one_name_are_refused(old: str) -> None:
    with pytest.raises(BadKeys, match="twice"):
        Sealer.of(f"{old},{old}")


def test_keys_do_not_show(old: str) -> None:
    secret = old.partition(":")[2]
    with pytest.raises(BadKeys) as caught:
        Sealer.of(f"k:{secret}x,")
    assert secret not in str(caught.value)
    assert secret not in repr(Sealer.of(old))


def test_a_credential_of_an_earlier_release_opens() -> None:
    # sealed with the bytes 1 to 32 as the key, for the name wh and the type postgres
    key = base64.b64encode(bytes(range(1, 33))).decode()
    text = base64.b64decode("UT7xAb0htME1w+OM3F++t+ZdH0xJaCmG5qYoWuH5uWszWd2BPWXHB8RGKcZ7/BOBNn8=")
    opened = Sealer.of(f"k:{key}").open(Sealed("k", text), _associated_data("wh", "postgres"))
    assert opened == b'{"password": "s3cret"}', "what is stored is bound to something else than it was"
