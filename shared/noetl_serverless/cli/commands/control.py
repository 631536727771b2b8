"""pause, resume, signal, approve: control over a running execution."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from ..execution_id import path_of
from ..failure import EXIT_FAILED, WrongUse
from ..options import DataOption, JsonOption, value_or_file
from ..output import command, echo, print_json
from ..target import running_stack
from .executions import IdArgument

SignalArgument = Annotated[str, typer.Argument(metavar="SIGNAL", help="Name that the wait is for.")]
_NOT_YET = "nothing waits for '{}' yet"
KeyOption = Annotated[
    str | None,
    typer.Option("--key", metavar="KEY", help="Id of the signal: a second one with this id changes nothing."),
]


@command
def pause(
    execution_id: IdArgument,
    data: DataOption = None,
    reason: Annotated[str, typer.Option("--reason", help="Reason to record in the log.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Pause an execution and its sub-playbooks: what runs ends, nothing else begins, and its timers stand still."""
    answer = _post(data, execution_id, "pause", {"reason": reason})
    _print(answer, as_json, "paused" if answer["status"] == "paused" else "it was paused already")


@command
def resume(execution_id: IdArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Let a paused execution and its sub-playbooks go on."""
    answer = _post(data, execution_id, "resume", {})
    _print(answer, as_json, "it goes on" if answer["status"] == "resumed" else "it is not paused")


@command
def signal(
    execution_id: IdArgument,
    name: SignalArgument,
    data: DataOption = None,
    value: Annotated[
        str | None,
        typer.Option(
            "--value",
            metavar="VALUE",
            help="Result of the wait: JSON, or a text; @FILE reads a file, @- standard input.",
        ),
    ] = None,
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a signal to an execution. It ends a wait for it, or is kept until there is one."""
    given = None if value is None else value_or_file(value)
    answer = _post(data, execution_id, _signal_path(name), {"data": given}, key)
    _print_sent(answer, as_json, f"signal '{name}' has ended a wait")


@command
def approve(
    execution_id: IdArgument,
    name: SignalArgument,
    data: DataOption = None,
    reject: Annotated[bool, typer.Option("--reject", help="Refuse it: the wait fails with wait.rejected.")] = False,
    comment: Annotated[str, typer.Option("--comment", metavar="TEXT", help="Comment for the playbook.")] = "",
    key: KeyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Approve what an execution waits for, or reject it. Exit status 1 if no step of its playbook waits for this name:
    the decision is kept, and decides nothing."""
    decision = {"approved": not reject, **({"comment": comment} if comment else {})}
    answer = _post(data, execution_id, _signal_path(name), {"data": decision, "decision": True}, key)
    _print_sent(answer, as_json, f"'{name}' {'rejected' if reject else 'approved'}")
    if answer.get("advice"):
        raise typer.Exit(EXIT_FAILED)


def _signal_path(name: str) -> str:
    from ...playbook.keychain import SIGNAL_NAME

    if not SIGNAL_NAME.fullmatch(name):
        raise WrongUse(
            f"SIGNAL {name!r:.220}: the name of a signal has 1 to 200 characters, no '/' and no control characters"
        )
    return f"signals/{quote(name, safe='')}"


def _post(data: Any, execution_id: str, what: str, body: dict[str, Any], key: str | None = None) -> dict[str, Any]:
    with running_stack(data) as client:
        answer: dict[str, Any] = client.post(f"{path_of(execution_id)}/{what}", body, key)
        return answer


def _print(answer: dict[str, Any], as_json: bool, text: str) -> None:
    if as_json:
        print_json(answer)
    else:
        echo(f"execution {answer['execution_id']}: {text}")


def _print_sent(answer: dict[str, Any], as_json: bool, done: str) -> None:
    """`done`: what to say if a wait has taken it."""
    if answer["status"] != "accepted":
        done = "one with this id came before; nothing has changed"
    elif answer.get("kept"):
        others = ", ".join(f"'{name}'" for name in answer["waiting_for"])
        now = f"it waits for {others}" if others else "it waits for no signal now"
        advice = answer.get("advice")
        done = f"kept; {now}, and {advice}" if advice else f"kept: {_NOT_YET.format(answer['signal'])}; {now}"
    _print(answer, as_json, done)
