"""Client for a control plane without an HTTP endpoint: it is invoked with the user's own AWS credentials."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from ..hosts.aws.payload import request_event, response_body
from .client import Client, Readable, StreamedAnswer, decode
from .failure import Failure

RETRY_LATER = 503
# in base64, it is a third larger, and AWS Lambda takes 6 MB
MAX_REQUEST_BYTES = 4_000_000
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
        sent = {"content-type": "application/json"} | {name.lower(): value for name, value in headers.items()}
        result = self._invoke(method, path, sent, data or b"")
        return (RETRY_LATER, None) if result is None else (result["statusCode"], decode(response_body(result)))

    @contextlib.contextmanager
    def streaming(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: Readable | None = None,
        timeout: float = 600.0,
    ) -> Iterator[StreamedAnswer]:
        """A function takes a request and gives an answer as a whole, of a few megabytes. Raises Failure for more."""
        sent = {name.lower(): value for name, value in headers.items()}
        if (size := int(sent.get("content-length", 0))) > MAX_REQUEST_BYTES:
            raise Failure(
                f"a function on AWS Lambda takes up to {MAX_REQUEST_BYTES} bytes, and this has {size}: let a step of a "
                "playbook read the file from where it is"
            )
        result = self._invoke(method, path, sent, b"" if body is None else body.read())
        if result is None:
            yield StreamedAnswer(RETRY_LATER, {}, io.BytesIO(b""))
            return
        names = {name.lower(): str(value) for name, value in (result.get("headers") or {}).items()}
        yield StreamedAnswer(result["statusCode"], names, io.BytesIO(response_body(result)))

    def _invoke(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any] | None:
        """The function's answer; None if it is to be asked again later."""
        from botocore.exceptions import BotoCoreError, ClientError

        parts = urlsplit(path)
        sent = {"authorization": f"Bearer {self._token}", **headers}
        event = request_event(method, unquote(parts.path), parts.query, sent, body)
        try:
            answer = self._lambda.invoke(
                FunctionName=self._function,
                Payload=json.dumps(event),
                **({"Qualifier": self._alias} if self._alias else {}),
            )
        except ClientError as error:
            if error.response["Error"]["Code"] == _THROTTLED:
                return None
            raise Failure(f"{self._function} cannot be invoked: {error}") from error
        except BotoCoreError as error:
            raise Failure(f"{self._function} cannot be invoked: {error}") from error
        result = json.load(answer["Payload"])
        if answer.get("FunctionError"):
            raise Failure(f"{self._function} failed: {result.get('errorType')}: {result.get('errorMessage')}")
        return result  # type: ignore[no-any-return]


def aws_client(service: str, region: str | None, endpoint_url: str | None) -> Any:
    """A boto3 client with the credentials that the user has set up for AWS's own tools."""
    try:
        import boto3
    except ImportError:
        raise Failure("boto3 is not installed; run: pip install 'noetl-serverless[aws]'") from None
    return boto3.client(service, region_name=region, endpoint_url=endpoint_url)
