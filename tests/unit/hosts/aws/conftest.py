"""An account of AWS, on moto's server."""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from noetl_serverless.hosts.aws.account import Account
from noetl_serverless.hosts.aws.api import Api

ENVIRON = {"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    for chatty in ("werkzeug", "botocore"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def endpoint(moto: str) -> str:
    urllib.request.urlopen(urllib.request.Request(f"{moto}/moto-api/reset", method="POST")).close()
    return moto


@pytest.fixture
def client(endpoint: str) -> Callable[[str], Any]:
    """boto3's, of a service."""
    return lambda service: boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="eu-west-1",
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="secret",
    )


@pytest.fixture
async def api(endpoint: str) -> AsyncIterator[Api]:
    api = Api(Account.of({**ENVIRON, "AWS_ENDPOINT_URL": endpoint}))
    yield api
    await api.close()
