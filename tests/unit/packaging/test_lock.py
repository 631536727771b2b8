from __future__ import annotations

import pytest

from noetl_serverless.packaging.lock import Lock, NotLocked, requirements

TEXT = """
anyio==4.9.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via starlette
cryptography==50.0.2 \\
    --hash=sha256:cc
    # via noetl-serverless (pyproject.toml)
idna==3.10 \\
    --hash=sha256:dd
    # via
    #   anyio
    #   yarl
pyjwt==2.10 \\
    --hash=sha256:ee
    # via noetl-serverless (pyproject.toml)
Starlette==0.47.0 ; python_version < '4' \\
    --hash=sha256:ff
    # via noetl-serverless (pyproject.toml)
"""


@pytest.fixture
def lock() -> Lock:
    return Lock(TEXT)


def test_what_is_needed_comes_along(lock: Lock) -> None:
    assert [one.name for one in lock.closure(["starlette"])] == ["anyio", "idna", "starlette"]


def test_implicit_dependencies_are_included(lock: Lock) -> None:
    assert [one.name for one in lock.closure(["PyJWT"])] == ["cryptography", "pyjwt"]


def test_what_is_not_locked_is_named(lock: Lock) -> None:
    with pytest.raises(NotLocked, match="flask"):
        lock.closure(["flask"])


def test_requirements_keep_their_hashes_and_markers(lock: Lock) -> None:
    assert requirements(lock.closure(["starlette"])) == (
        "anyio==4.9.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n"
        "idna==3.10 \\\n    --hash=sha256:dd\n"
        "Starlette==0.47.0 ; python_version < '4' \\\n    --hash=sha256:ff\n"
    )
