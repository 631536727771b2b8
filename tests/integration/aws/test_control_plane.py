"""The one-off events of a deployment: migrations, the secrets it makes for itself, their rotation."""

from __future__ import annotations

import json
import time
import uuid
from urllib.parse import urlsplit

import jwt
from tests.e2e.faults import eventually
from tests.infra.deployment import Deployment
from tests.infra.lambda_service import http_event

from noetl_serverless.control_plane.tokens import LEEWAY_SECONDS
from noetl_serverless.store.connection import connect

from .conftest import Deploy
from .test_limits import CHAIN

DAY = 86400

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
    old = jwt.encode(
        {"iss": "noetl", "role": "worker", "sub": "w", "iat": 0, "exp": 1}, deployment.secret("token_key"), "HS256"
    )
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
    assert answer.body["code"] == "auth.unauthenticated"
    assert answer.headers["content-type"].startswith("application/problem+json")


def test_a_service_token_is_rotated_and_the_old_one_stays_good(deploy: Deploy) -> None:
    deployment = deploy(start=False)
    deployment.migrate()
    old = deployment.operator_token
    rotate(deployment, "service_token/operator")
    assert deployment.operator_token != old
    for token in (old, deployment.operator_token):
        assert deployment.request("GET", "/api/executions", token=token).status == 200


def test_functions_work_on_after_a_rotation_of_their_tokens_warm_and_started_anew(deploy: Deploy) -> None:
    deployment = deploy()
    deployment.run(CHAIN)
    for role in ("control_plane", "gateway", "reconciler", "worker"):
        rotate(deployment, f"service_token/{role}")
    assert deployment.run(CHAIN)["result"]["data"] == {"n": 3}
    for environment in list(deployment["worker"].environments):
        environment.kill()
    assert deployment.run(CHAIN)["result"]["data"] == {"n": 3}


def test_a_token_that_was_replaced_is_refused_after_its_grace(deploy: Deploy) -> None:
    deployment = deploy(start=False, settings={"token_days": "120"})
    deployment.migrate()
    # one in its last seconds
    end = time.time() - LEEWAY_SECONDS + 3
    claims = {"iss": "noetl", "role": "operator", "sub": "operator@aws", "iat": end - 120 * DAY, "exp": end}
    old = jwt.encode(claims, deployment.secret("token_key"), "HS256")
    deployment.secrets.put_secret_value(SecretId="noetl/service_token/operator", SecretString=old)
    rotate(deployment, "service_token/operator")
    new = jwt.decode(deployment.operator_token, deployment.secret("token_key"), ["HS256"])
    assert new["exp"] - new["iat"] == 120 * DAY
    eventually(lambda: deployment.request("GET", "/api/executions", token=old).status == 401)
    assert deployment.request("GET", "/api/executions").status == 200


def test_a_rotation_that_did_not_make_a_token_is_not_finished(deploy: Deploy) -> None:
    deployment = deploy(start=False)
    deployment.migrate()
    old = deployment.operator_token
    arn, version = deployment.arn("service_token/operator"), str(uuid.uuid4())
    forged = jwt.encode({"iss": "noetl", "role": "operator", "sub": "x", "iat": 0, "exp": 2**40}, "x" * 32, "HS256")
    deployment.secrets.put_secret_value(
        SecretId=arn, SecretString=forged, ClientRequestToken=version, VersionStages=["AWSPENDING"]
    )
    event = {"Step": "testSecret", "SecretId": arn, "ClientRequestToken": version}
    assert deployment["control_plane"].invoke(event).payload["errorType"] == "ValueError"
    assert deployment.operator_token == old


def rotate(deployment: Deployment, secret: str) -> None:
    """As Secrets Manager does, which may ask for a step twice."""
    arn, version = deployment.arn(secret), str(uuid.uuid4())
    for step in ("createSecret", "createSecret", "setSecret", "testSecret", "finishSecret", "finishSecret"):
        done = deployment["control_plane"].invoke({"Step": step, "SecretId": arn, "ClientRequestToken": version})
        assert not done.failed, done.payload


def test_a_new_password_of_the_database_is_used_at_once(deploy: Deploy, postgres_url: str) -> None:
    """As RDS rotates it: on the server, then in the secret. Open connections are ended, so that new ones are made."""
    deployment = deploy(start=False)
    administrator = connect(postgres_url)
    role = f"r_{uuid.uuid4().hex}"
    administrator.run(f"CREATE ROLE {role} LOGIN PASSWORD 'first'")
    administrator.run(f'GRANT ALL ON DATABASE "{urlsplit(postgres_url).path[1:]}" TO {role}')
    show(deployment, role, "first")
    deployment.start()
    assert deployment.run(CHAIN)["result"]["data"] == {"n": 3}

    administrator.run(f"ALTER ROLE {role} PASSWORD 'second'")
    show(deployment, role, "second")
    ended = administrator.run(f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = '{role}'")
    assert all(row == [True] for row in ended), "a backend did not end within 10 s"
    administrator.close()

    assert deployment.run(CHAIN)["result"]["data"] == {"n": 3}


def show(deployment: Deployment, role: str, password: str) -> None:
    value = json.dumps({"username": role, "password": password})
    deployment.secrets.put_secret_value(SecretId="noetl/database_url", SecretString=value)


def test_keys_are_not_rotated(deploy: Deploy) -> None:
    deployment = deploy(start=False)
    deployment.migrate()
    arn = deployment.arn("token_key")
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
