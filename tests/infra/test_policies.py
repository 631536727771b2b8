"""Each function's policy against the calls that its code makes: what is unused fails, and so does what is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from localstack.emulator import ACCOUNT, REGION, Emulator
from localstack.terraform import Terraform, workspace
from localstack.toolbox import ROOT
from tests.infra.calls import actions
from tests.infra.fake_provider.configuration import provider

from noetl_serverless.hosts.table import load_functions

SPECS = {spec.name: spec for spec in load_functions(ROOT / "functions", "aws")}
# what Lambda does with the role of a function, and not the function's code
LOGS = {"logs:CreateLogStream", "logs:PutLogEvents"}
QUEUE = {"sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"}
NETWORK = {
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
}
# who writes what the deployment's key encrypts
WRITES = {"s3:PutObject", "secretsmanager:PutSecretValue", "sqs:SendMessage"}

Policies = Mapping[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def policies(emulator: Emulator, idle_packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Policies]:
    """The statements of each function's policy, as they are in IAM."""
    module = workspace(tmp_path_factory.mktemp("policies"))
    secret = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:theirs"
    given = {
        "endpoint_url": emulator.url,
        "region": REGION,
        "package": {"directory": str(idle_packages)},
        "database": {"existing": {"url": "postgresql://noetl@db.example.org/noetl", "secret_arn": f"{secret}-db"}},
        "nats": {"existing": {"secret_arn": f"{secret}-nats"}},
        "results": {"force_destroy": True},
        "secrets": {"recovery_days": 0},
        # a policy names what triggers of playbooks listen to
        "events": {"queues": [f"arn:aws:sqs:{REGION}:{ACCOUNT}:orders"]},
    }
    (module / "given.auto.tfvars.json").write_text(json.dumps(given))
    terraform = Terraform(module, provider())
    terraform("init", "-no-color")
    terraform("apply", "-auto-approve", "-no-color")
    iam = emulator.client("iam")
    yield {
        name: iam.get_role_policy(RoleName=function["name"], PolicyName="function")["PolicyDocument"]["Statement"]
        for name, function in terraform.outputs()["functions"].items()
    }
    terraform("destroy", "-auto-approve", "-no-color")


@pytest.fixture(scope="module")
def calls() -> Mapping[str, set[str]]:
    return actions()


@pytest.mark.parametrize("name", sorted(SPECS))
def test_policy_allows_what_the_code_calls_and_no_more(
    policies: Policies, calls: Mapping[str, set[str]], name: str
) -> None:
    called = calls[name]
    needed = called | LOGS | NETWORK | {"kms:Decrypt"}
    if called & WRITES:
        needed.add("kms:GenerateDataKey")
    if any(trigger.kind == "queue" for trigger in SPECS[name].triggers):
        needed |= QUEUE
    allowed = {action for one in policies[name] if one["Effect"] == "Allow" for action in one["Action"]}
    assert allowed - needed == set(), "nobody calls these"
    assert needed - allowed == set(), "these are called and not allowed"


@pytest.mark.parametrize("name", sorted(SPECS))
def test_resources_are_named(policies: Policies, name: str) -> None:
    for statement in policies[name]:
        if statement["Sid"] not in ("NetworkInterfaces", "DenyNetworkInterfacesToCode"):
            assert "*" not in statement["Resource"]


@pytest.mark.parametrize("name", sorted(SPECS))
def test_code_is_denied_what_lambda_needs_for_its_network(policies: Policies, name: str) -> None:
    denied = [one for one in policies[name] if one["Effect"] == "Deny"]
    assert [set(one["Action"]) for one in denied] == [NETWORK]
    source = denied[0]["Condition"]["ArnEquals"]["lambda:SourceFunctionArn"]
    assert source == f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:noetl-{name.replace('_', '-')}"


def test_only_the_control_plane_reads_the_keys(policies: Policies) -> None:
    for name, statements in policies.items():
        read = [arn for one in statements if one["Sid"] == "ReadSecrets" for arn in one["Resource"]]
        keys = [arn for arn in read if "token_key" in arn or "encryption_keys" in arn]
        assert bool(keys) == (name == "control_plane")
