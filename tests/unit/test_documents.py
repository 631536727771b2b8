"""The documents for people who change this: their links lead somewhere, and what they say to copy works."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from graphql import build_schema, parse, validate

from noetl_serverless.cli.options import data_directory
from noetl_serverless.control_plane.openapi import document, lists, table
from noetl_serverless.hosts.local.layout import Layout

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / ".github").rglob("*.md"), *ROOT.glob("[!.]*/**/*.md"))
    # what tools and packages bring along is not ours
    if path.relative_to(ROOT).parts[0] not in ("build", "dist")
]
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(?:#[^)]*)?\)")

FILE = re.compile(
    r"`((?:functions|infra|localstack|playbooks|shared|tests)/[\w./-]+\.(?:json|md|py|sql|tf|toml|yaml))`"
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_to_a_file_leads_somewhere(document: Path) -> None:
    broken = [link for link in LINK.findall(document.read_text()) if not (document.parent / link).exists()]
    assert not broken, f"{document.relative_to(ROOT)} links to what is not there: {broken}"


ANCHOR = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)#([^)\s]+)\)")
# fences of code, whose comments are no headings
CODE = re.compile(r"^( *)(`{3,}|~{3,}).*?^\1\2", re.MULTILINE | re.DOTALL)


@cache
def anchors_of(document: Path) -> frozenset[str]:
    """Of its headings, as GitHub makes them, and those that it sets itself."""
    text = CODE.sub("", document.read_text())
    found: Counter[str] = Counter()
    anchors = set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))
    for heading in re.findall(r"^#{1,6} +(.*?)#* *$", text, re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
        anchors.add(f"{slug}-{found[slug]}" if slug in found else slug)
        found[slug] += 1
    return frozenset(anchors)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_to_a_heading_leads_somewhere(document: Path) -> None:
    broken = [
        f"{file}#{anchor}"
        for file, anchor in ANCHOR.findall(CODE.sub("", document.read_text()))
        if (not file or file.endswith(".md")) and anchor not in anchors_of(document.parent / file if file else document)
    ]
    assert not broken, f"{document.relative_to(ROOT)} links to headings that are not there: {broken}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_that_is_named_is_there(document: Path) -> None:
    text = document.read_text()
    # the steps of recipes name files to create
    missing = [name for name in FILE.findall(text) if not (ROOT / name).exists() and f"In `{name}`" not in text]
    assert not missing, f"{document.relative_to(ROOT)} names what is not there: {missing}"


@pytest.mark.parametrize("name", ["shared/GLOSSARY.md", "shared/ARCHITECTURE.md", ".github/CONTRIBUTING.md"])
def test_the_readme_leads_to(name: str) -> None:
    assert f"]({name})" in (ROOT / "README.md").read_text()


def test_the_readme_says_where_the_logs_of_a_stack_are() -> None:
    folder = data_directory(None)
    text = (ROOT / "README.md").read_text()
    assert f"the folder `{Layout(folder).logs.name}` of its data directory" in text
    assert f"/{folder.name}`" in text


def test_the_glossary_has_at_most_forty_terms() -> None:
    rows = [line for line in (ROOT / "shared/GLOSSARY.md").read_text().splitlines() if line.startswith("| ")]
    assert len(rows) - 1 <= 40, "a glossary of more terms is a dialect"


def test_the_architecture_names_modules_that_are_there() -> None:
    text = (ROOT / "shared/ARCHITECTURE.md").read_text()
    named = set(re.findall(r"`(tests/[\w/]+(?:\.py)?|[a-z_]+/[\w/]+\.(?:py|sql))", text))
    library = ROOT / "shared/noetl_serverless"
    assert named, "no module is named: has the notation changed?"
    missing = [name for name in named if not ((library / name).exists() or (ROOT / name).exists())]
    assert not missing, f"shared/ARCHITECTURE.md names what is not there: {missing}"


def test_the_architecture_names_methods_that_are_there() -> None:
    named = set(re.findall(r"`([A-Z]\w+\.\w+)`", (ROOT / "shared/ARCHITECTURE.md").read_text()))
    assert named, "no method is named: has the notation changed?"
    methods = {
        f"{node.name}.{member.name}"
        for path in (ROOT / "shared/noetl_serverless").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        for member in node.body
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert named <= methods, f"shared/ARCHITECTURE.md names what is not there: {named - methods}"


def test_the_operations_are_those_of_the_control_plane() -> None:
    page = (ROOT / "functions/README.md").read_text()
    assert "\n".join(table()) in page, "python -m noetl_serverless.control_plane.openapi prints them"


def test_the_lists_and_their_parameters_are_those_of_the_control_plane() -> None:
    page = (ROOT / "functions/README.md").read_text()
    assert "\n".join(lists()) in page, "python -m noetl_serverless.control_plane.openapi prints them"


def test_what_one_thing_is_called_in_each_interface_is_a_name_of_that_interface() -> None:
    section = (ROOT / "functions/README.md").read_text().split("## One thing, four names")[1].split("\n## ")[0]
    rows = [line.strip("| ").split("|") for line in section.splitlines() if line.startswith("| ")][1:]
    columns = [re.findall(r"`([^`]+)`", "".join(row[column] for row in rows)) for column in range(1, 5)]
    texts = [
        "".join((ROOT / "playbooks" / name).read_text() for name in ("hello.yaml", "REFERENCE.md")),
        " ".join(path.read_text() for path in (ROOT / "shared/noetl_serverless/cli").rglob("*.py")),
        json.dumps(document()),
        (ROOT / "shared/noetl_serverless/gateway/schema.graphql").read_text(),
    ]
    assert len(rows) >= 5 and all(columns)
    for names, text in zip(columns, texts, strict=True):
        assert [name for name in names if not re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)] == []


def test_the_query_of_the_page_is_one() -> None:
    (query,) = re.findall(r"^    (query .*)$", (ROOT / "functions/README.md").read_text(), re.M)
    schema = build_schema((ROOT / "shared/noetl_serverless/gateway/schema.graphql").read_text())
    assert validate(schema, parse(query)) == []
