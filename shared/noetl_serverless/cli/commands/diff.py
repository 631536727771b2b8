"""diff: decide recorded executions again with another version of their playbook."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...plurals import counted
from ..client import Client
from ..failure import EXIT_FAILED, WrongUse
from ..instant import ago
from ..options import DataOption, JsonOption
from ..output import command, echo, print_json, show, table
from ..recordings import SUFFIX, fetch, is_capsule, recording_of
from ..target import running_stack

if TYPE_CHECKING:
    from ...capsule.recording import Recording
    from ...playbook.plan import Plan

PAGE_ROWS = 200

RecordedOption = Annotated[
    str | None, typer.Argument(metavar="[ID|FILE]", help=f"Execution id, or path of a capsule (*{SUFFIX}).")
]


@command
def diff(
    recorded: RecordedOption = None,
    data: DataOption = None,
    playbook: Annotated[
        str | None, typer.Option("--playbook", metavar="FILE", help="Compare with this playbook file.")
    ] = None,
    version: Annotated[
        int | None, typer.Option("--version", min=1, help="Compare with this version in the catalog.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="7d",
            help="Check all executions of --path that started within this time (s, m, h, d, w).",
        ),
    ] = None,
    path: Annotated[str | None, typer.Option("--path", help="Path of the playbook, for --since.")] = None,
    assume_ok: Annotated[
        bool,
        typer.Option("--assume-ok", help="Assume that calls without a recorded answer succeed and return no data."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Decide a recorded execution again with another version of its playbook, without running a tool.

    Shows the first divergence and the steps that are added, removed, rerouted or called with other parameters. Tool
    answers are taken from the recording, by step, run and loop item. Without --playbook and --version, the version that
    ran decides again, and nothing may differ. With --since and --path, checks all recent executions, as a gate for CI.
    Exit status 1 if anything differs.
    """
    if (recorded is None) == (since is None):
        raise WrongUse("give an execution, or --since and --path")
    if playbook is not None and version is not None:
        raise WrongUse("give --playbook or --version, not both")
    if since is not None:
        if path is None:
            raise WrongUse("--since requires --path")
        _exit_on_divergence(ago(since, "--since"), path, playbook, version, data, assume_ok, as_json)
        return
    if path is not None:
        raise WrongUse("--path requires --since")
    assert recorded is not None
    _one(recorded, playbook, version, data, assume_ok, as_json)


def _one(recorded: str, playbook: str | None, version: int | None, data: Any, assume: bool, as_json: bool) -> None:
    from ..differences import report
    from ..playbooks import plan_of_file, plan_of_version

    if is_capsule(recorded):
        if version is not None:
            raise WrongUse("--version does not work with a capsule; use --playbook")
        found = recording_of(recorded, None)
        plan = None if playbook is None else plan_of_file(playbook)
    else:
        plan = None if playbook is None else plan_of_file(playbook)
        with running_stack(data) as client:
            found = fetch(client, recorded, children=False)
            if version is not None:
                plan = plan_of_version(client, found.path, version)
    document = _differences(found, plan, assume)
    if as_json:
        print_json(document)
    else:
        show(report(document))
    if not document["empty"]:
        raise typer.Exit(EXIT_FAILED)


def _differences(recording: Recording, plan: Plan | None, assume: bool) -> dict[str, Any]:
    from ...inspection.diff import diff as compare
    from ...prices import budget_of
    from ..playbooks import recorded_plan

    recorded = recorded_plan(recording)
    compared = plan or recorded
    result = compare(
        recording.execution_id,
        recording.events,
        recorded,
        compared,
        recording.workload,
        assume=assume,
        budget=budget_of(compared.budget) if compared.budget is not None else None,
    )
    return result.document()


# -- many


def _exit_on_divergence(
    since: datetime, path: str, playbook: str | None, version: int | None, data: Any, assume: bool, as_json: bool
) -> None:
    from ..playbooks import plan_of_file, plan_of_version

    plan = None if playbook is None else plan_of_file(playbook)
    documents = []
    with running_stack(data) as client:
        if version is not None:
            plan = plan_of_version(client, path, version)
        for entry in _executions(client, path, since):
            document = _differences(fetch(client, entry["execution_id"], children=False), plan, assume)
            documents.append({**document, "version": entry["version"], "status": entry["status"]})
    differing = [document for document in documents if not document["empty"]]
    if as_json:
        summary = {"path": path, "since": since.isoformat(), "checked": len(documents), "differing": len(differing)}
        print_json({**summary, "executions": documents})
    else:
        _show_many(documents, differing)
    if differing:
        raise typer.Exit(EXIT_FAILED)


def _executions(client: Client, path: str, since: datetime) -> list[dict[str, Any]]:
    """The executions of `path` that began at `since` or later, newest first."""
    found: list[dict[str, Any]] = []
    before = None
    while True:
        page = client.get("/api/executions", path=path, page_size=PAGE_ROWS, before=before)
        recent = [entry for entry in page if datetime.fromisoformat(entry["start_time"]) >= since]
        found += [entry for entry in recent if entry["path"] == path]
        # a page may be shorter than requested: only an empty page is the last one
        if not page or len(recent) < len(page):
            return found
        before = page[-1]["execution_id"]


def _show_many(documents: list[dict[str, Any]], differing: list[dict[str, Any]]) -> None:
    rows = [
        (document["execution_id"], document["version"], document["status"], _verdict(document))
        for document in documents
    ]
    show(table(("execution_id", "version", "status", "verdict"), rows))
    verb = "differs" if len(differing) == 1 else "differ"
    echo(f"{counted(len(documents), 'execution')}, {len(differing):,} {verb}")


def _verdict(document: dict[str, Any]) -> str:
    if document["empty"]:
        return "same"
    parts = [
        f"{len(document[name])} {name}"
        for name in ("added", "removed", "rerouted", "reparameterised")
        if document[name]
    ]
    at = document["divergence"]
    where = f", first at event {at['seq']}" + (f" ({at['step']})" if at["step"] else "") if at else ""
    return (", ".join(parts) or "differs") + where
