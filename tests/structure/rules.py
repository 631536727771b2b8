"""The rules of this library and of its tests, as rules.toml has them."""

from __future__ import annotations

import tomllib
from pathlib import Path

from .checks import (
    RULES,
    Finding,
    Module,
    TextFile,
    banned_attributes,
    banned_words,
    circles,
    dead_names,
    fragments,
    modules_of,
    positional_calls,
    text_files,
)

PROJECT = Path(__file__).parents[2]
PACKAGE = PROJECT / "shared" / "noetl_serverless"
FUNCTIONS = PROJECT / "functions"
TESTS = PROJECT / "tests"
MODELS = "shared/noetl_serverless/control_plane/models"


def entry_points() -> list[str]:
    """The classes that pyproject.toml names, which nothing imports."""
    groups = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["entry-points"]
    return [target.partition(":")[2] for names in groups.values() for target in names.values()]


def _others() -> dict[str, Module | TextFile]:
    """What is not the library: tests, entry points, tools for users, SQL and Terraform."""
    modules: list[dict[str, Module]] = [
        modules_of(folder) for folder in (TESTS, FUNCTIONS, PROJECT / "localstack", PROJECT / "infra")
    ]
    texts = [text_files(PACKAGE, PROJECT, ".sql"), text_files(PROJECT / "infra", PROJECT, ".tf", ".hcl")]
    others: dict[str, Module | TextFile] = {}
    for module in modules:
        others.update(module)
    for text in texts:
        others.update(text)
    return others


def findings() -> list[Finding]:
    rules = tomllib.loads((PROJECT / RULES).read_text())
    modules = modules_of(PACKAGE)
    return [
        *circles(modules),
        *banned_words(modules, rules["library_words"]),
        *banned_words({**modules, **_others()}, rules["words"], rules["exempt"]),
        *banned_attributes(modules, rules["attributes"], rules["attribute_exempt"]),
        *fragments(modules, rules["fragments"]),
        *positional_calls(modules),
        *dead_names([PACKAGE, FUNCTIONS], PROJECT, rules["reached"], MODELS, entry_points()),
    ]
