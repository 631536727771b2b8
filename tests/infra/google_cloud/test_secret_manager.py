from __future__ import annotations

from typing import Any

import google_crc32c
import pytest
from google.api_core import exceptions
from google.cloud.secretmanager_v1 import SecretManagerServiceClient
from tests.infra.google_cloud.standin import PROJECT, Standin, call

PARENT = f"projects/{PROJECT}"


@pytest.fixture
def client(standin: Standin) -> Any:
    return standin.client(SecretManagerServiceClient)


@pytest.fixture
def secret(client: Any, unique: str) -> str:
    """The name of a secret that is empty."""
    client.create_secret(parent=PARENT, secret_id=unique, secret={"replication": {"automatic": {}}})
    return f"{PARENT}/secrets/{unique}"


def grant(client: Any, resource: str, role: str, email: str) -> None:
    policy = client.get_iam_policy(request={"resource": resource})
    policy.bindings.add(role=role, members=[f"serviceAccount:{email}"])
    client.set_iam_policy(request={"resource": resource, "policy": policy})


def test_a_secret_is_read_back_under_the_project_s_number(client: Any, unique: str) -> None:
    replication = {"user_managed": {"replicas": [{"location": "europe-west3"}]}}
    made = client.create_secret(
        parent=PARENT, secret_id=unique, secret={"replication": replication, "labels": {"app": "noetl"}}
    )
    found = client.get_secret(name=f"{PARENT}/secrets/{unique}")
    assert found.name == made.name and found.name.split("/")[1].isdigit()
    assert client.get_secret(name=made.name) == found
    assert found.labels == {"app": "noetl"}
    assert [replica.location for replica in found.replication.user_managed.replicas] == ["europe-west3"]
    assert made.name in [secret.name for secret in client.list_secrets(parent=PARENT)]
    client.update_secret(secret={"name": made.name, "labels": {"app": "other"}}, update_mask={"paths": ["labels"]})
    assert client.get_secret(name=made.name).labels == {"app": "other"}
    client.delete_secret(name=made.name)
    with pytest.raises(exceptions.NotFound):
        client.get_secret(name=made.name)


def test_a_secret_without_a_version_has_nothing_to_access(client: Any, secret: str) -> None:
    with pytest.raises(exceptions.NotFound, match="not found or has no versions"):
        client.access_secret_version(name=f"{secret}/versions/latest")


def test_versions_are_accessed_by_number_and_as_the_latest(client: Any, secret: str) -> None:
    for data in (b"first", b"second"):
        client.add_secret_version(parent=secret, payload={"data": data, "data_crc32c": google_crc32c.value(data)})
    assert client.access_secret_version(name=f"{secret}/versions/1").payload.data == b"first"
    latest = client.access_secret_version(name=f"{secret}/versions/latest")
    assert latest.payload.data == b"second"
    assert latest.payload.data_crc32c == google_crc32c.value(b"second")
    assert latest.name.endswith("/versions/2")
    numbers = [version.name.rpartition("/")[2] for version in client.list_secret_versions(parent=secret)]
    assert numbers == ["2", "1"]
    with pytest.raises(exceptions.NotFound):
        client.access_secret_version(name=f"{secret}/versions/3")


def test_a_disabled_version_is_refused_until_it_is_enabled_and_a_destroyed_one_for_good(
    client: Any, secret: str
) -> None:
    version = client.add_secret_version(parent=secret, payload={"data": b"x"}).name
    client.disable_secret_version(name=version)
    with pytest.raises(exceptions.BadRequest, match="DISABLED"):
        client.access_secret_version(name=f"{secret}/versions/latest")
    client.enable_secret_version(name=version)
    assert client.access_secret_version(name=version).payload.data == b"x"
    assert client.destroy_secret_version(name=version).state.name == "DESTROYED"
    with pytest.raises(exceptions.BadRequest, match="DESTROYED"):
        client.enable_secret_version(name=version)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [({"data": b"x", "data_crc32c": 1}, "checksum"), ({"data": b"x" * 65537}, "65536"), ({"data": b""}, "1 to")],
)
def test_a_payload_that_is_wrong_or_too_large_is_refused(
    client: Any, secret: str, payload: dict[str, Any], reason: str
) -> None:
    with pytest.raises(exceptions.BadRequest, match=reason):
        client.add_secret_version(parent=secret, payload=payload)


def test_a_name_that_is_taken_is_refused(client: Any, secret: str, unique: str) -> None:
    with pytest.raises(exceptions.Conflict):
        client.create_secret(parent=PARENT, secret_id=unique, secret={"replication": {"automatic": {}}})


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"replication": {"automatic": {}}, "colour": "red"}, "INVALID_ARGUMENT"),
        ({"replication": {"automatic": {}}, "labels": ["no map"]}, "INVALID_ARGUMENT"),
        ({"replication": {"automatic": {}}, "rotation": {"rotationPeriod": "3600s"}}, "UNIMPLEMENTED"),
        ({}, "INVALID_ARGUMENT"),
    ],
)
def test_what_google_does_not_know_is_invalid_and_what_is_not_here_is_unimplemented(
    standin: Standin, unique: str, body: dict[str, Any], status: str
) -> None:
    with pytest.raises(RuntimeError, match=status):
        call(f"{standin.url}/v1/{PARENT}/secrets?secretId={unique}", "POST", body, standin.token)
    with pytest.raises(RuntimeError, match="INVALID_ARGUMENT"):
        call(f"{standin.url}/v1/{PARENT}/secrets?colour=red", "POST", {}, standin.token)


def test_each_role_permits_what_google_documents_and_no_more(
    standin: Standin, client: Any, secret: str, account: str
) -> None:
    theirs = standin.client(SecretManagerServiceClient, account)
    client.add_secret_version(parent=secret, payload={"data": b"x"})
    with pytest.raises(exceptions.Forbidden, match=r"secretmanager\.versions\.access"):
        theirs.access_secret_version(name=f"{secret}/versions/latest")
    grant(client, secret, "roles/secretmanager.secretAccessor", account)
    assert theirs.access_secret_version(name=f"{secret}/versions/latest").payload.data == b"x"
    with pytest.raises(exceptions.Forbidden, match=r"secretmanager\.versions\.add"):
        theirs.add_secret_version(parent=secret, payload={"data": b"y"})
    grant(client, secret, "roles/secretmanager.secretVersionAdder", account)
    theirs.add_secret_version(parent=secret, payload={"data": b"y"})
    with pytest.raises(exceptions.Forbidden, match=r"secretmanager\.secrets\.delete"):
        theirs.delete_secret(name=secret)
