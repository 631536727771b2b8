"""The recipes of CONTRIBUTING, followed to the letter in a copy of the project."""

from __future__ import annotations

import difflib
import filecmp
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECIPES = (ROOT / ".github" / "CONTRIBUTING.md").read_text().split("## Recipes\n")[1]
# "1. In `path`, below `line`:" and a block; without a line to go below, the block is a new file
STEP = re.compile(
    r"In `(?P<path>[^`]+)`(?:, below `(?P<below>[^`]+)`)?[^\n]*:\n\n(?P<indent> *)```\w+\n(?P<text>.*?)```", re.S
)


class Copy:
    """The project's sources in a folder of their own; `site` is what an installer makes of its pyproject.toml."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site = folder / "site"
        shutil.copytree(ROOT / "shared", folder / "shared", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        shutil.copytree(ROOT / "functions", folder / "functions", ignore=shutil.ignore_patterns("__pycache__"))
        # what tests share, and the rules; no tests
        shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__", "test_*"))
        shutil.copy(ROOT / "pyproject.toml", folder)

    def follow(self, recipe: str) -> None:
        text = RECIPES.split(f"### {recipe}\n")[1].split("\n### ")[0].split("\n## ")[0]
        steps = list(STEP.finditer(text))
        assert steps, f"the recipe {recipe!r} has no steps"
        for step in steps:
            self._edit(self.folder / step["path"], step["below"], textwrap.dedent(step["text"]))

    def _edit(self, path: Path, below: str | None, text: str) -> None:
        if below is None:
            assert not path.exists(), f"{path} is there already"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            return
        lines = path.read_text().splitlines(keepends=True)
        (place,) = (number for number, line in enumerate(lines) if line.strip() == below)
        indent = re.match(r" *", lines[place + 1])
        assert indent is not None
        lines.insert(place + 1, textwrap.indent(text, indent[0]))
        path.write_text("".join(lines))

    def changed(self) -> Iterator[str]:
        """What is not as in the project, with the count of the lines that were added to what was there."""
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder)
            old = ROOT / name
            if path.is_dir() or name.parts[0] == "site" or "__pycache__" in name.parts or ".pytest_cache" in name.parts:
                continue
            if not old.exists():
                yield name.as_posix()
            elif not filecmp.cmp(path, old, shallow=False):
                diff = list(difflib.ndiff(old.read_text().splitlines(), path.read_text().splitlines()))
                assert not [line for line in diff if line.startswith("-")], f"{name}: a recipe takes nothing away"
                yield f"{name.as_posix()} +{len([line for line in diff if line.startswith('+')])}"

    def run(self, *words: str) -> str:
        """A Python of this environment, over the copy."""
        self._install()
        path = os.pathsep.join(map(str, (self.folder / "shared", self.site)))
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _install(self) -> None:
        project = tomllib.loads((self.folder / "pyproject.toml").read_text())["project"]
        info = self.site / f"noetl_serverless-{project['version']}.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
        groups = {"console_scripts": project["scripts"], **project["entry-points"]}
        lines = [
            line
            for group, names in groups.items()
            for line in (f"[{group}]", *(f"{name} = {target}" for name, target in names.items()))
        ]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


def test_a_tool_kind_is_a_file_a_test_and_a_line(copy: Copy) -> None:
    copy.follow("Add a tool kind")
    assert list(copy.changed()) == [
        "pyproject.toml +1",
        "shared/noetl_serverless/tools/echo.py",
        "tests/unit/tools/test_echo.py",
    ]
    assert "1 passed" in copy.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit/tools/test_echo.py")
    playbook = copy.folder / "site" / "echo.yaml"
    playbook.write_text(
        "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: echo, path: demo/echo}\n"
        "workflow:\n  - {step: say, tool: {kind: echo, value: '{{ workload.x }}'}}\nworkload: {x: 1}\n"
    )
    copy.run("-m", "tests.structure")
    # it ends with a status other than 0 where it knows no such kind
    copy.run("-c", "from noetl_serverless.cli.main import app; app()", "lint", str(playbook))


def test_an_endpoint_is_in_the_document_and_answers(copy: Copy) -> None:
    copy.follow("Add an endpoint")
    assert list(copy.changed()) == [
        "shared/noetl_serverless/control_plane/routes/__init__.py +2",
        "shared/noetl_serverless/control_plane/routes/release.py",
        "tests/integration/control_plane/test_release.py",
    ]
    test = "tests/integration/control_plane/test_release.py"
    assert "1 passed" in copy.run("-m", "pytest", "-q", "-p", "no:cacheprovider", test)
    assert "`GET /api/release`" in copy.run("-m", "noetl_serverless.control_plane.openapi")
    copy.run("-m", "tests.structure")


def test_a_migration_is_run_once(copy: Copy, postgres_url: str) -> None:
    copy.follow("Add a migration")
    (added,) = copy.changed()
    name = Path(added).stem
    code = f"from noetl_serverless.store.migrate import migrate; print(migrate({postgres_url!r})[-1:])"
    assert copy.run("-c", code).strip() == f"['{name}']"
    assert copy.run("-c", code).strip() == "[]"


def test_a_host_is_a_folder_and_a_case(copy: Copy) -> None:
    copy.follow("Add a host")
    assert list(copy.changed()) == [
        "shared/noetl_serverless/hosts/adapters.py +4",
        "shared/noetl_serverless/hosts/desk/__init__.py",
        "shared/noetl_serverless/hosts/desk/platform.py",
    ]
    code = (
        "from noetl_serverless.hosts.adapters import platform_of; "
        "print(platform_of({'NOETL_HOST': 'desk', 'NOETL_TIME_BUDGET': '7'}).host.remaining())"
    )
    assert copy.run("-c", code).strip() == "7.0"
    copy.run("-m", "tests.structure")
