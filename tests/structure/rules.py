"""The rules of this library, as rules.toml has them."""

from __future__ import annotations

import tomllib
from pathlib import Path

from .checks import Finding, banned_words, circles, fragments, modules_of

PACKAGE = Path(__file__).parents[2] / "shared" / "noetl_serverless"
RULES = Path(__file__).with_name("rules.toml")


def findings() -> list[Finding]:
    rules = tomllib.loads(RULES.read_text())
    modules = modules_of(PACKAGE)
    return [
        *circles(modules),
        *banned_words(modules, rules["words"]),
        *fragments(modules, rules["fragments"]),
    ]
