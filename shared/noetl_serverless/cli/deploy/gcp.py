"""A deployment on Google Cloud: its images, its migration, and how to reach it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ..contexts import Context
from ..failure import Failure, Refused
from ..google_client import GoogleClient, NotOperator, Operator
from ..google_user import GoogleUser, check_installed
from .images import build_images
from .terraform import Terraform

# the database may be large; the function may run as long
MIGRATION_SECONDS = 3600.0
# until a grant of IAM counts: https://cloud.google.com/iam/docs/access-change-propagation
GRANT_SECONDS = 120.0
PAUSE_SECONDS = 5.0


def prepare(terraform: Terraform, variables: Sequence[str], *, approved: bool) -> None:
    """Build the images of the packages that have none yet: Terraform's provider only names what an image was built from
    (https://github.com/hashicorp/terraform-provider-google/issues/22263)."""
    check_installed()
    terraform.apply([*variables, "-target=module.images"], approved=approved)
    builds = terraform.outputs().get("builds")
    if builds is None:
        raise Failure("this Terraform configuration has no output `builds`; is --directory that of infra/gcp?")
    build_images(GoogleUser(builds.get("endpoint_url")), builds["parent"], builds["requests"])


def migrate(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Fill the secrets that have no value, and migrate the database; returns the names of both. Failure without
    credentials that may act as the operator: rights that were granted just now count after a while."""
    operator = _operator(outputs)
    client = GoogleClient(outputs["migration_url"], "", operator)
    deadline = time.monotonic() + GRANT_SECONDS
    try:
        while True:
            try:
                answer: dict[str, Any] = client.post_for("/", {}, MIGRATION_SECONDS)
                return answer
            except (NotOperator, Refused) as error:
                refused = isinstance(error, NotOperator) or error.http_status in (401, 403)
                if not refused or time.monotonic() > deadline:
                    raise
            time.sleep(PAUSE_SECONDS)
    finally:
        client.close()


def context_of(outputs: Mapping[str, Any], name: str | None) -> Context:
    """The context of the deployment. Reads the operator's token as the operator; Failure without credentials that may
    act as one."""
    operator = _operator(outputs)
    return Context(
        name=name or outputs["prefix"],
        url=outputs["control_plane_url"],
        token=operator.secret(outputs["operator_token_secret_id"]),
        gateway_url=outputs["gateway_url"],
        region=outputs["region"],
        endpoint_url=outputs.get("endpoint_url") or "",
        service_account=operator.email,
    )


def _operator(outputs: Mapping[str, Any]) -> Operator:
    if "operator" not in outputs:
        raise Failure("the deployment is not complete; run: noetls deploy gcp apply")
    return Operator(outputs["operator"], GoogleUser(outputs.get("endpoint_url")))
