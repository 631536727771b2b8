from __future__ import annotations

from tests.infra.lambda_service import http_event

from noetl_serverless.hosts.aws.host import LambdaHost
from noetl_serverless.hosts.aws.identity import caller_of


class Context:
    aws_request_id = "request-1"

    def __init__(self, milliseconds: int) -> None:
        self._milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self._milliseconds


def test_what_remains_is_lambdas_less_the_margin() -> None:
    host = LambdaHost(margin=2.0)
    host.start_invocation(Context(900_000))
    assert host.remaining() == 898.0


def test_near_the_end_nothing_remains() -> None:
    host = LambdaHost(margin=2.0)
    host.start_invocation(Context(1_500))
    assert host.remaining() == 0.0


def test_between_invocations_nothing_remains() -> None:
    assert LambdaHost().remaining() == 0.0


def test_who_calls_is_what_the_api_knows() -> None:
    assert caller_of(http_event("GET", "/"), Context(1)).log() == {
        "function_request_id": "request-1",
        "gateway_request_id": "JKJaXmPLvHcESHA=",
        "source_ip": "205.255.255.176",
    }


def test_an_authorizer_names_the_principal() -> None:
    event = http_event("GET", "/")
    event["requestContext"]["authorizer"] = {"jwt": {"claims": {"sub": "ann"}, "scopes": None}}
    assert caller_of(event, Context(1)).principal == "ann"
    event["requestContext"]["authorizer"] = {"iam": {"userArn": "arn:aws:iam::1:user/ann"}}
    assert caller_of(event, Context(1)).principal == "arn:aws:iam::1:user/ann"
