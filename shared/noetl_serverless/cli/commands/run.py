"""run: one execution, watched to its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ..client import Client
from ..code_error import code_error_lines
from ..dry_run import answers_of, dry_run_of, plan_to_run
from ..dry_run import lines as dry_run_lines
from ..ending import failed_counts, status_notes
from ..failure import EXIT_FAILED, WrongUse
from ..folding import Folded, Folding
from ..options import DataOption, JsonOption, PayloadOption, SetOption, StrictOption, as_declared, read_text, workload
from ..output import command, console, echo, fault_line, print_json, result, show
from ..playbooks import in_catalog, is_playbook_file
from ..progress import Progress, StepRow, line, lines
from ..prompts import Prompts
from ..script_files import with_script_files
from ..target import running_or_own_stack, running_stack
from ..unread import unknown_values
from .catalog import as_warning, register_text

AnswerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--answer",
        help="With --dry-run: what a tool answers, as step=JSON or step.task=JSON; @FILE reads a file. "
        'A list: one for each call, or for each item of a loop; {"error": {}}: it fails.',
    ),
]
AnswersOption = Annotated[
    Path | None, typer.Option("--answers", help="With --dry-run: a YAML file of answers by step.")
]


@command
def run(
    playbook: Annotated[
        str,
        typer.Argument(help="A playbook file, or the path of a registered playbook; with --again, an execution id."),
    ],
    data: DataOption = None,
    version: Annotated[int | None, typer.Option("--version", min=1, help="Version of a registered playbook.")] = None,
    assignments: SetOption = None,
    payload: PayloadOption = None,
    strict: StrictOption = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for the execution to end.")] = False,
    again: Annotated[
        bool,
        typer.Option(
            "--again", help="Start anew what this execution ran: the same version and input, changed by --set."
        ),
    ] = False,
    dry: Annotated[bool, typer.Option("--dry-run", help="Call no tool: show the paths that it can take.")] = False,
    answer: AnswerOption = None,
    answers: AnswersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a playbook and show its progress and its result. Exit status 1 if it fails.

    A file is registered first. Uses the stack that runs on the data directory; starts one for this run if
    none does.

    With --dry-run no tool is called, and a file needs no stack. Each tool without an answer is taken to succeed, with
    an unknown result; a condition that reads one is followed both ways. Exit status 1 if a path fails.

    With --again tools are called again, unlike with `noetls rerun`; `noetls restart` keeps what is done.
    """
    values = workload(payload, assignments)
    if again:
        if dry or version is not None:
            raise WrongUse(f"{'--dry-run' if dry else '--version'} does not work with --again")
        _run_again(playbook, data, values, no_wait=no_wait, as_json=as_json)
        return
    text = with_script_files(read_text(playbook), playbook) if is_playbook_file(playbook) else None
    if text is not None and version is not None:
        raise WrongUse("--version works only with registered playbooks, not with files")
    if not dry and (answer or answers):
        raise WrongUse("--answer and --answers work only with --dry-run")
    if dry:
        if no_wait:
            raise WrongUse("--no-wait does not work with --dry-run, which starts no execution")
        if text is None:
            with running_stack(data) as client, in_catalog(playbook):
                text = client.post("/api/catalog/resource", {"path": playbook, "version": version or "latest"})[
                    "content"
                ]
        _dry_run(playbook, text, values, (answers, answer or []), assignments, strict=strict, as_json=as_json)
        return
    with running_stack(data) if no_wait else running_or_own_stack(data) as client:
        path = playbook
        if text is not None:
            entry = register_text(client, playbook, text, strict=strict, quiet=as_json)
            path, version = entry["path"], entry["version"]
        if values and (assignments or not as_json):
            with in_catalog(playbook):
                entry = client.post("/api/catalog/resource", {"path": path, "version": version or "latest"})
            values = as_declared(values, assignments, entry["content"])
        if values and not as_json:
            for warning in unknown_values(values, entry["payload"] or {}, entry["content"]):
                echo(warning)
        with in_catalog(playbook):
            execution_id = client.execute(path, version, values)
        if no_wait:
            print_started(execution_id, as_json)
            return
        outcome = watch_to_end(client, execution_id, quiet=as_json)
    end_with(outcome, as_json=as_json)


def _run_again(execution_id: str, data: Path | None, values: dict[str, Any], *, no_wait: bool, as_json: bool) -> None:
    with running_stack(data) as client:
        if values and not as_json:
            for warning in _unused_again(client, execution_id, values):
                echo(warning)
        new = client.execute_again(execution_id, values)
        if no_wait:
            print_started(new, as_json)
            return
        outcome = watch_to_end(client, new, quiet=as_json)
    end_with(outcome, as_json=as_json)


def _unused_again(client: Client, execution_id: str, values: dict[str, Any]) -> Iterator[str]:
    """Warnings about values that the version of the playbook that runs again does not use."""
    ran = client.execution(execution_id)
    entry = client.post("/api/catalog/resource", {"path": ran["path"], "version": ran["version"]})
    return unknown_values(values, entry["payload"] or {}, entry["content"])


def watch_to_end(client: Client, execution_id: str, *, quiet: bool) -> dict[str, Any]:
    """As `watch`; whoever interrupts it reads how to cancel the execution."""
    try:
        return watch(client, execution_id, quiet=quiet)
    except KeyboardInterrupt:
        echo(f"stopped watching; to cancel the execution on a running stack, run: noetls cancel {execution_id}")
        raise


def end_with(outcome: dict[str, Any], *, as_json: bool) -> None:
    """Print what `watch` has returned; the exit status is 1 unless the execution has completed."""
    if as_json:
        print_json(outcome)
    else:
        show_outcome(outcome)
    if outcome["status"] != "COMPLETED":
        raise typer.Exit(EXIT_FAILED)


def _dry_run(
    name: str,
    text: str,
    values: dict[str, Any],
    answers: tuple[Path | None, list[str]],
    assignments: list[str] | None,
    *,
    strict: bool,
    as_json: bool,
) -> None:
    """`name` of the playbook in messages; `answers`: the file and what is given directly."""
    plan, warnings = plan_to_run(text, name, strict=strict)
    values = as_declared(values, assignments, text)
    done = dry_run_of(plan, values, answers_of(plan, *answers))
    document = done.document()
    if as_json:
        print_json(document)
    else:
        for warning in warnings:
            console(error=True).print(fault_line(as_warning(warning), name), markup=False)
        for remark in unknown_values(values, dict(plan.workload), text):
            echo(remark)
        for shown in dry_run_lines(document):
            echo(shown)
    if not done.ends_well:
        raise typer.Exit(EXIT_FAILED)


def watch(client: Client, execution_id: str, *, quiet: bool) -> dict[str, Any]:
    """Follow an execution to its end: {execution_id, status, result, duration_ms, error, warnings, quarantined,
    failed_items}; for the last see `Progress.failed_items`. If Python code has failed it, also {code_error}: see
    `Progress.code_error`."""
    progress = Progress()
    prompts = Prompts(execution_id)
    if quiet:
        prompts.begin()
        for page in client.follow(execution_id):
            progress.apply(page)
            prompts.show(client, page, progress)
    else:
        _watch_live(client, execution_id, progress, prompts)
    entry = client.execution(execution_id)
    code_error = progress.code_error(entry.get("error"))
    return {
        "execution_id": execution_id,
        "status": entry["status"],
        "result": value_of(entry.get("result")),
        "duration_ms": round(1000 * float(entry.get("duration_seconds") or 0)),
        "error": entry.get("error"),
        "warnings": entry.get("warnings") or [],
        "quarantined": bool(entry.get("quarantined")),
        "failed_items": progress.failed_items(),
        **({} if code_error is None else {"code_error": code_error}),
    }


def value_of(outcome: Any) -> Any:
    """The result of the last step without its envelope; a value in the result store stays a reference."""
    return outcome["data"] if isinstance(outcome, dict) and outcome.keys() == {"data"} else outcome


def show_outcome(outcome: dict[str, Any]) -> None:
    echo(f"{outcome['status']} in {outcome['duration_ms'] / 1000:.2f} s  (execution {outcome['execution_id']})")
    for text in status_notes(outcome):
        echo(text)
    for text in failed_counts(outcome["failed_items"]):
        echo(f"{text}; to see which, run: noetls show {outcome['execution_id']}")
    if outcome["status"] == "COMPLETED":
        if outcome["result"] is not None:
            show(result(outcome["result"]))
    elif outcome["quarantined"]:
        # the remarks show the reason
        return
    elif isinstance(outcome["error"], dict) and outcome["error"].get("message"):
        echo(f"error: {outcome['error']['message']}{_place(outcome['error'])}")
        for text in code_error_lines(outcome.get("code_error")):
            echo(f"  {text}")
        if isinstance(routing := outcome["error"].get("routing"), dict):
            echo(f"and then: {routing.get('message')}{_place(routing)}")
    elif outcome["error"] is not None:
        show(result(outcome["error"]))


def _place(error: dict[str, Any]) -> str:
    line = error.get("line") or error.get("at")
    names = [f"step '{error['step']}'"] if error.get("step") else []
    column = f", column {error['column']}" if error.get("column") and line == error.get("line") else ""
    names += [f"line {line}{column}"] if line else []
    return f" ({', '.join(names)})" if names else ""


def _watch_live(client: Client, execution_id: str, progress: Progress, prompts: Prompts) -> None:
    prompts.begin()
    if not console().is_terminal:
        turns: Folding[StepRow] = Folding()
        for page in client.follow(execution_id):
            for row in progress.apply(page):
                for shown in turns.add(row):
                    echo(lines(shown) if isinstance(shown, Folded) else line(shown))
            prompts.show(client, page, progress)
        for rest in turns.flush():
            echo(lines(rest) if isinstance(rest, Folded) else line(rest))
        return
    from rich.live import Live

    # the engine and this process use the same clock: a stack runs on this machine
    with Live(get_renderable=lambda: progress.steps(time.time()), console=console(), refresh_per_second=10) as live:
        for page in client.follow(execution_id):
            progress.apply(page)
            prompts.show(client, page, progress)
        live.update(progress.steps())
        live.refresh()


def print_started(execution_id: str, as_json: bool) -> None:
    if as_json:
        nothing: dict[str, Any] = {
            "result": None,
            "duration_ms": 0,
            "error": None,
            "warnings": [],
            "quarantined": False,
            "failed_items": [],
        }
        print_json({"execution_id": execution_id, "status": "RUNNING", **nothing})
    else:
        echo(f"started execution {execution_id}")
