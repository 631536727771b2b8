"""A deployment on AWS: its package, its variables, and how to reach it once it is deployed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...hosts.table import functions_folder
from ..contexts import LAMBDA_SCHEME, Context
from ..failure import Failure
from ..lambda_client import aws_client

HOST = "aws"


def project() -> Path:
    """The folder with functions/ and infra/. Failure if only the library is installed."""
    try:
        return functions_folder().parent
    except FileNotFoundError as error:
        raise Failure(str(error)) from error


def package(python: str, architecture: str, out: Path | None) -> Path:
    """Build the packages; returns the folder from which Terraform takes the zips."""
    from ...packaging.build import build
    from ...packaging.function import TooBig
    from ...packaging.install import InstallFailed
    from ...packaging.lock import NotLocked
    from ...packaging.target import NoInterpreter, Target

    target = Target(python, architecture)  # type: ignore[arg-type]
    try:
        return build(project(), HOST, target, out or project() / "dist" / HOST)
    except (NoInterpreter, InstallFailed, NotLocked, TooBig) as error:
        raise Failure(str(error)) from error


def variables(folder: Path, files: Sequence[Path], assignments: Sequence[str]) -> list[str]:
    """Terraform's options: the user's come last, and so win."""
    return [
        f"-var=package={json.dumps({'directory': str(folder.resolve())})}",
        *(f"-var-file={file.resolve()}" for file in files),
        *(f"-var={assignment}" for assignment in assignments),
    ]


def context_of(outputs: Mapping[str, Any], name: str | None) -> Context:
    """The context of the deployment. Reads the operator's token with the user's own AWS credentials; Failure without
    them."""
    if not outputs:
        raise Failure("nothing is deployed from this folder; run: noetls deploy aws apply")
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
