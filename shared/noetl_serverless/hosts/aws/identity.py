"""The caller as API Gateway identifies it. Service tokens and sessions decide what the caller may do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .host import Context


@dataclass(frozen=True, slots=True)
class Caller:
    request_id: str
    # the API's id of the request, if it came through an API
    gateway_request_id: str = ""
    source_ip: str = ""
    # an IAM principal or the subject of a JWT, where the API has an authorizer
    principal: str = ""

    def log(self) -> dict[str, str]:
        """The known values, by their names in the log."""
        fields = {
            "function_request_id": self.request_id,
            "gateway_request_id": self.gateway_request_id,
            "source_ip": self.source_ip,
            "principal": self.principal,
        }
        return {name: value for name, value in fields.items() if value}


def caller_of(event: Mapping[str, Any], context: Context) -> Caller:
    """The caller of a request in payload format 2.0."""
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
