"""Writes the tables of inputs and outputs into the README of each root module: `make infra-docs`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from infra.tools import hcl
from localstack.toolbox import ROOT

MODULES = sorted(path.parent for path in (ROOT / "infra").glob("*/versions.tf"))
BEGIN, END = "<!-- inputs and outputs: made by `make infra-docs` -->", "<!-- end of inputs and outputs -->"
_PLAIN = re.compile(r'^  description = "((?:[^"\\]|\\.)*)"$', re.M)
_HEREDOC = re.compile(r"^  description = <<-EOT\n(.*?)^  EOT$", re.S | re.M)
_TYPE = re.compile(r"^  type += (\w+(?:\(\w+\))?)", re.M)
_OBJECT = re.compile(r"^  type += (?:map\()?object\(\{\n(.*?)^  \}\)", re.S | re.M)
_FIELD = re.compile(r"^    (\w+) += (.+)$", re.M)


def tables(module: Path) -> str:
    text = hcl.files(module)
    lines = ["## Inputs", "", "| name | type | required | what it is |", "| --- | --- | --- | --- |"]
    for labels, body in sorted(hcl.blocks(text, "variable")):
        required = "no" if re.search(r"^  default +=", body, re.M) else "yes"
        lines.append(f"| `{labels[0]}` | {_type(body)} | {required} | {_description(body)} |")
    lines += ["", "## Outputs", "", "| name | what it is |", "| --- | --- |"]
    lines += [f"| `{labels[0]}` | {_description(body)} |" for labels, body in sorted(hcl.blocks(text, "output"))]
    return "\n".join(lines)


def _description(body: str) -> str:
    plain = _PLAIN.search(body)
    if plain:
        return plain.group(1).replace('\\"', '"').replace("|", "\\|")
    heredoc = _HEREDOC.search(body)
    return " ".join(heredoc.group(1).split()) if heredoc else ""


def _type(body: str) -> str:
    fields = _OBJECT.search(body)
    if fields is None:
        found = _TYPE.search(body)
        return found.group(1) if found else ""
    kind = "map of objects" if re.search(r"^  type += map\(", body, re.M) else "object"
    return f"{kind}: {', '.join(_fields(fields.group(1)))}"


def _fields(text: str) -> Iterator[str]:
    """`name = default` of an optional field, `name` of one that must be given."""
    for name, rest in _FIELD.findall(text):
        default = re.match(r"optional\((?:[\w]+|\w+\([\w]+\)), (.+)\)$", rest)
        if default:
            yield f"`{name} = {default.group(1)}`"
        else:
            yield f"`{name}`" if not rest.startswith("optional(") else f"`{name}`?"


def with_tables(module: Path) -> str:
    """The module's README with its tables. ValueError if the markers are missing."""
    readme = module / "README.md"
    head, found, rest = readme.read_text().partition(BEGIN)
    _, ended, tail = rest.partition(END)
    if not found or not ended:
        raise ValueError(f"{readme} lacks the lines {BEGIN!r} and {END!r}")
    return f"{head}{BEGIN}\n\n{tables(module)}\n\n{END}{tail}"


if __name__ == "__main__":
    for each in MODULES:
        (each / "README.md").write_text(with_tables(each))
