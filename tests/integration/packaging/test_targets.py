"""Packages for the other Pythons and the other processor: what is in them, and that they run where they can."""

from __future__ import annotations

import importlib.util
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from tests.infra.deployment import Deployment
from tests.integration.aws.test_limits import CHAIN

from noetl_serverless.hosts.table import functions_folder, load_functions
from noetl_serverless.packaging.build import build
from noetl_serverless.packaging.function import MEGABYTE
from noetl_serverless.packaging.install import install
from noetl_serverless.packaging.lock import Lock
from noetl_serverless.packaging.target import NoInterpreter, Target, Version, interpreter

PROJECT = functions_folder().parent
SPECS = {spec.name: spec for spec in load_functions(functions_folder(), "aws")}
OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
# Lambda's runtimes, but for the one that runs the tests: its packages have tests of their own
OTHERS = [version for version in get_args(Version) if version not in (OWN, "3.11")]
# of an ELF file: EM_X86_64, EM_AARCH64
MACHINES = {"x86_64": 62, "arm64": 183}


def packages(target: Target, out: Path, *names: str) -> dict[str, Path]:
    """Each unpacked."""
    try:
        folder = build(PROJECT, "aws", target, out, only=names)
    except NoInterpreter as error:
        pytest.skip(str(error))
    for name in names:
        with zipfile.ZipFile(folder / f"{name}.zip") as archive:
            archive.extractall(folder / name)
    return {name: folder / name for name in names}


def check(target: Target, name: str, folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= SPECS[name].package_mb * MEGABYTE
    libraries = [path for path in files if ".so" in path.suffixes]
    tags = {f"cpython-{target.python.replace('.', '')}", "abi3"}
    for library in libraries:
        machine = struct.unpack("<H", library.read_bytes()[18:20])[0]
        assert machine == MACHINES[target.architecture], library
        # an extension of Python's is for one version, or for all
        found = {tag for tag in library.name.split(".") if tag.startswith(("cpython-", "abi3"))}
        assert all(tag.startswith(tuple(tags)) for tag in found), library
    assert any("cpython" in library.name for library in libraries)


def test_a_package_for_the_other_processor_has_its_libraries(tmp_path: Path) -> None:
    # the one with the most of them, and the nearest to its limit
    target = Target(OWN, "arm64")  # type: ignore[arg-type]
    check(target, "gateway", packages(target, tmp_path, "gateway")["gateway"])


@pytest.mark.parametrize("version", OTHERS)
def test_a_playbook_runs_through_the_packages_on_another_python(
    version: Version, tmp_path: Path, deploy: Callable[..., Deployment]
) -> None:
    target = Target(version, "x86_64")
    folders = packages(target, tmp_path, "control_plane", "reconciler", "worker")
    for name, folder in folders.items():
        check(target, name, folder)
        # compiled by that Python, whose number its bytecode begins with
        magic = (folder / "noetl_serverless" / "settings.pyc").read_bytes()[:4]
        assert magic != importlib.util.MAGIC_NUMBER
    client = tmp_path / "client"
    install(Lock((PROJECT / "requirements-dev.txt").read_text()).closure(["awslambdaric"]), target, client)
    deployment = deploy(folders=folders, python=str(interpreter(version)), path=client)
    assert deployment.run(CHAIN)["result"]["data"] == {"n": 3}
    assert deployment["worker"].failures == [] and deployment["control_plane"].failures == []
