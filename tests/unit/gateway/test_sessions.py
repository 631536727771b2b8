from __future__ import annotations

import pytest

from noetl_serverless.errors import Forbidden, Unauthenticated
from noetl_serverless.gateway.sessions import Sessions, User
from noetl_serverless.testing.bus import MemoryKeyValue

from .conftest import Clock

ANN = User("ann", "ann@example.org", "Ann", ("editor",))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(values: MemoryKeyValue, clock: Clock) -> Sessions:
    return Sessions(values, 3600, clock)


async def test_a_session_is_found_by_its_token(sessions: Sessions) -> None:
    token, session = await sessions.open(ANN)
    found = await sessions.find(token)
    assert found == session
    assert found.user == ANN


async def test_tokens_are_long_and_never_the_same(sessions: Sessions) -> None:
    tokens = {(await sessions.open(ANN))[0] for _ in range(10)}
    assert len(tokens) == 10
    assert min(map(len, tokens)) >= 43


@pytest.mark.parametrize("token", ["", "forged", "x" * 100_000, "a.b.c", "\x00"])
async def test_a_forged_token_is_refused(sessions: Sessions, token: str) -> None:
    await sessions.open(ANN)
    with pytest.raises(Unauthenticated):
        await sessions.find(token)


async def test_the_session_id_is_no_token(sessions: Sessions) -> None:
    _, session = await sessions.open(ANN)
    with pytest.raises(Unauthenticated):
        await sessions.find(session.session_id)


async def test_an_expired_session_is_refused_and_forgotten(
    sessions: Sessions, clock: Clock, values: MemoryKeyValue
) -> None:
    token, _ = await sessions.open(ANN, 60)
    clock.now += 59
    await sessions.find(token)
    clock.now += 1
    with pytest.raises(Unauthenticated, match="expired"):
        await sessions.find(token)
    assert await values.get(token) is None


async def test_no_session_lives_longer_than_sessions_may(sessions: Sessions, clock: Clock) -> None:
    _, session = await sessions.open(ANN, 1e9)
    assert session.expires_at == clock.now + 3600


async def test_a_closed_session_is_gone(sessions: Sessions) -> None:
    token, _ = await sessions.open(ANN)
    await sessions.close(token)
    with pytest.raises(Unauthenticated):
        await sessions.find(token)


@pytest.mark.parametrize(
    "value", [b"", b"nonsense", b"[]", b"{}", b'{"session_id": "a", "user_id": "ann", "roles": ["admin"]}']
)
async def test_a_damaged_value_is_no_session(sessions: Sessions, values: MemoryKeyValue, value: bytes) -> None:
    await values.put("token", value)
    with pytest.raises(Unauthenticated):
        await sessions.find("token")


@pytest.mark.parametrize(
    ("roles", "needed", "allowed"),
    [
        (("viewer",), "viewer", True),
        (("viewer",), "editor", False),
        (("editor",), "viewer", True),
        (("editor",), "admin", False),
        (("admin",), "editor", True),
        (("viewer", "admin"), "admin", True),
        (("root", "superuser"), "viewer", False),
        ((), "viewer", False),
    ],
)
async def test_a_role_includes_those_below_it(
    sessions: Sessions, roles: tuple[str, ...], needed: str, allowed: bool
) -> None:
    _, session = await sessions.open(User("ann", roles=roles))
    if allowed:
        session.require(needed)  # type: ignore[arg-type]
    else:
        with pytest.raises(Forbidden):
            session.require(needed)  # type: ignore[arg-type]
