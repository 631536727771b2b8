from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from noetl_serverless.hosts.local.environment import Addresses, environment_of
from noetl_serverless.hosts.local.layout import Layout
from noetl_serverless.hosts.local.secrets import Secrets
from noetl_serverless.hosts.table import directly, functions_folder, load_functions
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.settings import Settings

FUNCTIONS = {spec.name: spec for spec in load_functions(functions_folder())}
ADDRESSES = Addresses(
    "postgresql://engine",
    "nats://here",
    {name: f"http://127.0.0.1:{9000 + index}" for index, name in enumerate(FUNCTIONS)},
    {"worker": "http://127.0.0.1:9003/", "shared": "http://127.0.0.1:9003/"},
    worker_database_url="postgresql://engine_worker",
    reader_database_url="postgresql://reader",
)


def environment(name: str, tmp_path: Path, given: Settings | None = None) -> dict[str, str]:
    secrets = Secrets.load(tmp_path / "secrets.json")
    return environment_of(FUNCTIONS[name], ADDRESSES, secrets, Layout(tmp_path), given or Settings())


@pytest.mark.parametrize("name", ["gateway", "worker"])
def test_no_database_and_no_key_for_the_gateway_and_the_worker(name: str, tmp_path: Path) -> None:
    secrets = Secrets.load(tmp_path / "secrets.json")
    values = "\n".join(environment(name, tmp_path).values())
    for secret in ("postgresql://engine", secrets.token_key, secrets.encryption_keys, secrets.operator_token):
        assert secret not in values


def test_a_variable_of_the_caller_does_not_slip_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine")
    monkeypatch.setenv("NOETL_TOKEN_KEY", "mine")
    assert "mine" not in environment("worker", tmp_path).values()


KEYS_OF_CLOUDS = {
    "AWS_ACCESS_KEY_ID": "mine",
    "AWS_PROFILE": "mine",
    "AWS_ENDPOINT_URL_S3": "mine",
    "GOOGLE_APPLICATION_CREDENTIALS": "mine",
    "STORAGE_EMULATOR_HOST": "mine",
}


@pytest.mark.parametrize(
    ("url", "given"),
    [
        ("s3://bucket/x", {name for name in KEYS_OF_CLOUDS if name.startswith("AWS_")}),
        ("gs://bucket/x", {name for name in KEYS_OF_CLOUDS if not name.startswith("AWS_")}),
        ("file:///x", set()),
        ("", set()),
    ],
)
def test_keys_of_a_cloud_are_for_those_that_have_results_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, given: set[str]
) -> None:
    for name, value in KEYS_OF_CLOUDS.items():
        monkeypatch.setenv(name, value)
    settings = Settings(result_url=url)
    for function in FUNCTIONS:
        found = {name for name, value in environment(function, tmp_path, settings).items() if value == "mine"}
        assert found == (set() if function == "gateway" else given), function


def test_a_function_reads_back_what_it_was_given(tmp_path: Path) -> None:
    given = Settings(notify=False, lease=3.5, log_level="DEBUG")
    settings = Settings.from_environment(environment("control_plane", tmp_path, given))
    assert (settings.notify, settings.log_level, settings.function) == (False, "DEBUG", "control_plane")
    assert settings.function_urls["shared"] == "http://127.0.0.1:9003/"
    assert Settings.from_environment(environment("worker", tmp_path, given)).lease == 3.5


def test_its_token_says_what_it_is(tmp_path: Path) -> None:
    from noetl_serverless.control_plane.tokens import Verifier

    verifier = Verifier(Secrets.load(tmp_path / "secrets.json").token_key)
    for name in ("gateway", "worker", "reconciler"):
        assert verifier.caller(environment(name, tmp_path)["NOETL_SERVICE_TOKEN"]).role == name


def test_invocations_are_json(tmp_path: Path) -> None:
    assert json.loads(environment("reconciler", tmp_path)["NOETL_FUNCTION_URLS"]) == dict(ADDRESSES.function_urls)


def test_a_direct_worker_has_the_database_in_the_role_of_workers(tmp_path: Path) -> None:
    spec = directly(FUNCTIONS["worker"], functions_folder())
    secrets = Secrets.load(tmp_path / "secrets.json")
    given = environment_of(spec, ADDRESSES, secrets, Layout(tmp_path), Settings(orchestrator="direct"))
    settings = Settings.from_environment(given)
    assert (settings.orchestrator, settings.database_url) == ("direct", "postgresql://engine_worker")
    assert (settings.token_key, settings.encryption_keys) == ("", "")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_only_the_control_plane_has_the_database_in_the_role_of_readers(name: str, tmp_path: Path) -> None:
    settings = Settings.from_environment(environment(name, tmp_path))
    assert settings.reader_database_url == ("postgresql://reader" if name == "control_plane" else "")
    assert ("postgresql://reader" in environment(name, tmp_path).values()) == (name == "control_plane")


def test_a_pool_has_its_labels_and_its_number_of_commands_at_once(tmp_path: Path) -> None:
    settings = Settings.from_environment(environment("worker_io", tmp_path))
    assert (settings.pool, settings.max_in_flight) == ("io", FUNCTIONS["worker_io"].max_in_flight)
    assert settings.labels == FUNCTIONS["worker_io"].labels != {}


def test_the_reconciler_knows_the_folders_of_the_stack_which_no_trigger_may_see(tmp_path: Path) -> None:
    folders = environment("reconciler", tmp_path)["NOETL_PRIVATE_FOLDERS"].split(os.pathsep)
    assert {Path(folder) for folder in folders} >= set(Layout(tmp_path).private())


@pytest.mark.parametrize(
    ("url", "expected"),
    [("s3://bucket/x", []), ("file:///with%20space/results", ["/with space/results"]), ("/r", ["/r"])],
)
@pytest.mark.parametrize("name", ["worker", "reconciler"])
def test_task_code_cannot_open_the_folder_of_all_results(
    name: str, url: str, expected: list[str], tmp_path: Path
) -> None:
    found = environment(name, tmp_path, Settings(result_url=url))["NOETL_PRIVATE_FOLDERS"].split(os.pathsep)
    assert found == [*map(str, Layout(tmp_path).private()), *expected]


def test_nor_that_which_an_earlier_release_has_named_by_an_encoded_url(tmp_path: Path) -> None:
    earlier = tmp_path / "my%20data" / "results"
    earlier.mkdir(parents=True)
    data = tmp_path / "my data"
    data.mkdir()
    variables = environment("worker", data)
    FsspecResultStore(variables["NOETL_RESULT_URL"]).put_sync("1/a/k.json", b"x")
    assert (earlier / "1/a/k.json").exists()
    assert str(earlier) in variables["NOETL_PRIVATE_FOLDERS"].split(os.pathsep)
