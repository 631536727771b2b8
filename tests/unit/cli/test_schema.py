"""`noetls schema` and `noetls --version`: what can be asked without a stack."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from noetl_serverless.cli.main import app
from noetl_serverless.tools import registry

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"


def schema(*words: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["schema", *words])
    assert done.exit_code == 0, done.output
    document: dict[str, Any] = json.loads(done.output)
    return document


def test_the_schema_of_a_playbook_names_every_kind_there_is() -> None:
    document = schema()
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert document["$defs"]["Tool"]["properties"]["kind"]["enum"] == sorted(["tool", "workbook", *registry.kinds()])


@pytest.mark.parametrize("kind", registry.kinds())
def test_the_schema_of_a_tool_is_that_of_its_config(kind: str) -> None:
    assert schema(kind) == registry.schema(kind)


def test_the_schema_of_tests_takes_the_tests_of_the_examples() -> None:
    validator = Draft202012Validator(schema("test"))
    files = sorted((PYPROJECT.parent / "playbooks").glob("*.test.yaml"))
    assert len(files) >= 5
    for file in files:
        document = yaml.safe_load(file.read_text())
        assert [error.message for error in validator.iter_errors(document)] == [], file
        document["cases"][0]["tool"] = {}
        assert [error.validator for error in validator.iter_errors(document)] == ["additionalProperties"]


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    done = CliRunner().invoke(app, ["schema", "ftp"])
    assert done.exit_code == 2
    assert "unknown tool kind 'ftp'; the kinds are" in " ".join(done.stderr.split())
    assert "python, tool, wait, workbook" in done.stderr
    assert "did you mean 'http'?" in CliRunner().invoke(app, ["schema", "htp"]).stderr
    assert "has no fields of its own" in CliRunner().invoke(app, ["schema", "workbook"]).stderr


def test_the_version_is_that_of_the_package() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0
    assert done.output.strip() == f"noetls {tomllib.loads(PYPROJECT.read_text())['project']['version']}"
