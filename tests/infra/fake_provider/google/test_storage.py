"""Buckets, objects and notifications: their API is not as regular as the others."""

from __future__ import annotations

import pytest
from tests.infra.fake_provider.google.scratch import Scratch
from tests.infra.google_cloud.standin import PROJECT, REGION

pytestmark = pytest.mark.slow


def bucket(name: str, *lines: str) -> str:
    given = (f'name = "{name}"', f'location = "{REGION}"', "uniform_bucket_level_access = true", *lines)
    body = "\n".join(f"  {line}" for line in given)
    return f'resource "google_storage_bucket" "one" {{\n{body}\n}}\n'


def stored(name: str, *lines: str) -> str:
    body = "\n".join(f"  {line}" for line in ("bucket = google_storage_bucket.one.name", f'name = "{name}"', *lines))
    return f'resource "google_storage_bucket_object" "one" {{\n{body}\n}}\n'


def test_bucket_is_made_changed_and_deleted(google: Scratch) -> None:
    rule = """lifecycle_rule {
    action { type = "Delete" }
    condition {
      age            = %d
      matches_prefix = ["results/"]
    }
  }"""
    own = ('labels = { own = "1" }', 'public_access_prevention = "enforced"')
    google.write(bucket("noetl-made", *own, rule % 3))
    google.apply()
    assert google.plan() == ""
    google.write(bucket("noetl-made", *own[1:], rule % 4))
    assert "updated in-place" in google.apply()
    found = google.call("GET", "/storage/v1/b/noetl-made")
    assert found["lifecycle"]["rule"] == [
        {"action": {"type": "Delete"}, "condition": {"age": 4, "matchesPrefix": ["results/"]}}
    ]
    assert found["labels"] == {"everywhere": "yes", "goog-terraform-provisioned": "true"}
    assert found["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    assert google.plan() == ""

    google.write(bucket("noetl-made", *own[1:]))
    google.apply()
    assert not google.call("GET", "/storage/v1/b/noetl-made").get("lifecycle", {}).get("rule")
    google.call("PATCH", "/storage/v1/b/noetl-made", {"iamConfiguration": {"publicAccessPrevention": "inherited"}})
    assert "public_access_prevention" in google.plan()
    google.destroy()


def test_bucket_with_objects_is_deleted_only_by_force(google: Scratch) -> None:
    google.write(bucket("noetl-full"))
    google.apply()
    upload = "/upload/storage/v1/b/noetl-full/o?uploadType=media&name=a/b"
    google.call("POST", upload, "content")
    assert "without `force_destroy`" in google.destroy(check=False)
    google.write(bucket("noetl-full", "force_destroy = true"))
    google.apply()
    google.destroy()
    with pytest.raises(RuntimeError, match="404"):
        google.call("GET", "/storage/v1/b/noetl-full")


def test_object_is_known_by_its_hash(google: Scratch) -> None:
    source = google.folder / "source.txt"
    source.write_text("first")
    text = bucket("noetl-objects") + stored("a/b c.txt", f'source = "{source}"')
    google.write(text)
    google.apply()
    assert google.plan() == ""
    source.write_text("second")
    said = google.plan()
    assert "updated in-place" in said and "~ md5hash" in said
    google.apply()
    assert google.read("noetl-objects", "a/b c.txt") == b"second"
    assert google.plan() == ""

    google.call("POST", "/upload/storage/v1/b/noetl-objects/o?uploadType=media&name=a/b%20c.txt", "foreign")
    assert "md5hash" in google.plan()
    google.apply()
    google.write(bucket("noetl-objects") + stored("a/b c.txt", 'content = "said"'))
    google.apply()
    assert google.read("noetl-objects", "a/b c.txt") == b"said"
    assert google.plan() == ""
    google.destroy()


def test_object_stays_when_its_file_is_elsewhere(google: Scratch) -> None:
    source = google.folder / "source.txt"
    source.write_text("once")
    ignored = "lifecycle {\n ignore_changes = [source, detect_md5hash]\n }"
    google.write(bucket("noetl-moved") + stored("moved", f'source = "{source}"', ignored))
    google.apply()
    source.rename(google.folder / "elsewhere.txt")
    assert google.plan() == ""
    google.write(bucket("noetl-moved") + stored("moved", f'source = "{google.folder / "elsewhere.txt"}"', ignored))
    assert google.plan() == ""
    google.destroy()


def test_argument_that_is_not_passed_on_is_an_error(google: Scratch) -> None:
    held = 'retention {\n mode = "Unlocked"\n retain_until_time = "2030-01-01T00:00:00Z"\n }'
    google.write(bucket("noetl-held") + stored("held", 'content = "x"', held))
    assert "does not pass on to Google: retention" in google.apply(check=False)
    assert "items" not in google.call("GET", "/storage/v1/b/noetl-held/o")
    google.write(bucket("noetl-held"))
    google.destroy()


def test_notification_is_made_anew_by_any_change(google: Scratch) -> None:
    text = (
        bucket("noetl-notified")
        + """
data "google_storage_project_service_account" "agent" {}
resource "google_pubsub_topic" "one" { name = "notified" }
resource "google_pubsub_topic_iam_member" "one" {
  topic  = google_pubsub_topic.one.name
  role   = "roles/pubsub.publisher"
  member = data.google_storage_project_service_account.agent.member
}
resource "google_storage_notification" "one" {
  bucket             = google_storage_bucket.one.name
  topic              = google_pubsub_topic.one.id
  payload_format     = "JSON_API_V1"
  event_types        = ["OBJECT_FINALIZE"]
  object_name_prefix = "%s/"
  depends_on         = [google_pubsub_topic_iam_member.one]
}
"""
    )
    google.write(text % "results")
    google.apply()
    assert google.plan() == ""
    google.write(text % "others")
    assert "must be replaced" in google.apply()
    found = google.call("GET", "/storage/v1/b/noetl-notified/notificationConfigs")["items"]
    assert [one["object_name_prefix"] for one in found] == ["others/"]
    assert found[0]["topic"] == f"//pubsub.googleapis.com/projects/{PROJECT}/topics/notified"
    google.destroy()


def test_members_with_conditions_are_kept_apart(google: Scratch) -> None:
    granted = """
resource "google_storage_bucket_iam_member" "one" {
  for_each = toset(%s)
  bucket   = google_storage_bucket.one.name
  role     = "roles/storage.objectViewer"
  member   = "user:ann@example.org"
  condition {
    title      = each.key
    expression = "resource.name.startsWith(\\"projects/_/buckets/noetl-conditional/objects/${each.key}\\")"
  }
}
"""
    base = bucket("noetl-conditional")
    path = "/storage/v1/b/noetl-conditional/iam?optionsRequestedPolicyVersion=3"

    def titles() -> list[str]:
        found = google.call("GET", path)["bindings"]
        return sorted(one["condition"]["title"] for one in found if "condition" in one)

    google.write(base + granted % '["a", "b"]')
    google.apply()
    assert google.plan() == ""
    assert titles() == ["a", "b"]
    google.write(base + granted % '["b"]')
    google.apply()
    assert titles() == ["b"]
    google.destroy()
