"""The configuration itself: its form, its validations, and how functions and what is brought along are wired."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from infra.tools import hcl
from localstack.toolbox import ROOT
from tests.infra.conftest import Configuration
from tests.infra.fake_provider.catalog import data_sources, resources

from noetl_serverless.hosts.assembly.worker import DirectRefused, is_direct
from noetl_serverless.hosts.table import load_pools
from noetl_serverless.settings import Settings

INFRA = ROOT / "infra"
CLOUDS = ("aws", "gcp")
# what `terraform test` runs in
TESTED = (*CLOUDS, "modules/table")
MODULES = {cloud: sorted((INFRA / "modules" / cloud).iterdir()) for cloud in CLOUDS}
FOLDERS = [*(INFRA / root for root in TESTED), *(module for cloud in CLOUDS for module in MODULES[cloud])]
TESTS = [(root, path.name) for root in TESTED for path in sorted((INFRA / root / "tests").glob("*.tftest.hcl"))]


def _name(folder: Path) -> str:
    return folder.relative_to(INFRA).as_posix()


def test_files_are_formatted(infra: Path, configuration: Configuration) -> None:
    done = configuration("aws")("fmt", "-check", "-recursive", "-diff", str(infra), check=False)
    assert done.status == 0, done.text


@pytest.mark.parametrize("root", TESTED)
def test_configuration_is_valid(configuration: Configuration, root: str) -> None:
    configuration(root)("validate", "-no-color")


@pytest.mark.parametrize(("root", "name"), TESTS)
def test_terraform_test(configuration: Configuration, root: str, name: str) -> None:
    done = configuration(root)("test", "-no-color", f"-filter=tests/{name}", check=False)
    assert done.status == 0, done.text
    assert "Success!" in done.out, done.text


def test_a_pool_that_runs_users_code_is_refused_in_the_same_words_as_at_start(configuration: Configuration) -> None:
    given = {
        "package": {"directory": "./tests/package"},
        "nats": {"existing": {"secret_arn": "arn:aws:secretsmanager:eu-central-1:123456789012:secret:nats-AbCdEf"}},
        "orchestrator": {"worker": "direct"},
    }
    variables = [word for name, value in given.items() for word in ("-var", f"{name}={json.dumps(value)}")]
    planned = configuration("aws")("plan", "-no-color", *variables, check=False)
    pools = load_pools(ROOT / "functions")
    with pytest.raises(DirectRefused) as started:
        is_direct(Settings(host="aws", pool="shared", pools=pools, orchestrator="direct"))
    assert planned.status != 0
    assert str(started.value) in " ".join(planned.text.replace("│", " ").split())


@pytest.mark.parametrize("root", TESTED)
def test_each_validation_is_tried(root: str) -> None:
    tried: Counter[tuple[str, str]] = Counter()
    for path in (INFRA / root / "tests").glob("*.tftest.hcl"):
        tried.update(hcl.refusals(path.read_text(), INFRA / root))
    folders = [INFRA / root, *MODULES.get(root, [])]
    written = {
        (str(folder), variable): count for folder in folders for variable, count in hcl.validations(folder).items()
    }
    assert dict(tried) == written


@pytest.mark.parametrize("module", FOLDERS, ids=_name)
def test_modules_have_the_usual_files(module: Path) -> None:
    usual = {"main.tf", "outputs.tf", "variables.tf", "versions.tf"}
    roots = {"functions.tf", "providers.tf"} if _name(module) in CLOUDS else set()
    assert {path.name for path in module.glob("*.tf")} == usual | roots


@pytest.mark.parametrize("folder", FOLDERS, ids=_name)
def test_everything_is_described(folder: Path) -> None:
    text = hcl.files(folder)
    for kind in ("variable", "output"):
        bare = [labels[0] for labels, body in hcl.blocks(text, kind) if "description" not in body]
        assert bare == []


@pytest.mark.parametrize(("cloud", "provider"), [("aws", "aws"), ("gcp", "google")])
def test_the_fake_provider_knows_every_type_and_no_other(cloud: str, provider: str) -> None:
    folders = [INFRA / cloud, *MODULES[cloud]]
    assert set(resources(provider)) == {name for folder in folders for name in hcl.types(folder, "resource")}
    assert set(data_sources(provider)) == {name for folder in folders for name in hcl.types(folder, "data")}
