"""The documents for people who change this: their links lead somewhere, and what they say to copy works."""

from __future__ import annotations

import importlib.util
import re
import sys
import textwrap
from pathlib import Path
from typing import cast

import pytest

from noetl_serverless.tools import registry
from noetl_serverless.tools.port import Tool, ToolCall, ToolContext

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    path
    for path in (ROOT / "README.md", *(ROOT / ".github").rglob("*.md"), *ROOT.glob("[!.]*/**/*.md"))
    if "node_modules" not in path.parts
]
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(?:#[^)]*)?\)")
NOWHERE = cast(ToolContext, None)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_to_a_file_leads_somewhere(document: Path) -> None:
    broken = [link for link in LINK.findall(document.read_text()) if not (document.parent / link).exists()]
    assert not broken, f"{document.relative_to(ROOT)} links to what is not there: {broken}"


@pytest.mark.parametrize("name", ["shared/GLOSSARY.md", "shared/ARCHITECTURE.md", ".github/CONTRIBUTING.md"])
def test_the_readme_leads_to(name: str) -> None:
    assert f"]({name})" in (ROOT / "README.md").read_text()


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


async def test_the_tool_of_the_recipe_works_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = (ROOT / ".github/CONTRIBUTING.md").read_text().split("### Add a tool kind")[1]
    source = tmp_path / "echo.py"
    source.write_text(textwrap.dedent(recipe.split("```python\n")[1].split("```")[0]))
    spec = importlib.util.spec_from_file_location("noetl_serverless.tools.echo", source)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    tool: Tool = module.Echo()
    monkeypatch.setitem(registry._loaded, "echo", tool)

    assert (await tool.run(ToolCall("echo", "t", {"value": [1]}), NOWHERE)).data == [1]
    assert registry.check("echo", {"value": "{{ x }}"}) == []
    (fault,) = registry.check("echo", {"valu": 1})
    assert (fault.pointer, fault.code) == ("/valu", "playbook.unknown_field")
    assert registry.schema("echo")["properties"]["value"]["description"]
