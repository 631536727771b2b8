"""Who calls, as API Gateway knows it. What the caller may do is decided by service tokens and sessions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .host import Context


@dataclass(frozen=True, slots=True)
class Caller:
    request_id: str
    # of the request at the API's side, if it came that way
    gateway_request_id: str = ""
    source_ip: str = ""
    # an IAM principal or the subject of a JWT, where the API has an authorizer
    principal: str = ""

    def log(self) -> dict[str, str]:
        """What is known, by the names that the log gives it."""
        known = {
            "function_request_id": self.request_id,
            "gateway_request_id": self.gateway_request_id,
            "source_ip": self.source_ip,
            "principal": self.principal,
        }
        return {name: value for name, value in known.items() if value}


def caller_of(event: Mapping[str, Any], context: Context) -> Caller:
    """Of a request in the shape of payload version 2.0."""
    request = event.get("requestContext") or {}
    return Caller(
        context.aws_request_id,
        str(request.get("requestId") or ""),
        str((request.get("http") or {}).get("sourceIp") or ""),
        _principal(request.get("authorizer") or {}),
    )


def _principal(authorizer: Mapping[str, Any]) -> str:
    iam, jwt = authorizer.get("iam") or {}, authorizer.get("jwt") or {}
    return str(iam.get("userArn") or (jwt.get("claims") or {}).get("sub") or "")
