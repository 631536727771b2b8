from __future__ import annotations

import stat
from pathlib import Path

import pytest

from noetl_serverless.cli.client import Client
from noetl_serverless.cli.contexts import Context, Contexts
from noetl_serverless.cli.failure import WrongUse
from noetl_serverless.cli.lambda_client import LambdaClient

CONTEXT = Context(
    "prod", "https://control.example/base", "s3cret", gateway_url="https://gateway.example", region="eu-west-1"
)


@pytest.fixture
def contexts(tmp_path: Path) -> Contexts:
    return Contexts(tmp_path / "contexts")


def test_what_was_kept_comes_back(contexts: Contexts) -> None:
    contexts.save(CONTEXT)
    assert contexts.load("prod") == CONTEXT
    assert contexts.names() == ["prod"]


def test_only_the_owner_may_read_it(contexts: Contexts) -> None:
    path = contexts.save(CONTEXT)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_token_is_not_shown(contexts: Contexts) -> None:
    assert "s3cret" not in str(CONTEXT.public())


def test_keeping_again_replaces(contexts: Contexts) -> None:
    contexts.save(CONTEXT)
    contexts.save(Context("prod", "https://other.example", "t"))
    assert contexts.load("prod").url == "https://other.example"


def test_an_unknown_context_is_reported_with_the_known_ones(contexts: Contexts) -> None:
    contexts.save(CONTEXT)
    with pytest.raises(WrongUse, match="known contexts: prod"):
        contexts.load("test")


@pytest.mark.parametrize("text", ["{", "[]", '{"nothing": 1}'])
def test_a_damaged_file_is_named(contexts: Contexts, text: str) -> None:
    path = contexts.save(CONTEXT)
    path.write_text(text)
    with pytest.raises(WrongUse, match=r"prod\.json is damaged"):
        contexts.load("prod")


@pytest.mark.parametrize("name", ["../prod", "", "a/b", "-x", "x" * 64])
def test_a_name_is_no_path(contexts: Contexts, name: str) -> None:
    with pytest.raises(WrongUse, match="a context's name"):
        contexts.load(name)


def test_removing_returns_whether_there_was_one(contexts: Contexts) -> None:
    contexts.save(CONTEXT)
    assert contexts.remove("prod")
    assert not contexts.remove("prod")


def test_the_client_goes_where_the_url_says() -> None:
    assert type(CONTEXT.client()) is Client
    client = Context("p", "lambda://noetl-control-plane:live", "t", region="eu-west-1").client()
    assert isinstance(client, LambdaClient)
