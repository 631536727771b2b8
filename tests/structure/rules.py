"""The rules of this library and of its tests, as rules.toml has them."""

from __future__ import annotations

import tomllib
from pathlib import Path

from .checks import Finding, banned_words, circles, dead_names, fragments, modules_of, positional_calls

PROJECT = Path(__file__).parents[2]
PACKAGE = PROJECT / "shared" / "noetl_serverless"
FUNCTIONS = PROJECT / "functions"
TESTS = PROJECT / "tests"
RULES = Path(__file__).with_name("rules.toml")


def findings() -> list[Finding]:
    rules = tomllib.loads(RULES.read_text())
    modules = modules_of(PACKAGE)
    return [
        *circles(modules),
        *banned_words(modules, rules["words"]),
        *banned_words(modules_of(TESTS), rules["words"], rules["exempt"]),
        *fragments(modules, rules["fragments"]),
        *positional_calls(modules),
        *dead_names([PACKAGE, FUNCTIONS], PROJECT, rules["reached"], "shared/noetl_serverless/control_plane/models"),
    ]
