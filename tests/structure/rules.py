"""The rules of this library, as rules.toml has them."""

from __future__ import annotations

import tomllib
from pathlib import Path

from .checks import RULES, Finding, banned_words, circles, dead_names, fragments, modules_of, positional_calls

PROJECT = Path(__file__).parents[2]
PACKAGE = PROJECT / "shared" / "noetl_serverless"
FUNCTIONS = PROJECT / "functions"
MODELS = "shared/noetl_serverless/control_plane/models"


def entry_points() -> list[str]:
    """The classes that pyproject.toml names, which nothing imports."""
    groups = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["entry-points"]
    return [target.partition(":")[2] for names in groups.values() for target in names.values()]


def findings() -> list[Finding]:
    rules = tomllib.loads((PROJECT / RULES).read_text())
    modules = modules_of(PACKAGE)
    return [
        *circles(modules),
        *banned_words(modules, rules["words"]),
        *fragments(modules, rules["fragments"]),
        *positional_calls(modules),
        *dead_names([PACKAGE, FUNCTIONS], PROJECT, rules["reached"], MODELS, entry_points()),
    ]
