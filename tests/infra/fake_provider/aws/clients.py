"""boto3's clients for the endpoint and region of the provider's configuration."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config


class Clients:
    """Clients by the name of their service, each made once."""

    def __init__(self, region: str, endpoint: str, tags: Mapping[str, str]) -> None:
        """`tags` are those of the provider, for whatever can have tags."""
        self.region = region
        self.tags = tags
        self._endpoint = endpoint
        self._session = boto3.session.Session(region_name=region)
        self._made: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __call__(self, service: str) -> Any:
        with self._lock:
            if service not in self._made:
                config = Config(
                    retries={"total_max_attempts": 2, "mode": "standard"},
                    s3={"addressing_style": "path"},
                    read_timeout=900,
                    parameter_validation=True,
                )
                self._made[service] = self._session.client(service, endpoint_url=self._endpoint, config=config)
            return self._made[service]

    @property
    def account(self) -> str:
        return str(self("sts").get_caller_identity()["Account"])
