"""The recipes of CONTRIBUTING and HOSTS, followed to the letter in a copy of the project."""

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

ROOT = Path(__file__).parents[2]
RECIPES = {
    title: text
    for name in (".github/CONTRIBUTING.md", "shared/HOSTS.md")
    for title, text in re.findall(r"^##+ (Add [^\n]+)\n(.*?)(?=^##|\Z)", (ROOT / name).read_text(), re.M | re.S)
    if "```" in text
}
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
        steps = list(STEP.finditer(RECIPES[recipe]))
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
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def environment(self) -> dict[str, str]:
        """Of a Python that finds the copy in place of the project."""
        self._install()
        path = os.pathsep.join(map(str, (self.folder / "shared", self.site)))
        return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}

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
