"""The fake of hashicorp/google: what it is given reaches the API and is read back, or it says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from localstack.terraform import Terraform
from tests.infra.fake_provider.configuration import fake
from tests.infra.fake_provider.google.scratch import PARENT, Scratch
from tests.infra.fake_provider.table import rows
from tests.infra.google_cloud.standin import PROJECT, REGION

pytestmark = pytest.mark.slow


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


def test_creates_updates_and_deletes(google: Scratch) -> None:
    path = f"/v2/{PARENT}/queues/one"
    google.write(queue("one", "rate_limits { max_concurrent_dispatches = 3 }", TARGET))
    google.apply()
    found = google.call("GET", path)
    assert found["rateLimits"]["maxConcurrentDispatches"] == 3
    assert found["httpTarget"]["uriOverride"]["host"] == "example.org"
    assert google.plan() == ""

    google.write(queue("one", "rate_limits { max_concurrent_dispatches = 4 }"))
    assert "updated in-place" in google.apply()
    found = google.call("GET", path)
    assert found["rateLimits"]["maxConcurrentDispatches"] == 4
    # what the configuration no longer says is no more
    assert "httpTarget" not in found
    assert google.plan() == ""

    google.destroy()
    with pytest.raises(RuntimeError, match="404"):
        google.call("GET", path)


def test_new_name_makes_a_new_one(google: Scratch) -> None:
    google.write(queue("first"))
    google.apply()
    google.write(queue("second"))
    assert "must be replaced" in google.apply()
    names = [one["name"].rpartition("/")[2] for one in google.call("GET", f"/v2/{PARENT}/queues")["queues"]]
    assert "second" in names and "first" not in names
    google.destroy()


def test_change_inside_a_block_that_the_api_does_not_change_makes_a_new_one(google: Scratch) -> None:
    google.write(secret("replicated"))
    google.apply()
    google.write(secret("replicated", replication=f'user_managed {{\n replicas {{ location = "{REGION}" }}\n }}'))
    said = google.plan()
    assert "must be replaced" in said and "# forces replacement" in said
    google.destroy()


def test_sees_drift_and_what_is_gone(google: Scratch) -> None:
    path = f"/v2/{PARENT}/queues/drifting"
    google.write(queue("drifting", "rate_limits { max_concurrent_dispatches = 3 }"))
    google.apply()
    changed = {"rateLimits": {"maxConcurrentDispatches": 9}, "httpTarget": {"httpMethod": "PUT"}}
    google.call("PATCH", f"{path}?updateMask=rateLimits,httpTarget", changed)
    said = google.plan()
    assert "max_concurrent_dispatches = 9 -> 3" in said
    # a block that is in no configuration
    assert "- http_target" in said
    google.apply()
    assert "httpTarget" not in google.call("GET", path)
    assert google.plan() == ""

    google.call("DELETE", path)
    assert "will be created" in google.plan()
    google.destroy()


def test_labels_are_the_providers_and_the_resources(google: Scratch) -> None:
    path = f"/v1/projects/{PROJECT}/secrets/labelled"
    everywhere = {"everywhere": "yes", "goog-terraform-provisioned": "true"}
    google.write(secret("labelled", 'labels = { own = "1" }'))
    google.apply()
    assert google.call("GET", path)["labels"] == {"own": "1", **everywhere}
    assert google.plan() == ""

    # what others set stays, and is no drift
    google.call("PATCH", f"{path}?updateMask=labels", {"labels": {"own": "1", "foreign": "1", **everywhere}})
    assert google.plan() == ""
    google.write(secret("labelled", 'labels = { other = "2" }'))
    google.apply()
    assert google.call("GET", path)["labels"] == {"other": "2", "foreign": "1", **everywhere}
    assert google.plan() == ""

    # what is ours is put right
    google.call("PATCH", f"{path}?updateMask=labels", {"labels": {"other": "3"}})
    said = google.plan()
    assert '"other"' in said and '"everywhere"' in said
    google.destroy()


def test_what_the_provider_knows_of_a_service_account_is_known_before_it_is_made(google: Scratch) -> None:
    google.write(
        """
resource "google_service_account" "one" {
  account_id   = "planned"
  display_name = "Planned"
}
output "member" { value = google_service_account.one.member }
"""
    )
    address = f"planned@{PROJECT}.iam.gserviceaccount.com"
    assert f'+ member = "serviceAccount:{address}"' in google.plan()
    google.apply()
    assert google.plan() == ""
    google.write('resource "google_service_account" "one" {\n  account_id = "planned"\n  disabled = true\n}\n')
    assert "updated in-place" in google.apply()
    found = google.call("GET", f"/v1/projects/{PROJECT}/serviceAccounts/{address}")
    assert found["disabled"] and "displayName" not in found
    assert google.plan() == ""
    google.destroy()


def test_members_of_one_policy_are_made_side_by_side(google: Scratch) -> None:
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
    google.write(queue("shared") + granted % "name")
    google.apply()
    assert google.plan() == ""
    policy = google.call("POST", f"{path}:getIamPolicy", {})
    assert len(policy["bindings"]) == 1 and len(policy["bindings"][0]["members"]) == 6

    # one is taken away, and somebody else has a role of his own
    others = {"role": "roles/cloudtasks.viewer", "members": ["user:zoe@example.org"]}
    first = policy["bindings"][0]["members"].pop()
    google.call("POST", f"{path}:setIamPolicy", {"policy": {**policy, "bindings": [*policy["bindings"], others]}})
    said = google.plan()
    assert said.count("will be created") == 1 and first in said
    google.apply()
    google.write(queue("shared"))
    google.apply()
    assert google.call("POST", f"{path}:getIamPolicy", {})["bindings"] == [others]
    # the whole path names a queue as its name does
    google.write(queue("shared") + granted % "id")
    google.apply()
    assert google.plan() == ""
    google.destroy()


def test_subscription_is_changed_in_place_except_for_its_topic(google: Scratch) -> None:
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
    google.write(text % ("id", 60))
    google.apply()
    assert google.plan() == ""
    google.write(text % ("name", 90))
    assert "1 to change" in google.plan()
    google.apply()
    found = google.call("GET", f"/v1/projects/{PROJECT}/subscriptions/events")
    assert found["ackDeadlineSeconds"] == 90
    assert found["expirationPolicy"] == {} and found["pushConfig"]["pushEndpoint"] == "http://127.0.0.1:9/"
    assert google.plan() == ""
    google.destroy()


def test_job_is_paused_by_a_method_of_its_own(google: Scratch) -> None:
    path = f"/v1/{PARENT}/jobs/clock"
    text = """
resource "google_service_account" "one" { account_id = "the-clock" }
resource "google_cloud_scheduler_job" "one" {
  name     = "clock"
  schedule = "0 0 1 1 *"
  %s
  http_target {
    uri         = "https://example.org/"
    http_method = "POST"
    body        = base64encode("{}")
    oidc_token { service_account_email = google_service_account.one.email }
  }
}
"""
    google.write(text % "")
    google.apply()
    assert google.plan() == ""
    assert google.call("GET", path)["state"] == "ENABLED"
    google.write(text % 'paused = true\n  description = "paused"')
    assert "updated in-place" in google.apply()
    found = google.call("GET", path)
    assert (found["state"], found["description"]) == ("PAUSED", "paused")
    assert google.plan() == ""
    google.call("POST", f"{path}:resume", {})
    assert "paused" in google.plan()
    google.destroy()


def test_repository_of_images(google: Scratch) -> None:
    text = """
resource "google_artifact_registry_repository" "one" {
  repository_id = "images"
  format        = "DOCKER"
  description   = "%s"
  cleanup_policies {
    id     = "keep"
    action = "KEEP"
    most_recent_versions { keep_count = 2 }
  }
  cleanup_policies {
    id     = "old"
    action = "DELETE"
    condition { older_than = "7d" }
  }
}
resource "google_artifact_registry_repository_iam_member" "one" {
  repository = google_artifact_registry_repository.one.name
  location   = google_artifact_registry_repository.one.location
  role       = "roles/artifactregistry.writer"
  member     = "user:ann@example.org"
}
"""
    path = f"/v1/{PARENT}/repositories/images"
    google.write(text % "first")
    google.apply()
    assert google.plan() == ""
    google.write(text % "second")
    assert "updated in-place" in google.apply()
    found = google.call("GET", path)
    assert (
        found["description"] == "second"
        and found["name"] == f"projects/{PROJECT}/locations/{REGION}/repositories/images"
    )
    assert found["cleanupPolicies"]["old"]["condition"]["olderThan"] == "604800s"
    assert google.plan() == ""
    google.destroy()


def test_what_is_protected_is_not_destroyed(google: Scratch) -> None:
    google.write(secret("protected", "deletion_protection = true"))
    google.apply()
    assert "without setting deletion_protection=false" in google.destroy(check=False)
    google.write(secret("protected", "deletion_protection = false"))
    google.apply()
    google.destroy()


def test_what_the_api_refuses_is_said_in_its_words(google: Scratch) -> None:
    google.write(queue("one", "rate_limits { max_concurrent_dispatches = 100000 }"))
    assert "400 INVALID_ARGUMENT" in google.apply(check=False)


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
def test_wrong_configuration_is_refused(google: Scratch, text: str, said: str) -> None:
    google.write(text)
    done = google.terraform("validate", "-no-color", check=False)
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
