"""The one-off events of a deployment: migrations, the secrets it makes for itself, their rotation."""

from __future__ import annotations

import json
import uuid

import jwt
from tests.infra.deployment import Deployment
from tests.infra.lambda_service import http_event

from .conftest import Deploy

MADE = {
    *("encryption_keys", "token_key"),
    *(f"service_token/{role}" for role in ("control_plane", "gateway", "operator", "reconciler", "worker")),
}


def test_a_migration_makes_the_missing_secrets_and_the_tables(deploy: Deploy) -> None:
    deployment = deploy(start=False)
    done = deployment.migrate()
    assert not done.failed, done.payload
    assert set(done.payload["secrets"]) == MADE
    assert done.payload["migrations"][:2] == ["0001_log", "0002_catalog"]
    claims = jwt.decode(deployment.operator_token, deployment.secret("token_key"), ["HS256"], issuer="noetl")
    assert claims["role"] == "operator"


def test_a_second_migration_changes_nothing(deploy: Deploy) -> None:
    deployment = deploy(start=False)
    deployment.migrate()
    before = {name: deployment.secret(name) for name in MADE}
    assert deployment.migrate().payload == {"secrets": [], "migrations": []}
    assert {name: deployment.secret(name) for name in MADE} == before


def test_a_token_near_its_end_is_renewed(deploy: Deploy) -> None:
    deployment = deploy(start=False)
    deployment.migrate()
    old = jwt.encode({"iss": "noetl", "role": "worker", "sub": "w", "exp": 1}, deployment.secret("token_key"), "HS256")
    deployment.secrets.put_secret_value(SecretId="noetl/service_token/worker", SecretString=old)
    assert deployment.migrate().payload["secrets"] == ["service_token/worker"]
    assert deployment.secret("service_token/worker") != old


def test_before_the_migration_it_answers_no_request_and_afterwards_it_does(deploy: Deploy) -> None:
    deployment = deploy(start=False)
    before = deployment["control_plane"].invoke(http_event("GET", "/livez"))
    assert before.payload["errorType"] == "MissingSecret"
    deployment.migrate()
    assert deployment.request("GET", "/readyz").status == 200
    assert deployment["control_plane"].starts == 1


def test_no_request_over_http_is_a_migration(deploy: Deploy) -> None:
    deployment = deploy(start=False)
    deployment.migrate()
    for path in ("/", "/migrate", "/api/execute"):
        answer = deployment.request("POST", path, {"noetl": "migrate"}, token="nobody's")
        assert answer.status in (401, 404), answer
        assert "migrations" not in answer.body


def test_a_request_without_a_token_of_ours_is_refused(deploy: Deploy) -> None:
    deployment = deploy(start=False)
    deployment.migrate()
    answer = deployment.request("GET", "/api/executions", token="nobody's")
    assert answer.status == 401
    assert answer.body["code"] == "unauthenticated"
    assert answer.headers["content-type"].startswith("application/problem+json")


def test_a_service_token_is_rotated_and_the_old_one_stays_good(deploy: Deploy) -> None:
    deployment = deploy(start=False)
    deployment.migrate()
    old, version = deployment.operator_token, str(uuid.uuid4())
    arn = deployment.secrets.describe_secret(SecretId="noetl/service_token/operator")["ARN"]
    for step in ("createSecret", "createSecret", "setSecret", "testSecret", "finishSecret", "finishSecret"):
        event = {"Step": step, "SecretId": arn, "ClientRequestToken": version}
        done = deployment["control_plane"].invoke(event)
        assert not done.failed, done.payload
    assert deployment.operator_token != old
    for token in (old, deployment.operator_token):
        assert deployment.request("GET", "/api/executions", token=token).status == 200


def test_keys_are_not_rotated(deploy: Deploy) -> None:
    deployment = deploy(start=False)
    deployment.migrate()
    arn = deployment.secrets.describe_secret(SecretId="noetl/token_key")["ARN"]
    event = {"Step": "createSecret", "SecretId": arn, "ClientRequestToken": str(uuid.uuid4())}
    done = deployment["control_plane"].invoke(event)
    assert done.payload["errorType"] == "ValueError"


def test_no_secret_is_in_any_log(deploy: Deploy) -> None:
    deployment = deploy()
    deployment.request("GET", "/api/executions")
    log = deployment.log()
    secrets = [deployment.secret(name) for name in MADE | {"nats_url"}]
    secrets.append(json.loads(deployment.secret("database_url"))["password"])
    assert [secret for secret in secrets if secret in log] == []


def test_the_credentials_of_a_playbook_are_sealed_with_the_made_keys(deploy: Deploy) -> None:
    deployment = deploy(start=False)
    deployment.migrate()
    body = {"name": "store", "type": "generic", "data": {"password": "s3cret"}}
    assert deployment.request("POST", "/api/credentials", body).status < 300
    assert read(deployment)["data"] == {"password": "s3cret"}


def read(deployment: Deployment) -> dict[str, object]:
    answer = deployment.request("GET", "/api/credentials/store", query="include_data=true")
    assert answer.status == 200, answer
    found: dict[str, object] = answer.body
    return found
