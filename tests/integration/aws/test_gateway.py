"""A user's way: sign in at the gateway, start a playbook, read its end. The gateway invokes the control plane."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from localstack.issuer import AUDIENCE, Issuer
from tests.infra.deployment import Deployment

from .conftest import Deploy
from .test_limits import CHAIN

START = 'mutation { executePlaybook(name: "t/chain") { executionId status } }'


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.stop()


def with_sign_in(deploy: Deploy, issuer: Issuer, *, start: bool = True) -> Deployment:
    return deploy(start=start, settings={"oidc_issuer": issuer.url, "oidc_audience": AUDIENCE})


def sign_in(deployment: Deployment, issuer: Issuer, *roles: str) -> str:
    body = {"id_token": issuer.token(roles=list(roles))}
    answer = deployment.request("POST", "/api/auth/login", body, function="gateway")
    assert answer.status == 200, answer
    session: str = answer.body["session_token"]
    return session


def test_a_playbook_is_started_over_graphql_and_read_over_rest(deploy: Deploy, issuer: Issuer) -> None:
    deployment = with_sign_in(deploy, issuer)
    deployment.request("POST", "/api/catalog/register", {"content": CHAIN, "resource_type": "Playbook"})
    session = sign_in(deployment, issuer, "editor")
    answer = deployment.request("POST", "/graphql", {"query": START}, function="gateway", token=session)
    started = answer.body["data"]["executePlaybook"]
    deployment.wait(started["executionId"])
    path = f"/noetl/executions/{started['executionId']}"
    found = deployment.request("GET", path, function="gateway", token=session)
    assert (found.status, found.body["status"]) == (200, "COMPLETED")
    assert found.body["result"]["data"] == {"n": 3}


def test_what_the_control_plane_refuses_is_passed_on(deploy: Deploy, issuer: Issuer) -> None:
    deployment = with_sign_in(deploy, issuer, start=False)
    deployment.migrate()
    session = sign_in(deployment, issuer, "viewer")
    found = deployment.request("GET", "/noetl/executions/123", function="gateway", token=session)
    assert (found.status, found.body["code"]) == (404, "resource.not_found")


def test_without_a_control_plane_the_gateway_says_so(deploy: Deploy, issuer: Issuer) -> None:
    deployment = with_sign_in(deploy, issuer, start=False)
    deployment.migrate()
    session = sign_in(deployment, issuer, "viewer")
    deployment["control_plane"].most = 0
    found = deployment.request("GET", "/noetl/executions/123", function="gateway", token=session)
    assert found.status in (429, 502, 503)


def test_its_probes_answer(deploy: Deploy) -> None:
    deployment = deploy(start=False)
    deployment.migrate()
    assert deployment.request("GET", "/livez", function="gateway").status == 200
    ready = deployment.request("GET", "/readyz", function="gateway")
    assert (ready.status, ready.body["status"]) == (200, "ok")
