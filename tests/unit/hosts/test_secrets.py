from __future__ import annotations

from pathlib import Path

import pytest

from noetl_serverless.control_plane.tokens import Verifier
from noetl_serverless.hosts.local.secrets import Secrets
from noetl_serverless.store.seal import Sealer


def test_they_are_made_once_and_only_the_owner_may_read_them(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    made = Secrets.load(path)
    assert Secrets.load(path) == made
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_two_stacks_share_one(tmp_path: Path) -> None:
    one, other = Secrets.load(tmp_path / "a.json"), Secrets.load(tmp_path / "b.json")
    assert not {getattr(one, name) for name in Secrets.__dataclass_fields__} & {
        getattr(other, name) for name in Secrets.__dataclass_fields__
    }


def test_the_control_plane_takes_them(tmp_path: Path) -> None:
    secrets = Secrets.load(tmp_path / "secrets.json")
    Sealer.of(secrets.encryption_keys)
    assert Verifier(secrets.token_key).caller(secrets.operator_token).role == "operator"


def test_a_damaged_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        Secrets.load(path)
    assert path.read_text() == "{"
