"""Which providers Terraform is told to take: each real one that is on the machine, and fakes of the others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.infra.fake_provider import configuration


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TF_CLI_CONFIG_FILE", raising=False)
    monkeypatch.delenv("TF_PLUGIN_CACHE_DIR", raising=False)


def taken(environment: dict[str, str]) -> dict[str, str]:
    """Name of a provider -> the folder that it comes from."""
    text = Path(environment["TF_CLI_CONFIG_FILE"]).read_text()
    found = re.findall(r'path += "([^"]+)"\n +include = \["registry.terraform.io/hashicorp/(\w+)"\]', text)
    return {name: path for path, name in found}


def test_fakes_are_taken_where_no_real_provider_is() -> None:
    places = taken(configuration.provider())
    assert set(places) == {"aws", "google"}
    assert all(path.endswith("/mirror") for path in places.values())
    assert not configuration.real_provider("aws")


def test_a_real_provider_of_one_cloud_leaves_the_fake_of_the_other(tmp_path: Path) -> None:
    installed = tmp_path / ".terraform.d" / "plugins"
    (installed / "registry.terraform.io" / "hashicorp" / "aws").mkdir(parents=True)
    places = taken(configuration.provider())
    assert places["aws"] == str(installed)
    assert places["google"].endswith("/mirror")
    assert configuration.real_provider("aws") and not configuration.real_provider("google")
    # and whoever wants the fakes has both
    assert all(path.endswith("/mirror") for path in taken(configuration.fake()).values())


def test_what_the_user_has_configured_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CLI_CONFIG_FILE", "/elsewhere")
    assert configuration.provider() == {}
