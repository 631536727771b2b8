from __future__ import annotations

from pathlib import Path

import pytest

from noetl_serverless.hosts.entry import NotOnThisHost, UnknownHost, entry_module, entry_point, host_names
from noetl_serverless.hosts.table import functions_folder, load_functions

HOSTS = [(host, spec) for host in host_names() for spec in load_functions(functions_folder(), host)]


def test_a_host_is_a_folder_with_entry_points() -> None:
    assert host_names() == ["aws", "gcp", "local"]


@pytest.mark.parametrize(("host", "spec"), HOSTS, ids=[f"{host}-{spec.name}" for host, spec in HOSTS])
def test_each_host_has_an_entry_point_for_each_of_its_functions(host: str, spec: object) -> None:
    source = getattr(spec, "source")  # noqa: B009
    folder = Path(__file__).parents[3] / "shared"
    assert (folder / f"{entry_module(host, source).replace('.', '/')}.py").is_file()
    main = (functions_folder() / source / "main.py").read_text()
    assert main.endswith(f'function = entry_point("{source}")\n')


def test_an_unknown_host_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UnknownHost, match="NOETL_HOST='azure': expected one of aws, gcp, local"):
        entry_point("worker", {"NOETL_HOST": "azure"})


def test_a_function_that_the_host_does_not_have_is_refused() -> None:
    with pytest.raises(NotOnThisHost, match="the host local has no function 'migration'"):
        entry_point("migration", {})


def test_a_wrong_variable_is_named() -> None:
    with pytest.raises(ValueError, match="NOETL_LEASE"):
        entry_point("worker", {"NOETL_LEASE": "soon"})
