"""Client for a control plane without an HTTP endpoint: it is invoked with the user's own AWS credentials."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from ..hosts.aws.payload import request_event, response_body
from .client import Client, decode
from .failure import Failure

RETRY_LATER = 503
_THROTTLED = "TooManyRequestsException"


class LambdaClient(Client):
    """`url` is `lambda://function:alias`. Raises Failure without credentials, or if they do not permit the
    invocation."""

    def __init__(self, url: str, token: str, region: str | None, endpoint_url: str | None) -> None:
        super().__init__("http://lambda", token)
        self._function, _, self._alias = url.removeprefix("lambda://").partition(":")
        self._lambda = aws_client("lambda", region, endpoint_url)

    def _once(
        self, method: str, path: str, data: bytes | None, timeout: float, headers: Mapping[str, str]
    ) -> tuple[int, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        parts = urlsplit(path)
        sent = {"authorization": f"Bearer {self._token}", "content-type": "application/json"}
        sent |= {name.lower(): value for name, value in headers.items()}
        event = request_event(method, unquote(parts.path), parts.query, sent, data or b"")
        try:
            answer = self._lambda.invoke(
                FunctionName=self._function,
                Payload=json.dumps(event),
                **({"Qualifier": self._alias} if self._alias else {}),
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == _THROTTLED:
                return RETRY_LATER, None
            raise Failure(f"{self._function} cannot be invoked: {error}") from error
        except BotoCoreError as error:
            raise Failure(f"{self._function} cannot be invoked: {error}") from error
        result = json.load(answer["Payload"])
        if answer.get("FunctionError"):
            raise Failure(f"{self._function} failed: {result.get('errorType')}: {result.get('errorMessage')}")
        return result["statusCode"], decode(response_body(result))


def aws_client(service: str, region: str | None, endpoint_url: str | None) -> Any:
    """A boto3 client with the credentials that the user has set up for AWS's own tools."""
    try:
        import boto3
    except ImportError:
        raise Failure("boto3 is not installed; run: pip install 'noetl-serverless[aws]'") from None
    return boto3.client(service, region_name=region, endpoint_url=endpoint_url)
