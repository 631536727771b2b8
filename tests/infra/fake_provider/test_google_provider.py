"""The fake of hashicorp/google: what it is given reaches the API and is read back, or it says so."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from localstack.terraform import Terraform
from tests.infra.fake_provider.configuration import fake
from tests.infra.fake_provider.table import rows
from tests.infra.google_cloud.standin import PROJECT, REGION, Standin, call

PARENT = f"projects/{PROJECT}/locations/{REGION}"
BASE = """
terraform {
  required_providers {
    google = { source = "hashicorp/google" }
  }
}

variable "url" { type = string }

provider "google" {
  project        = "%s"
  region         = "%s"
  default_labels = { everywhere = "yes" }

  artifact_registry_custom_endpoint = "${var.url}/v1/"
  cloud_run_v2_custom_endpoint      = "${var.url}/v2/"
  cloud_scheduler_custom_endpoint   = "${var.url}/v1/"
  cloud_tasks_custom_endpoint       = "${var.url}/v2/"
  iam_custom_endpoint               = "${var.url}/v1/"
  pubsub_custom_endpoint            = "${var.url}/v1/"
  resource_manager_custom_endpoint  = "${var.url}/v1/"
  secret_manager_custom_endpoint    = "${var.url}/v1/"
  storage_custom_endpoint           = "${var.url}/storage/v1/"
}
"""


class Scratch:
    """A configuration of a few resources."""

    def __init__(self, folder: Path, standin: Standin) -> None:
        self.folder = folder
        self._standin = standin
        self._words = (f"-var=url={standin.url}", "-no-color")
        self.terraform = Terraform(folder, {**fake(), "GOOGLE_OAUTH_ACCESS_TOKEN": standin.token})

    def write(self, text: str) -> None:
        first = not (self.folder / "main.tf").exists()
        (self.folder / "main.tf").write_text(BASE % (PROJECT, REGION) + text)
        if first:
            self.terraform("init", "-no-color")

    def apply(self, *, check: bool = True) -> str:
        return self.terraform("apply", "-auto-approve", *self._words, check=check).text

    def plan(self) -> str:
        """Empty if nothing would change."""
        done = self.terraform("plan", "-detailed-exitcode", *self._words, check=False)
        assert done.status in (0, 2), done.text
        return done.out if done.status else ""

    def destroy(self, *, check: bool = True) -> str:
        return self.terraform("destroy", "-auto-approve", *self._words, check=check).text

    def call(self, verb: str, path: str, body: Any = None) -> Any:
        return call(f"{self._standin.url}{path}", verb, body, self._standin.token)


@pytest.fixture(scope="module")
def standin() -> Iterator[Standin]:
    with tempfile.TemporaryDirectory(prefix="noetl-google-") as folder:
        standin = Standin(Path(folder))
        yield standin
        standin.stop()


@pytest.fixture
def scratch(tmp_path: Path, standin: Standin) -> Scratch:
    return Scratch(tmp_path, standin)


def queue(name: str, *lines: str, label: str = "one") -> str:
    body = "\n".join(f"  {line}" for line in (f'name = "{name}"', f'location = "{REGION}"', *lines))
    return f'resource "google_cloud_tasks_queue" "{label}" {{\n{body}\n}}\n'


def secret(name: str, *lines: str, replication: str = "auto {}") -> str:
    body = "\n".join(f"  {line}" for line in (f'secret_id = "{name}"', *lines))
    return f'resource "google_secret_manager_secret" "one" {{\n{body}\n  replication {{\n    {replication}\n  }}\n}}\n'


TARGET = """http_target {
    http_method = "POST"
    uri_override {
      host   = "example.org"
      scheme = "HTTPS"
      path_override { path = "/" }
    }
  }"""


def test_creates_updates_and_deletes(scratch: Scratch) -> None:
    path = f"/v2/{PARENT}/queues/one"
    scratch.write(queue("one", "rate_limits { max_concurrent_dispatches = 3 }", TARGET))
    scratch.apply()
    found = scratch.call("GET", path)
    assert found["rateLimits"]["maxConcurrentDispatches"] == 3
    assert found["httpTarget"]["uriOverride"]["host"] == "example.org"
    assert scratch.plan() == ""

    scratch.write(queue("one", "rate_limits { max_concurrent_dispatches = 4 }"))
    assert "updated in-place" in scratch.apply()
    found = scratch.call("GET", path)
    assert found["rateLimits"]["maxConcurrentDispatches"] == 4
    # what the configuration no longer says is no more
    assert "httpTarget" not in found
    assert scratch.plan() == ""

    scratch.destroy()
    with pytest.raises(RuntimeError, match="404"):
        scratch.call("GET", path)


def test_new_name_makes_a_new_one(scratch: Scratch) -> None:
    scratch.write(queue("first"))
    scratch.apply()
    scratch.write(queue("second"))
    assert "must be replaced" in scratch.apply()
    names = [one["name"].rpartition("/")[2] for one in scratch.call("GET", f"/v2/{PARENT}/queues")["queues"]]
    assert "second" in names and "first" not in names
    scratch.destroy()


def test_change_inside_a_block_that_the_api_does_not_change_makes_a_new_one(scratch: Scratch) -> None:
    scratch.write(secret("replicated"))
    scratch.apply()
    scratch.write(secret("replicated", replication=f'user_managed {{\n replicas {{ location = "{REGION}" }}\n }}'))
    said = scratch.plan()
    assert "must be replaced" in said and "# forces replacement" in said
    scratch.destroy()


def test_sees_drift_and_what_is_gone(scratch: Scratch) -> None:
    path = f"/v2/{PARENT}/queues/drifting"
    scratch.write(queue("drifting", "rate_limits { max_concurrent_dispatches = 3 }"))
    scratch.apply()
    changed = {"rateLimits": {"maxConcurrentDispatches": 9}, "httpTarget": {"httpMethod": "PUT"}}
    scratch.call("PATCH", f"{path}?updateMask=rateLimits,httpTarget", changed)
    said = scratch.plan()
    assert "max_concurrent_dispatches = 9 -> 3" in said
    # a block that is in no configuration
    assert "- http_target" in said
    scratch.apply()
    assert "httpTarget" not in scratch.call("GET", path)
    assert scratch.plan() == ""

    scratch.call("DELETE", path)
    assert "will be created" in scratch.plan()
    scratch.destroy()


def test_labels_are_the_providers_and_the_resources(scratch: Scratch) -> None:
    path = f"/v1/projects/{PROJECT}/secrets/labelled"
    everywhere = {"everywhere": "yes", "goog-terraform-provisioned": "true"}
    scratch.write(secret("labelled", 'labels = { own = "1" }'))
    scratch.apply()
    assert scratch.call("GET", path)["labels"] == {"own": "1", **everywhere}
    assert scratch.plan() == ""

    # what others set stays, and is no drift
    scratch.call("PATCH", f"{path}?updateMask=labels", {"labels": {"own": "1", "foreign": "1", **everywhere}})
    assert scratch.plan() == ""
    scratch.write(secret("labelled", 'labels = { other = "2" }'))
    scratch.apply()
    assert scratch.call("GET", path)["labels"] == {"other": "2", "foreign": "1", **everywhere}
    assert scratch.plan() == ""

    # what is ours is put right
    scratch.call("PATCH", f"{path}?updateMask=labels", {"labels": {"other": "3"}})
    said = scratch.plan()
    assert '"other"' in said and '"everywhere"' in said
    scratch.destroy()


def test_what_the_provider_knows_of_a_service_account_is_known_before_it_is_made(scratch: Scratch) -> None:
    scratch.write(
        """
resource "google_service_account" "one" {
  account_id   = "planned"
  display_name = "Planned"
}
output "member" { value = google_service_account.one.member }
"""
    )
    address = f"planned@{PROJECT}.iam.gserviceaccount.com"
    assert f'+ member = "serviceAccount:{address}"' in scratch.plan()
    scratch.apply()
    assert scratch.plan() == ""
    scratch.write('resource "google_service_account" "one" {\n  account_id = "planned"\n  disabled = true\n}\n')
    assert "updated in-place" in scratch.apply()
    found = scratch.call("GET", f"/v1/projects/{PROJECT}/serviceAccounts/{address}")
    assert found["disabled"] and "displayName" not in found
    assert scratch.plan() == ""
    scratch.destroy()


def test_members_of_one_policy_are_made_side_by_side(scratch: Scratch) -> None:
    path = f"/v2/{PARENT}/queues/shared"
    granted = """
resource "google_cloud_tasks_queue_iam_member" "one" {
  for_each = toset(["ann", "ben", "cid", "dee", "eve", "fay"])
  name     = google_cloud_tasks_queue.one.%s
  location = google_cloud_tasks_queue.one.location
  role     = "roles/cloudtasks.enqueuer"
  member   = "user:${each.key}@example.org"
}
"""
    scratch.write(queue("shared") + granted % "name")
    scratch.apply()
    assert scratch.plan() == ""
    policy = scratch.call("POST", f"{path}:getIamPolicy", {})
    assert len(policy["bindings"]) == 1 and len(policy["bindings"][0]["members"]) == 6

    # one is taken away, and somebody else has a role of his own
    others = {"role": "roles/cloudtasks.viewer", "members": ["user:zoe@example.org"]}
    first = policy["bindings"][0]["members"].pop()
    scratch.call("POST", f"{path}:setIamPolicy", {"policy": {**policy, "bindings": [*policy["bindings"], others]}})
    said = scratch.plan()
    assert said.count("will be created") == 1 and first in said
    scratch.apply()
    scratch.write(queue("shared"))
    scratch.apply()
    assert scratch.call("POST", f"{path}:getIamPolicy", {})["bindings"] == [others]
    # the whole path names a queue as its name does
    scratch.write(queue("shared") + granted % "id")
    scratch.apply()
    assert scratch.plan() == ""
    scratch.destroy()


def test_members_with_conditions_are_told_apart(scratch: Scratch) -> None:
    granted = """
resource "google_secret_manager_secret_iam_member" "one" {
  for_each  = toset(["2030", "2040"])
  secret_id = google_secret_manager_secret.one.secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = "user:ann@example.org"
  condition {
    title      = "until ${each.key}"
    expression = "request.time < timestamp('${each.key}-01-01T00:00:00Z')"
  }
}
"""
    scratch.write(secret("conditional") + granted)
    scratch.apply()
    assert scratch.plan() == ""
    path = f"/v1/projects/{PROJECT}/secrets/conditional:getIamPolicy?options.requestedPolicyVersion=3"
    found = scratch.call("GET", path)["bindings"]
    assert sorted(one["condition"]["title"] for one in found) == ["until 2030", "until 2040"]
    scratch.write(secret("conditional") + granted.replace('"2030", ', ""))
    scratch.apply()
    assert [one["condition"]["title"] for one in scratch.call("GET", path)["bindings"]] == ["until 2040"]
    scratch.destroy()


def test_subscription_is_changed_in_place_except_for_its_topic(scratch: Scratch) -> None:
    text = """
resource "google_pubsub_topic" "one" { name = "events" }
resource "google_pubsub_subscription" "one" {
  name                 = "events"
  topic                = google_pubsub_topic.one.%s
  ack_deadline_seconds = %d
  expiration_policy { ttl = "" }
  retry_policy { minimum_backoff = "10s" }
  push_config {
    push_endpoint = "http://127.0.0.1:9/"
  }
}
"""
    scratch.write(text % ("id", 60))
    scratch.apply()
    assert scratch.plan() == ""
    scratch.write(text % ("name", 90))
    assert "1 to change" in scratch.plan()
    scratch.apply()
    found = scratch.call("GET", f"/v1/projects/{PROJECT}/subscriptions/events")
    assert found["ackDeadlineSeconds"] == 90
    assert found["expirationPolicy"] == {} and found["pushConfig"]["pushEndpoint"] == "http://127.0.0.1:9/"
    assert scratch.plan() == ""
    scratch.destroy()


def test_what_is_protected_is_not_destroyed(scratch: Scratch) -> None:
    scratch.write(secret("protected", "deletion_protection = true"))
    scratch.apply()
    assert "without setting deletion_protection=false" in scratch.destroy(check=False)
    scratch.write(secret("protected", "deletion_protection = false"))
    scratch.apply()
    scratch.destroy()


def test_what_the_api_refuses_is_said_in_its_words(scratch: Scratch) -> None:
    scratch.write(queue("one", "rate_limits { max_concurrent_dispatches = 100000 }"))
    assert "400 INVALID_ARGUMENT" in scratch.apply(check=False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (queue("one", 'nam = "one"'), "Unsupported argument"),
        (queue("one", "rate_limits { max_concurrent_dispatches = [1] }"), "Inappropriate value"),
        (queue("one", "redrive {}"), "Unsupported block type"),
        ('resource "google_cloud_tasks_queue" "one" {\n  name = "one"\n}\n', 'The argument "location" is required'),
        ('resource "google_compute_instance" "one" {}\n', "does not support resource type"),
        (queue("under_scored"), "name must match"),
        (queue("one", 'http_target {\n http_method = "post"\n }'), "http_target.http_method must be one of"),
        (secret("one", replication=""), "exactly one of replication.auto, replication.user_managed must be given"),
        ('resource "google_service_account" "one" {\n  account_id = "short"\n}\n', "account_id must match"),
    ],
)
def test_wrong_configuration_is_refused(scratch: Scratch, text: str, said: str) -> None:
    scratch.write(text)
    done = scratch.terraform("validate", "-no-color", check=False)
    assert said in " ".join(done.text.split())


@pytest.mark.parametrize(
    ("line", "token", "said"),
    [
        ('cloud_tasks_custom_endpoint = "https://cloudtasks.googleapis.com/v2/"', "t", "speaks to stand-ins only"),
        ("", "t", "speaks to stand-ins only"),
        ('cloud_tasks_custom_endpoint = "http://127.0.0.1:9/v2"', "t", "must end with a path and a slash"),
        ('cloud_tasks_custom_endpoint = "http://127.0.0.1:9/v2/"', "", "needs an access_token"),
        ('credentials = "me"', "t", "does not know the provider's credentials"),
        ('secret_manager_custom_endpoint = "http://127.0.0.1:9/v1/"', "t", "has no cloud_tasks_custom_endpoint"),
    ],
)
def test_refuses_what_it_cannot_do_and_to_speak_to_google_itself(
    tmp_path: Path, line: str, token: str, said: str
) -> None:
    (tmp_path / "main.tf").write_text(
        'terraform {\n  required_providers {\n    google = { source = "hashicorp/google" }\n  }\n}\n'
        f'provider "google" {{\n  project = "{PROJECT}"\n  {line}\n}}\n{queue("one")}'
    )
    terraform = Terraform(tmp_path, {**fake(), "GOOGLE_OAUTH_ACCESS_TOKEN": token})
    terraform("init", "-no-color")
    done = terraform("apply", "-auto-approve", "-no-color", check=False)
    assert said in " ".join(done.text.replace("│", " ").split())


def test_the_table_says_what_is_checked() -> None:
    readme = Path(__file__).with_name("README.md").read_text()
    assert "\n".join(rows("google")) in readme, "python -m tests.infra.fake_provider.table prints it"
