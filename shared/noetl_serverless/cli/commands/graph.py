"""graph: a drawing of a playbook's steps and arcs."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..failure import WrongUse
from ..options import read_text
from ..output import command
from ..playbooks import plan_of
from ..script_files import with_script_files


class Format(StrEnum):
    MERMAID = "mermaid"
    SVG = "svg"


FileArgument = Annotated[Path, typer.Argument(help="Playbook file; - is standard input.", show_default=False)]
FormatOption = Annotated[
    Format | None,
    typer.Option("--format", help="Format of the drawing; by default, svg if OUT ends in .svg, else mermaid."),
]
OutOption = Annotated[Path | None, typer.Option("-o", "--out", help="File to write; by default, standard output.")]


@command
def graph(file: FileArgument, form: FormatOption = None, out: OutOption = None) -> None:
    """Draw the steps and arcs of a playbook: as Mermaid text, for READMEs, or as SVG.

    A green node is where executions begin, a blue one with double sides is a loop. Conditions are on their arcs,
    shortened. Arcs that lead back are dashed, those that a failed step can take red, steps that no arc leads to grey.

    The exit status is 2 for a playbook with errors: noetls lint lists all of them.
    """
    from ...playbook.drawing.flowchart import flowchart

    chart = flowchart(plan_of(with_script_files(read_text(str(file)), str(file)), str(file), with_fields=True))
    if form is None:
        form = Format.SVG if out is not None and out.suffix == ".svg" else Format.MERMAID
    if form is Format.SVG:
        from ...playbook.drawing.svg import svg as draw
    else:
        from ...playbook.drawing.mermaid import mermaid as draw
    text = draw(chart)
    if out is None:
        sys.stdout.write(text)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WrongUse(f"{out}: {error.strerror}") from None
