"""What is given as the id of an execution."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

from noetl_serverless.cli import target
from noetl_serverless.cli.client import Client
from noetl_serverless.cli.execution_id import checked, path_of
from noetl_serverless.cli.failure import WrongUse
from noetl_serverless.cli.main import app


def test_an_id_is_given_on_as_it_is() -> None:
    assert checked("385190116284064560") == "385190116284064560"
    assert path_of("7") == "/api/executions/7"


def test_a_path_is_no_id_and_the_way_to_its_executions_is_named() -> None:
    with pytest.raises(WrongUse) as raised:
        checked("nc/vs")
    assert raised.value.detail == (
        "'nc/vs' is no execution id; to see those of a playbook, run: noetls executions --playbook nc/vs"
    )


@pytest.mark.parametrize("text", ["", "12345678901234567890", "x" * 300, "a\nb"])
def test_what_can_be_no_path_either_gets_the_list_of_all(text: str) -> None:
    with pytest.raises(WrongUse, match=r"is no execution id; to see the latest, run: noetls executions$") as raised:
        path_of(text)
    assert len(raised.value.detail) < 300


COMMANDS = (
    ["show", "nc/vs"],
    ["events", "nc/vs"],
    ["explain", "nc/vs"],
    ["cancel", "nc/vs"],
    ["signal", "nc/vs", "paid"],
    ["approve", "nc/vs", "manager"],
    ["pause", "nc/vs"],
    ["resume", "nc/vs"],
    ["restart", "nc/vs"],
    ["run", "nc/vs", "--again"],
    ["digest", "nc/vs"],
    ["cost", "nc/vs"],
    ["replay", "nc/vs"],
    ["replay", "nc/vs", "--validate"],
    ["rebuild", "--execution", "nc/vs"],
    ["vars", "nc/vs"],
    ["export", "nc/vs"],
    ["quarantine", "show", "nc/vs"],
    ["executions", "--parent", "nc/vs"],
)


@pytest.fixture
def no_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment named `x` whose control plane must not be asked."""

    @contextlib.contextmanager
    def deployment(context: str, data: object) -> Iterator[Client]:
        yield Client("http://127.0.0.1:1", "token")

    def call(*_: object, **__: object) -> None:
        raise AssertionError("the control plane was asked")

    monkeypatch.setattr(target, "_deployment", deployment)
    monkeypatch.setattr(Client, "_call", call)


@pytest.mark.usefixtures("no_calls")
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_every_command_refuses_it_before_it_asks_the_control_plane(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["--context", "x", *arguments])
    assert result.exit_code == 2, result.exception
    assert "'nc/vs' is no execution id" in result.output
