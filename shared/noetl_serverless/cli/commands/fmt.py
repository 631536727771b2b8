"""fmt: playbook files in the canonical layout."""

from __future__ import annotations

import os
import sys
import tempfile
from difflib import unified_diff
from pathlib import Path
from typing import Annotated

import typer

from ...plurals import counted
from ..failure import EXIT_FAILED, WrongUse
from ..output import command, console, echo
from ..playbooks import STANDARD_INPUT, FilesArgument, playbook_files

CheckOption = Annotated[bool, typer.Option("--check", help="Write nothing; exit with 1 if a file would change.")]
DiffOption = Annotated[bool, typer.Option("--diff", help="Write nothing; print what would change.")]


@command
def fmt(files: FilesArgument, check: CheckOption = False, diff: DiffOption = False) -> None:
    """Write playbook files in the canonical layout. No value changes, and all comments stay.

    Two spaces for each level; the keys of a step in the order step, desc, loop, input, tool, set, spec, next
    (playbooks/README.md has the others); texts of several lines as blocks; at most one blank line. Data of your own,
    such as workload and input, keeps the order of its keys.

    A file that is not valid YAML is not touched; the exit status is then 1. - reads standard input and writes standard
    output.
    """
    changed, failed, unchanged = 0, 0, 0
    for file in playbook_files(files):
        text = _read(file)
        try:
            laid_out = _laid_out(text)
        except ValueError as error:
            console(error=True).print(f"{_place(file, error)}: error: {error}", markup=False)
            failed += 1
            continue
        is_input = str(file) == STANDARD_INPUT
        if laid_out == text:
            unchanged += 1
        else:
            changed += 1
            if diff:
                _print_diff(file, text, laid_out)
            elif check and not is_input:
                echo(f"{file} is not formatted")
            elif not is_input:
                _replace(file, laid_out)
                echo(f"{file} formatted")
        if is_input and not check and not diff:
            sys.stdout.write(laid_out)
    if STANDARD_INPUT not in map(str, files) and not diff:
        left = f", {failed} left as {'it is' if failed == 1 else 'they are'}" if failed else ""
        echo(f"{counted(changed, 'file')} {'to format' if check else 'formatted'}, {unchanged} unchanged{left}")
    if failed or (check and changed):
        raise typer.Exit(EXIT_FAILED)


def _laid_out(text: str) -> str:
    from ...playbook.layout.canonical import canonical

    return canonical(text)


def _read(file: Path) -> str:
    """Its text with the line ends that it has."""
    try:
        content = sys.stdin.buffer.read() if str(file) == STANDARD_INPUT else file.read_bytes()
        return content.decode()
    except OSError as error:
        raise WrongUse(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise WrongUse(f"{file}: not UTF-8 text") from None


def _place(file: Path, error: ValueError) -> str:
    fault = getattr(error, "fault", None)
    line = [str(fault.line), str(fault.column)] if fault is not None and fault.line is not None else []
    return ":".join([str(file), *line])


def _replace(file: Path, text: str) -> None:
    """At once: a reader, or a crash, sees the whole old or the whole new text. A link stays one."""
    target = file.resolve()
    try:
        mode = target.stat().st_mode & 0o7777
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as out:
                out.write(text.encode())
            os.chmod(name, mode)
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise WrongUse(f"{file}: {error.strerror}") from None


def _print_diff(file: Path, text: str, laid_out: str) -> None:
    lines = unified_diff(text.splitlines(), laid_out.splitlines(), str(file), f"{file} (formatted)", lineterm="", n=2)
    for line in lines:
        echo(line)
