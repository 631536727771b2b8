from __future__ import annotations

import pytest

from noetl_serverless.gateway.oidc import OidcSignIn
from noetl_serverless.gateway.sign_in import DevelopmentSignIn, choose
from noetl_serverless.settings import Settings


def test_by_default_there_is_none() -> None:
    assert choose(Settings()) is None


def test_the_development_sign_in_is_had_on_the_local_host() -> None:
    assert isinstance(choose(Settings(development_sign_in=True)), DevelopmentSignIn)


@pytest.mark.parametrize("host", ["aws", "gcp", ""])
def test_the_development_sign_in_is_refused_anywhere_else(host: str) -> None:
    with pytest.raises(ValueError, match="local host"):
        choose(Settings(host=host, development_sign_in=True))


def test_an_issuer_makes_a_provider() -> None:
    settings = Settings(host="aws", oidc_issuer="https://issuer.example/", oidc_audience="noetl")
    assert isinstance(choose(settings), OidcSignIn)


async def test_without_roles_one_is_an_editor() -> None:
    user = await DevelopmentSignIn(Settings(development_sign_in=True)).sign_in({"user": "ann"})
    assert user.roles == ("editor",)
