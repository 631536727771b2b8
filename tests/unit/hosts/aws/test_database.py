from __future__ import annotations

import pytest

from noetl_serverless.hosts.aws.account import Account
from noetl_serverless.hosts.aws.database import IamDatabaseUrl

from .conftest import ENVIRON


def test_a_role_of_iam_shows_a_signed_request() -> None:
    url = IamDatabaseUrl("postgresql://noetl@db.example:5432/engine?sslmode=verify-full", Account.of(ENVIRON))()
    assert url.startswith("postgresql://noetl:db.example%3A5432%2F%3FAction%3Dconnect%26DBUser%3Dnoetl%26")
    assert url.endswith("@db.example:5432/engine?sslmode=verify-full")


def test_a_role_of_iam_needs_a_user() -> None:
    with pytest.raises(ValueError, match="USER@HOST"):
        IamDatabaseUrl("postgresql://db.example/engine", Account.of(ENVIRON))
