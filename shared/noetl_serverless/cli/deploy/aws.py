"""How to reach a deployment on AWS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..contexts import LAMBDA_SCHEME, Context
from ..failure import Failure
from ..lambda_client import aws_client


def context_of(outputs: Mapping[str, Any], name: str | None) -> Context:
    """The context of the deployment. Reads the operator's token with the user's own AWS credentials; Failure without
    them."""
    region, endpoint = outputs["region"], outputs.get("endpoint_url")
    function = outputs["functions"]["control_plane"]
    return Context(
        name=name or outputs["prefix"],
        url=outputs.get("control_plane_url") or f"{LAMBDA_SCHEME}{function['name']}:{function['alias']}",
        token=_token(outputs["operator_token_secret_arn"], region, endpoint),
        gateway_url=outputs["gateway_url"],
        region=region,
        endpoint_url=endpoint or "",
    )


def _token(arn: str, region: str, endpoint: str | None) -> str:
    client = aws_client("secretsmanager", region, endpoint)
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return str(client.get_secret_value(SecretId=arn)["SecretString"])
    except (BotoCoreError, ClientError) as error:
        raise Failure(f"the operator's token cannot be read: {error}") from error
