"""The fake provider: what it is given reaches AWS and is read back, or it says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from localstack.emulator import REGION, Emulator
from localstack.journey import remaining_resources
from localstack.terraform import Terraform, workspace
from tests.infra.fake_provider.configuration import fake
from tests.infra.fake_provider.table import rows

pytestmark = pytest.mark.slow

BASE = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "endpoint" { type = string }

provider "aws" {
  region = "%s"
  default_tags { tags = { everywhere = "yes" } }
  endpoints { sqs = var.endpoint }
}
"""
# the deployment with everything made, in its two shapes; the functions do nothing
FULL: dict[str, Any] = {
    "network": {"nat": "each"},
    "database": {"proxy": True, "protected": False, "final_snapshot": False},
    "nats": {"cluster": {"image": f"000000000000.dkr.ecr.{REGION}.amazonaws.com/nats:2.12.1-alpine"}},
    "results": {"force_destroy": True},
    "secrets": {"recovery_days": 0},
    "http": {"control_plane": True, "cors_origins": ["https://noetl.example.org"]},
    "pools": {"gpu": {"like": "worker_data", "kinds": ["python"]}},
    "observability": {"emails": ["ops@example.org"]},
    "budget": {"usd": 50, "emails": ["ops@example.org"]},
}
AURORA = FULL | {
    "network": {"nat": "one"},
    "database": {
        "kind": "aurora",
        "min_acu": 0,
        "proxy": True,
        "auth": "iam",
        "protected": False,
        "final_snapshot": False,
    },
}


class Scratch:
    """A configuration of a few resources."""

    def __init__(self, folder: Path, emulator: Emulator) -> None:
        self._folder = folder
        self._words = (f"-var=endpoint={emulator.url}", "-no-color")
        self.terraform = Terraform(folder, fake())

    def write(self, text: str) -> None:
        first = not (self._folder / "main.tf").exists()
        (self._folder / "main.tf").write_text(BASE % REGION + text)
        if first:
            self.terraform("init", "-no-color")

    def apply(self, *, check: bool = True) -> str:
        return self.terraform("apply", "-auto-approve", *self._words, check=check).text

    def plan(self) -> str:
        """Empty if nothing would change."""
        done = self.terraform("plan", "-detailed-exitcode", *self._words, check=False)
        assert done.status in (0, 2), done.text
        return done.out if done.status else ""

    def destroy(self) -> None:
        self.terraform("destroy", "-auto-approve", *self._words)


@pytest.fixture
def scratch(tmp_path: Path, emulator: Emulator) -> Scratch:
    return Scratch(tmp_path, emulator)


def test_creates_updates_and_deletes(scratch: Scratch, emulator: Emulator) -> None:
    sqs = emulator.client("sqs")
    scratch.write('resource "aws_sqs_queue" "one" {\n  name = "one"\n  visibility_timeout_seconds = 50\n}\n')
    scratch.apply()
    url = sqs.get_queue_url(QueueName="one")["QueueUrl"]
    assert sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]["VisibilityTimeout"] == "50"
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"everywhere": "yes"}
    assert scratch.plan() == ""

    scratch.write('resource "aws_sqs_queue" "one" {\n  name = "one"\n  tags = { own = "1" }\n}\n')
    assert "updated in-place" in scratch.apply()
    # what the configuration no longer says is AWS's default again
    assert sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]["VisibilityTimeout"] == "30"
    assert sqs.list_queue_tags(QueueUrl=url)["Tags"] == {"everywhere": "yes", "own": "1"}
    assert scratch.plan() == ""

    scratch.destroy()
    assert not sqs.list_queues(QueueNamePrefix="one").get("QueueUrls")


def test_new_name_makes_a_new_one(scratch: Scratch, emulator: Emulator) -> None:
    scratch.write('resource "aws_sqs_queue" "one" {\n  name = "first"\n}\n')
    scratch.apply()
    scratch.write('resource "aws_sqs_queue" "one" {\n  name = "second"\n}\n')
    assert "must be replaced" in scratch.apply()
    names = [url.rpartition("/")[2] for url in emulator.client("sqs").list_queues()["QueueUrls"]]
    assert "second" in names and "first" not in names
    scratch.destroy()


def test_sees_drift_and_what_is_gone(scratch: Scratch, emulator: Emulator) -> None:
    sqs = emulator.client("sqs")
    scratch.write('resource "aws_sqs_queue" "one" {\n  name = "drifting"\n  tags = { own = "1" }\n}\n')
    scratch.apply()
    url = sqs.get_queue_url(QueueName="drifting")["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"DelaySeconds": "9"})
    sqs.tag_queue(QueueUrl=url, Tags={"foreign": "1"})
    said = scratch.plan()
    assert "delay_seconds" in said and "foreign" in said
    sqs.delete_queue(QueueUrl=url)
    assert "will be created" in scratch.plan()
    scratch.apply()
    assert scratch.plan() == ""
    scratch.destroy()


def test_attribute_that_is_not_passed_on_is_an_error(scratch: Scratch, emulator: Emulator) -> None:
    scratch.write('resource "aws_sqs_queue" "one" {\n  name = "one"\n  policy = "{}"\n}\n')
    said = scratch.apply(check=False)
    assert "does not pass on to AWS: policy" in said
    assert not emulator.client("sqs").list_queues(QueueNamePrefix="one").get("QueueUrls")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('nam = "one"', "Unsupported argument"),
        ("delay_seconds = [1]", "Inappropriate value"),
        ("redrive {}", "Unsupported block type"),
    ],
)
def test_wrong_configuration_is_refused_by_the_schema(scratch: Scratch, line: str, said: str) -> None:
    scratch.write(f'resource "aws_sqs_queue" "one" {{\n  name = "one"\n  {line}\n}}\n')
    assert said in scratch.apply(check=False)


def test_missing_argument_is_refused_by_the_schema(scratch: Scratch) -> None:
    scratch.write('resource "aws_lambda_function" "one" {\n  function_name = "one"\n}\n')
    assert 'The argument "role" is required' in scratch.apply(check=False)


def test_type_that_it_does_not_know_is_refused(scratch: Scratch) -> None:
    scratch.write('resource "aws_instance" "one" {}\n')
    assert "does not support resource type" in scratch.apply(check=False)


def test_refuses_to_speak_to_aws_itself(tmp_path: Path) -> None:
    (tmp_path / "main.tf").write_text(
        (BASE % REGION).replace("  endpoints { sqs = var.endpoint }\n", "")
        + 'resource "aws_sqs_queue" "one" {\n  name = "one"\n}\n'
    )
    terraform = Terraform(tmp_path, {**fake(), "AWS_ENDPOINT_URL": ""})
    terraform("init", "-no-color")
    done = terraform("apply", "-auto-approve", "-no-color", "-var=endpoint=", check=False)
    assert "speaks to emulators only" in done.text


def test_whole_deployment_with_everything_made(emulator: Emulator, idle_packages: Path, tmp_path: Path) -> None:
    """RDS, then Aurora in its place; a NATS cluster, NAT gateways, budgets: all are made, read back, changed, gone."""
    module = workspace(tmp_path)
    given = {"endpoint_url": emulator.url, "region": REGION, "package": {"directory": str(idle_packages)}}
    terraform = Terraform(module, fake())
    terraform("init", "-no-color")
    for shape in (FULL, AURORA):
        (module / "all.auto.tfvars.json").write_text(json.dumps(given | shape))
        terraform("apply", "-auto-approve", "-no-color")
        assert terraform("plan", "-detailed-exitcode", "-no-color", check=False).status == 0
    clusters = emulator.client("rds").describe_db_clusters()["DBClusters"]
    assert [one["ServerlessV2ScalingConfiguration"]["MinCapacity"] for one in clusters] == [0.0]
    assert emulator.client("rds").describe_db_instances()["DBInstances"][0]["DBInstanceClass"] == "db.serverless"
    assert len(emulator.client("ecs").list_services(cluster="noetl-nats")["serviceArns"]) == 3
    terraform("destroy", "-auto-approve", "-no-color")
    assert remaining_resources(emulator) == {}
    assert emulator.client("rds").describe_db_clusters()["DBClusters"] == []
    assert emulator.client("efs").describe_file_systems()["FileSystems"] == []


def test_the_table_says_what_is_checked() -> None:
    readme = Path(__file__).with_name("README.md").read_text()
    assert "\n".join(rows("aws")) in readme, "python -m tests.infra.fake_provider.table prints it"
