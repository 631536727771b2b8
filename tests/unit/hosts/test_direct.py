"""Which workers may have the database in their own process."""

from __future__ import annotations

import pytest
import yaml

from noetl_serverless.hosts.assembly.worker import DirectRefused, is_direct
from noetl_serverless.hosts.table import directly, functions_folder, load_functions
from noetl_serverless.playbook.pools import CODE_KINDS
from noetl_serverless.settings import Settings

OTHERS = dict.fromkeys(sorted(CODE_KINDS), "code")


def test_the_kinds_are_those_that_terraform_reads() -> None:
    table = yaml.safe_load((functions_folder() / "functions.yaml").read_text())
    assert set(table["users_code"]) == CODE_KINDS


def test_remote_is_the_default_everywhere() -> None:
    assert [is_direct(Settings(host=host)) for host in ("local", "aws", "gcp")] == [False, False, False]


def test_on_a_laptop_any_pool_may() -> None:
    assert is_direct(Settings(orchestrator="direct"))


@pytest.mark.parametrize("host", ["aws", "gcp"])
def test_on_a_cloud_a_pool_that_runs_no_users_code_may(host: str) -> None:
    assert is_direct(Settings(host=host, orchestrator="direct", pools=OTHERS))


@pytest.mark.parametrize("host", ["aws", "gcp"])
@pytest.mark.parametrize("kind", sorted(OTHERS))
def test_on_a_cloud_a_pool_that_runs_users_code_may_not(host: str, kind: str) -> None:
    with pytest.raises(DirectRefused, match=kind):
        is_direct(Settings(host=host, orchestrator="direct", pools={**OTHERS, kind: "shared"}))
    without = {name: pool for name, pool in OTHERS.items() if name != kind}
    with pytest.raises(DirectRefused, match=kind):
        is_direct(Settings(host=host, orchestrator="direct", pools=without))


def test_another_way_is_refused() -> None:
    with pytest.raises(ValueError, match="expected remote or direct"):
        is_direct(Settings(orchestrator="straight"))


@pytest.mark.parametrize("host", ["local", "aws"])
@pytest.mark.parametrize("key", ["encryption_keys", "token_key"])
def test_a_worker_with_a_key_of_the_control_plane_is_refused(host: str, key: str) -> None:
    with pytest.raises(DirectRefused, match="must not have the keys"):
        is_direct(Settings(host=host, orchestrator="direct", pools=OTHERS, **{key: "a key"}))  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["local", "aws"])
def test_only_a_direct_worker_is_given_the_database(host: str) -> None:
    for spec in load_functions(functions_folder(), host):
        if spec.pool is not None:
            assert "database_url" not in spec.secrets
            given = directly(spec, functions_folder())
            assert set(given.secrets) - set(spec.secrets) == {"database_url"}
            assert {"orchestrator", "database_auth"} <= set(given.settings)
