"""The limits of a request: what the config says and what the spec says."""

from typing import Any

import pytest

from noetl_serverless.tools.http_config import DEFAULT_TIMEOUT_SECONDS, HttpConfig


@pytest.mark.parametrize(("config", "spec", "total"), [
    ({}, None, DEFAULT_TIMEOUT_SECONDS),
    ({}, 300, 300),
    ({}, 5, 5),
    ({"timeout": 20}, None, 20),
    ({"timeout": 20}, 300, 20),
    ({"timeout": 20}, 5, 5),
    ({"timeout": {"read": 2}}, None, DEFAULT_TIMEOUT_SECONDS),
    ({"timeout": {"read": 2}}, 300, 300),
    ({"timeout": {"total": 20}}, 300, 20),
])  # fmt: skip
def test_the_shorter_of_the_times_that_are_given_counts_and_the_default_only_if_none_is(
    config: dict[str, Any], spec: float | None, total: float
) -> None:
    limits = HttpConfig.model_validate({"url": "http://localhost", **config}).limits(spec)
    assert limits.total == total
