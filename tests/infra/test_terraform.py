"""The configuration itself: its form, its validations, and how functions and what is brought along are wired."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from infra.tools import hcl
from localstack.terraform import Terraform
from localstack.toolbox import ROOT
from tests.infra.fake_provider.catalog import data_sources, resources

from noetl_serverless.hosts.assembly.worker import DirectRefused, is_direct
from noetl_serverless.hosts.table import load_pools
from noetl_serverless.settings import Settings

AWS = ROOT / "infra" / "aws"
MODULES = sorted(path for path in (ROOT / "infra" / "modules" / "aws").iterdir())
TESTS = sorted(path.name for path in (AWS / "tests").glob("*.tftest.hcl"))


def test_files_are_formatted(root_module: Terraform, infra: Path) -> None:
    done = root_module("fmt", "-check", "-recursive", "-diff", str(infra), check=False)
    assert done.status == 0, done.text


def test_configuration_is_valid(root_module: Terraform) -> None:
    root_module("validate", "-no-color")


@pytest.mark.parametrize("name", TESTS)
def test_terraform_test(root_module: Terraform, name: str) -> None:
    done = root_module("test", "-no-color", f"-filter=tests/{name}", check=False)
    assert done.status == 0, done.text
    assert "Success!" in done.out, done.text


def test_a_pool_that_runs_users_code_is_refused_in_the_same_words_as_at_start(root_module: Terraform) -> None:
    given = {
        "package": {"directory": "./tests/package"},
        "nats": {"existing": {"secret_arn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:nats-AbCdEf"}},
        "orchestrator": {"worker": "direct"},
    }
    variables = [word for name, value in given.items() for word in ("-var", f"{name}={json.dumps(value)}")]
    planned = root_module("plan", "-no-color", *variables, check=False)
    pools = load_pools(ROOT / "functions")
    with pytest.raises(DirectRefused) as started:
        is_direct(Settings(host="aws", pool="shared", pools=pools, orchestrator="direct"))
    assert planned.status != 0
    assert str(started.value) in " ".join(planned.text.replace("│", " ").split())


def test_each_validation_is_tried() -> None:
    tried: Counter[tuple[str, str]] = Counter()
    for name in TESTS:
        tried.update(hcl.refusals((AWS / "tests" / name).read_text()))
    written = {("", variable): count for variable, count in hcl.validations(AWS).items()}
    for module in MODULES:
        written |= {(module.name, variable): count for variable, count in hcl.validations(module).items()}
    assert dict(tried) == written


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.name)
def test_modules_have_the_usual_files(module: Path) -> None:
    assert {path.name for path in module.glob("*.tf")} == {"main.tf", "outputs.tf", "variables.tf", "versions.tf"}


@pytest.mark.parametrize("folder", [AWS, *MODULES], ids=lambda path: path.name)
def test_everything_is_described(folder: Path) -> None:
    text = hcl.files(folder)
    for kind in ("variable", "output"):
        bare = [labels[0] for labels, body in hcl.blocks(text, kind) if "description" not in body]
        assert bare == []


def test_the_fake_provider_knows_every_type_and_no_other() -> None:
    folders = [AWS, *MODULES]
    assert set(resources("aws")) == {name for folder in folders for name in hcl.types(folder, "resource")}
    assert set(data_sources("aws")) == {name for folder in folders for name in hcl.types(folder, "data")}
