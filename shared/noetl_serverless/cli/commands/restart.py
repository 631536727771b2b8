"""restart: go on with an execution that has ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from ...plurals import counted
from ..client import Client
from ..failure import WrongUse
from ..options import DataOption, JsonOption, PayloadOption, SetOption, workload
from ..output import command, echo, print_json
from ..target import running_stack
from ..unread import unused
from .executions import IdArgument
from .run import end_with, print_started, watch_to_end

# how many steps one line names
MAX_NAMED = 20
# of the versions: the newest
LATEST = "latest"
# of the payload: values for ctx
CTX = "ctx"


@command
def restart(
    execution_id: IdArgument,
    data: DataOption = None,
    step: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STEP",
            help="Step to restart from; by default the step that failed, or the steps that were under way.",
        ),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(
            "--version", metavar="N", help="Version of the playbook to go on with, or `latest`; by default as before."
        ),
    ] = None,
    assignments: SetOption = None,
    payload: PayloadOption = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for the execution to end.")] = False,
    dry: Annotated[bool, typer.Option("--dry-run", help="Show what would run again, and start nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Go on with an execution that failed or was cancelled, from the step that failed. Exit status 1 if it fails again.

    A new execution begins, in which the steps that are done stay done, with their results. It runs the same version
    of the playbook; after mending the playbook and registering it, give --version latest. An execution that completed
    can be restarted from any of its steps with --from.

    What --payload and --set give is merged into the workload; values below `ctx` are set in ctx.
    """
    request: dict[str, Any] = {"payload": workload(payload, assignments), "dry_run": dry}
    if step is not None:
        request["from"] = step
    if version is not None:
        request["version"] = _version(version)
    with running_stack(data) as client:
        found = client.restart(execution_id, request)
        if request["payload"]:
            found["warnings"] += _unused(client, found, request["payload"])
        if dry and as_json:
            print_json(found)
            return
        if request.get("version") == LATEST:
            found["warnings"] += _unchanged(client, found)
        if not as_json:
            for text in _lines(found, dry=dry):
                echo(text)
        if dry:
            return
        if no_wait:
            print_started(found["execution_id"], as_json)
            return
        outcome = watch_to_end(client, found["execution_id"], quiet=as_json)
    if as_json:
        outcome["restart"] = {name: found[name] for name in found.keys() - {"execution_id", "commands_generated"}}
    end_with(outcome, as_json=as_json)


def _unchanged(client: Client, found: Mapping[str, Any]) -> list[str]:
    """About a newest version that is no other than before."""
    before = client.execution(found["restarted_from"])
    if before["version"] != found["version"]:
        return []
    which = "failed" if before["status"] == "FAILED" else "ran"
    return [f"version {found['version']} is the newest, and the one that {which}"]


def _unused(client: Client, found: Mapping[str, Any], values: Mapping[str, Any]) -> list[str]:
    """About values that the version of the playbook that goes on does not use."""
    path = client.execution(found["restarted_from"])["path"]
    entry = client.post("/api/catalog/resource", {"path": path, "version": found["version"]})
    given = {name: value for name, value in values.items() if name != CTX}
    return [message for _, message in unused(given, entry["payload"] or {}, entry["content"])]


def _version(text: str) -> int | str:
    if text == LATEST:
        return text
    if not text.isdecimal() or int(text) < 1:
        raise WrongUse(f"--version {text}: expected a number from 1, or `latest`")
    return int(text)


def _lines(found: dict[str, Any], *, dry: bool) -> list[str]:
    would = "would restart" if dry else "restarts"
    lines = [f"{would} from {_named(found['from'])}, in version {found['version']}"]
    others = {*found["skipped"], *found["failed"]}
    if done := [name for name in found["reused"] if name not in others]:
        lines.append(f"stays done: {_named(done)}")
    if found["failed"]:
        lines.append(f"stays failed, and handled: {_named(found['failed'])}")
    if found["skipped"]:
        lines.append(f"stays skipped: {_named(found['skipped'])}")
    if after := [name for name in found["again"] if name not in found["from"]]:
        lines.append(f"runs again: {_named(after)}")
    for step, count in found["items_reused"].items():
        lines.append(f"stays done of {step}: {counted(count, 'item')}")
    return [*lines, *(f"warning: {warning}" for warning in found["warnings"])]


def _named(steps: list[str]) -> str:
    more = len(steps) - MAX_NAMED
    return ", ".join(steps[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
