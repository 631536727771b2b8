"""Terraform on copies of infra/, initialised once."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from localstack.emulator import Emulator
from localstack.terraform import Terraform, workspace
from tests.infra.fake_provider.configuration import provider

from noetl_serverless.hosts.local.ports import free_port

Configuration = Callable[[str], Terraform]
# seconds: the first to ask waits for a whole deployment
TIMEOUT = 1200


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.timeout(TIMEOUT))


@pytest.fixture(scope="session")
def infra(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of infra/, from which nothing is deployed."""
    return workspace(tmp_path_factory.mktemp("infra")).parent


@pytest.fixture(scope="session")
def configuration(infra: Path) -> Configuration:
    """What Terraform runs in below infra/, by its folder there, initialised when it is first asked for."""

    @cache
    def initialised(root: str) -> Terraform:
        terraform = Terraform(infra / root, provider())
        terraform("init", "-no-color", "-backend=false")
        return terraform

    return initialised


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with tempfile.TemporaryDirectory(prefix="noetl-emulator-") as folder:
        emulator = Emulator(Path(folder), free_port())
        emulator.start()
        yield emulator
        emulator.stop()


@pytest.fixture(scope="session")
def idle_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packages of functions that answer and do nothing."""
    folder = tmp_path_factory.mktemp("packages")
    manifest: dict[str, Any] = {"python": "3.12", "architecture": "x86_64", "functions": {}}
    for name in ("gateway", "control_plane", "reconciler", "worker", "worker_data"):
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            archive.writestr("main.py", 'def function(event, context):\n    return {"migrations": [], "secrets": []}\n')
        manifest["functions"][name] = {"file": f"{name}.zip", "sha256": "00", "base64sha256": "AA=="}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder
