"""`noetls --context`, and the smoke test, against the functions."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
from tests.infra.deployment import Deployment

from noetl_serverless.cli.contexts import Context
from noetl_serverless.cli.deploy.smoke import Check, smoke

from .conftest import Deploy


@pytest.fixture
def context(deploy: Deploy, monkeypatch: pytest.MonkeyPatch) -> tuple[Deployment, Context]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    deployment = deploy()
    url = f"lambda://{deployment.lambda_name('control_plane')}:live"
    token = deployment.operator_token
    return deployment, Context("test", url, token, region="eu-west-1", endpoint_url=deployment.invoke_api.url)


def test_a_deployment_that_works_passes(context: tuple[Deployment, Context]) -> None:
    _, found = context
    reported: list[Check] = []
    with closing(found.client()) as client:
        checks = smoke(found, client, 30, reported.append)
    assert [(check.name, check.ok) for check in checks] == [
        ("control plane answers", True),
        ("control plane is ready", True),
        ("a playbook runs", True),
    ], checks
    assert reported == checks


def test_what_does_not_work_is_named(context: tuple[Deployment, Context], monkeypatch: pytest.MonkeyPatch) -> None:
    deployment, found = context
    monkeypatch.setattr("noetl_serverless.cli.client.RETRY_FOR_SECONDS", 0.5)
    deployment["control_plane"].most = 0
    with closing(found.client()) as client:
        checks: list[Any] = smoke(found, client, 30, lambda check: None)
    assert [check.ok for check in checks] == [False, False, False]
