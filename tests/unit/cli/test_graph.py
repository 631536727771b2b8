"""`noetls graph`: formats, files, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from noetl_serverless.cli.main import app

PLAYBOOKS = Path(__file__).parents[3] / "playbooks"


def graph(*words: str | Path, text: str | None = None) -> Result:
    return CliRunner().invoke(app, ["graph", *map(str, words)], input=text)


@pytest.mark.parametrize(
    "path",
    sorted(path for path in PLAYBOOKS.glob("*.yaml") if not path.name.endswith(".test.yaml")),
    ids=lambda path: path.stem,
)
def test_every_example_is_drawn_in_both_formats(path: Path) -> None:
    done = graph(path)
    assert (done.exit_code, done.output.splitlines()[0]) == (0, "flowchart TD")
    drawing = graph(path, "--format", "svg")
    assert (drawing.exit_code, ElementTree.fromstring(drawing.output).tag) == (0, "{http://www.w3.org/2000/svg}svg")


def test_the_name_of_the_file_chooses_the_format_unless_one_is_given(tmp_path: Path) -> None:
    for name, words, begin in (
        ("a.svg", [], "<svg"),
        ("a.mmd", [], "flowchart TD"),
        ("b.svg", ["--format", "mermaid"], "flowchart TD"),
    ):
        done = graph(PLAYBOOKS / "poll.yaml", "-o", tmp_path / name, *words)
        assert (done.exit_code, done.output) == (0, "")
        assert (tmp_path / name).read_text().startswith(begin), name


def test_the_page_shows_what_it_prints() -> None:
    page = (PLAYBOOKS / "README.md").read_text()
    assert page.partition("```mermaid\n")[2].partition("```")[0] == graph(PLAYBOOKS / "poll.yaml").output


def test_standard_input_is_read() -> None:
    assert graph("-", text=(PLAYBOOKS / "hello.yaml").read_text()).output == graph(PLAYBOOKS / "hello.yaml").output


def test_a_playbook_with_errors_is_refused_with_all_of_them(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(
        "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: a}\nworkflow:\n"
        "  - {step: a, tool: {kind: noop}, next: {arcs: [{step: x}, {step: y}]}}\n"
    )
    done = graph(file)
    assert (done.exit_code, done.stdout) == (2, "")
    shown = done.stderr.replace("\n", "")
    assert "a.yaml:5:56: there is no step 'x'" in shown and "there is no step 'y'" in shown


def test_a_place_that_cannot_be_written_is_wrong_use(tmp_path: Path) -> None:
    assert graph(PLAYBOOKS / "hello.yaml", "-o", tmp_path / "no" / "a.svg").exit_code == 2


def test_a_mistake_in_a_field_of_a_tool_is_refused_too() -> None:
    text = (PLAYBOOKS / "hello.yaml").read_text() + "  - {step: more, tool: {kind: http, ulr: x}}\n"
    done = graph("-", text=text)
    assert (done.exit_code, "unknown field 'ulr'" in done.stderr) == (2, True), done.output
