"""`noetls run PLAYBOOK --help`: what the playbook takes and returns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

from .options import read_text
from .output import command, console, echo
from .playbooks import in_catalog, is_playbook_file, plan_of
from .script_files import with_script_files
from .target import running_stack

if TYPE_CHECKING:
    from ..playbook.input_form import FormField

HELP = "--help"
MAX_DEFAULT = 60


class RunCommand(TyperCommand):
    """Beside a playbook, `--help` is about the playbook."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        others = [arg for arg in args if arg != HELP]
        if others and len(others) < len(args):
            probe = type(ctx)(self, info_name=ctx.info_name, parent=ctx.parent, resilient_parsing=True)
            super().parse_args(probe, others)
            given = probe.params
            if given.get("playbook"):
                show_inputs(given["playbook"], given.get("data"), given.get("version"))
                ctx.exit()
        return super().parse_args(ctx, args)


@command
def show_inputs(playbook: str, data: Any, version: int | None) -> None:
    if is_playbook_file(playbook):
        text = with_script_files(read_text(playbook), playbook)
    else:
        with running_stack(data) as client, in_catalog(playbook):
            entry = client.post("/api/catalog/resource", {"path": playbook, "version": version or "latest"})
        text = entry["content"]
    out = console()
    for shown in lines(text, playbook):
        if shown:
            out.print(shown, markup=False)
        else:
            echo("")


def lines(text: str, name: str) -> Iterator[str]:
    """`name` stands for the playbook in messages."""
    from ..playbook.input_form import input_form, result_form
    from ..playbook.load import playbook_data

    plan = plan_of(text, name)
    metadata = playbook_data(text)["metadata"]
    description = metadata.get("description")
    yield f"{plan.path}: {plan.name}"
    if isinstance(description, str):
        yield f"  {' '.join(description.split())}"
    yield ""
    fields = input_form(plan.workload, plan.input_schema)
    yield "Inputs, given with --set NAME=VALUE or --payload:" if fields else "It takes no inputs."
    yield from _listed(fields, "  ")
    if plan.result_schema is not None:
        result = result_form(plan.result_schema)
        yield ""
        yield f"Result: {_described(result)}"
        yield from _listed(result.children or [], "  ")
    yield ""
    yield "For the options of the command: noetls run --help"


def _listed(fields: list[FormField], indent: str) -> Iterator[str]:
    width = max((len(field.name) for field in fields), default=0)
    for field in fields:
        yield f"{indent}{field.name:<{width}}  {_described(field)}"
        yield from _listed(field.children or [], f"{indent}  ")


def _described(field: FormField) -> str:
    notes = [" or ".join(_text(option) for option in field.options) if field.options else field.kind]
    if field.required:
        notes.append("required")
    elif field.default is not None and not field.children:
        notes.append(f"default {_text(field.default)}")
    if field.secret:
        notes.append("secret")
    if field.credential_glob:
        notes.append(f"the name of a credential, {field.credential_glob}")
    about = f"  {' '.join(field.description.split())}" if field.description else ""
    return f"{', '.join(notes)}{about}"


def _text(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_DEFAULT else f"{text[:MAX_DEFAULT]}…"
