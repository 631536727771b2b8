"""Packages of source, which a cloud builds itself."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

import pytest

from noetl_serverless.hosts.table import functions_folder, load_functions
from noetl_serverless.packaging.build import build
from noetl_serverless.packaging.form import NoPackages, package_form
from noetl_serverless.packaging.target import Target

PROJECT = functions_folder().parent
TARGET = Target("3.13", "x86_64")
SPECS = {spec.name: spec for spec in load_functions(functions_folder(), "gcp")}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(PROJECT, "gcp", TARGET, tmp_path_factory.mktemp("dist"))


def names(packages: Path, function: str) -> set[str]:
    with tarfile.open(packages / f"{function}.tar.gz") as archive:
        return set(archive.getnames())


def requirements(packages: Path, function: str) -> str:
    with tarfile.open(packages / f"{function}.tar.gz") as archive:
        file = archive.extractfile("requirements.txt")
        assert file is not None
        return file.read().decode()


@pytest.mark.parametrize("name", sorted(SPECS))
def test_a_package_is_our_source_with_what_it_needs_by_hash(packages: Path, name: str) -> None:
    found = names(packages, name)
    assert {"main.py", f"noetl_serverless/hosts/gcp/entry/{SPECS[name].source}.py"} <= found
    assert not [path for path in found if path.endswith((".pyc", ".so"))]
    lines = requirements(packages, name)
    assert "functions-framework==" in lines and "uvicorn-worker==" in lines
    pinned = re.findall(r"^[a-z0-9].*$", lines, re.M)
    assert all("==" in line for line in pinned)
    assert all("--hash=sha256:" in entry for entry in re.split(r"^(?=[a-z0-9])", lines, flags=re.M)[1:])


@pytest.mark.parametrize("name", sorted(SPECS))
def test_no_code_of_another_host_is_in_it(packages: Path, name: str) -> None:
    folders = {path.split("/")[2] for path in names(packages, name) if path.startswith("noetl_serverless/hosts/")}
    assert folders & {"aws", "local"} == set()


def test_only_functions_that_have_results_get_the_library_for_them(packages: Path) -> None:
    with_library = {name for name in SPECS if "google-cloud-storage==" in requirements(packages, name)}
    assert with_library == {"control_plane", "reconciler", "worker", "worker_data"}


def test_only_the_pool_for_data_gets_its_libraries(packages: Path) -> None:
    assert [name for name in sorted(SPECS) if "pyarrow==" in requirements(packages, name)] == ["worker_data"]


def test_the_same_input_gives_the_same_package_and_the_manifest_names_it(packages: Path, tmp_path: Path) -> None:
    again = build(PROJECT, "gcp", TARGET, tmp_path)
    assert json.loads((again / "manifest.json").read_text()) == json.loads((packages / "manifest.json").read_text())


def test_a_laptop_has_no_packages() -> None:
    with pytest.raises(NoPackages, match="no packages for the host local"):
        package_form("local")
