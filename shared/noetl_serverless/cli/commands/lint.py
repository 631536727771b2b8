"""lint: what is wrong with playbook files, and what is probably not intended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...plurals import counted
from ..failure import EXIT_FAILED, WrongUse
from ..options import JsonOption, read_text
from ..output import command, echo, print_json
from ..playbooks import STANDARD_INPUT, FilesArgument, playbook_files
from ..script_files import with_found_scripts
from ..unfit_calls import unfit_calls

if TYPE_CHECKING:
    from ...errors import Fault
    from ...playbook.load import LoadedPlaybook

StrictOption = Annotated[bool, typer.Option("--strict", help="Report warnings as errors.")]


@command
def lint(files: FilesArgument, strict: StrictOption = False, as_json: JsonOption = False) -> None:
    """Check files of playbooks, tools and other documents of the catalog without a stack: everything that registration
    would refuse, and warnings. A tool that a playbook calls is looked for in files beside it; one that only the catalog
    has is checked when the playbook is registered.

    Each line is FILE:LINE:COLUMN: SEVERITY: MESSAGE [CODE]. Warnings are about what is allowed but probably not
    intended: older forms of the language, steps that no arc leads to, arcs that are never taken, names that nothing
    defines, keys that nothing reads, secrets in the text, templates where none is rendered, values such as `no` and
    `012` that readers of YAML take for different ones, pools of workers that functions.yaml does not have. While there
    are errors, of the warnings only those about older forms are listed.

    The exit status is 1 if there is an error, with --strict also if there is a warning, and 2 if a file cannot be read.
    With --json, the output is an array of {file, line, column, pointer, code, severity, message}.
    """
    found: list[dict[str, Any]] = []
    for file in playbook_files(files):
        try:
            text = read_text(str(file))
        except WrongUse as unreadable:
            if len(files) == 1 and file == files[0]:
                raise
            # an unreadable file does not hide the mistakes in the others
            reason = unreadable.detail.removeprefix(f"{file}: ")
            found.append(_entry(file, {"severity": "error", "code": "cli.usage", "message": reason}))
            continue
        found += [_entry(file, finding) for finding in _findings(text, str(file))]
    if strict:
        found = [{**finding, "severity": "error"} for finding in found]
    numbers = Counter(finding["severity"] for finding in found)
    if as_json:
        print_json(found)
    else:
        for finding in found:
            echo(_line(finding))
        echo(_summary(numbers))
    if numbers["error"]:
        raise typer.Exit(EXIT_FAILED)


def _findings(text: str, file: str) -> list[dict[str, Any]]:
    from ...control_plane.registration import as_text
    from ...playbook.lint import findings
    from ...playbook.scripts import SCRIPT_MISSING
    from ...playbook.tool_calls import TOOL_MISSING
    from ...tools.plans import lint as check

    text, not_sent = with_found_scripts(as_text(text), file)
    # why a file is missing, is said here; a script at a URL, and a tool of the catalog that is no file beside the
    # playbook, are read when it is registered
    found = [
        *findings(not_sent, "error"),
        *(one for one in check(text, _pool_faults) if one.code not in (SCRIPT_MISSING, TOOL_MISSING)),
    ]
    if not any(one.severity == "error" for one in found):
        found += findings(unfit_calls(text, file), "warning")
    found.sort(key=lambda one: (one.severity != "error", one.line or 0, one.column or 0))
    return [finding.to_dict() for finding in found]


def _pool_faults(loaded: LoadedPlaybook) -> Sequence[Fault]:
    """What the pools of steps say against functions.yaml, which a deployment may have more than. A laptop has other
    pools than a cloud: what only one of them refuses says so."""
    from ...hosts.table import deployable_pools, functions_folder, load_pools
    from ...playbook.pools import Pools

    try:
        folder = functions_folder()
    except FileNotFoundError:
        # only the library is installed
        return ()
    found: dict[tuple[str, str], dict[str, Fault]] = {}
    for where, host in (("on a laptop", "local"), ("in a cloud", None)):
        pools = Pools(deployable_pools(folder, host), load_pools(folder), is_local=host == "local")
        for fault in pools.check(loaded.plan, loaded.document).sorted():
            found.setdefault((fault.pointer, fault.code), {})[where] = fault
    return [_joined(by_place) for by_place in found.values()]


def _joined(by_place: Mapping[str, Fault]) -> Fault:
    first = next(iter(by_place.values()))
    messages = {fault.message for fault in by_place.values()}
    if len(by_place) > 1 and len(messages) == 1:
        return first
    return replace(first, message="; ".join(f"{where}, {fault.message}" for where, fault in by_place.items()))


def _entry(file: Path, finding: dict[str, Any]) -> dict[str, Any]:
    """All keys, in a fixed order; null where there is no value."""
    name = "<standard input>" if str(file) == STANDARD_INPUT else str(file)
    return {"file": name, **{key: finding.get(key) for key in _KEYS}}


_KEYS = ("line", "column", "pointer", "code", "severity", "message")


def _line(finding: dict[str, Any]) -> str:
    place = ":".join(str(part) for part in (finding["file"], finding["line"], finding["column"]) if part)
    return f"{place}: {finding['severity']}: {finding['message']} [{finding['code']}]"


def _summary(numbers: Counter[str]) -> str:
    if not numbers:
        return "no errors"
    errors = counted(numbers["error"], "error") if numbers["error"] else "no errors"
    return f"{errors}, {counted(numbers['warning'], 'warning')}" if numbers["warning"] else errors
