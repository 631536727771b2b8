"""Services of Cloud Run: of an image that was built before, changed by long-running operations."""

from __future__ import annotations

import pytest
from tests.infra.fake_provider.google.scratch import PARENT, Scratch, pack
from tests.infra.google_cloud.standin import PROJECT, REGION

pytestmark = pytest.mark.slow

BASE = """
resource "google_storage_bucket" "source" {
  name                        = "noetl-source-%(name)s"
  location                    = "%(region)s"
  uniform_bucket_level_access = true
  force_destroy               = true
}
resource "google_storage_bucket_object" "source" {
  bucket = google_storage_bucket.source.name
  name   = "source.tar.gz"
  source = "%(archive)s"
}
resource "google_artifact_registry_repository" "one" {
  repository_id = "%(name)s"
  format        = "DOCKER"
}
resource "google_service_account" "one" { account_id = "run-%(name)s" }
resource "google_storage_bucket_iam_member" "one" {
  bucket = google_storage_bucket.source.name
  role   = "roles/storage.objectViewer"
  member = google_service_account.one.member
}
resource "google_artifact_registry_repository_iam_member" "one" {
  repository = google_artifact_registry_repository.one.name
  location   = google_artifact_registry_repository.one.location
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.one.member
}
"""
SERVICE = """
resource "google_cloud_run_v2_service" "one" {
  name                = "%(name)s"
  location            = "%(region)s"
  deletion_protection = false
  template {
    service_account                  = google_service_account.one.email
    timeout                          = "60s"
    max_instance_request_concurrency = 1
    scaling { max_instance_count = 2 }
    containers {
      image = "%(image)s"
      resources { limits = { cpu = "1", memory = "512Mi" } }
      dynamic "env" {
        for_each = %(environment)s
        content {
          name  = env.key
          value = env.value
        }
      }
    }
  }
}
resource "google_cloud_run_v2_service_iam_member" "one" {
  name     = google_cloud_run_v2_service.one.name
  location = google_cloud_run_v2_service.one.location
  role     = "roles/run.invoker"
  member   = google_service_account.one.member
}
"""


class Function:
    """A function of Terraform's, and what there must be before it."""

    def __init__(self, google: Scratch, name: str) -> None:
        """Applied: all but the service."""
        self._google = google
        self._known = {
            "name": name,
            "region": REGION,
            "archive": str(google.folder / "source.tar.gz"),
            "image": f"{REGION}-docker.pkg.dev/{PROJECT}/{name}/function:1",
        }
        pack(google.folder / "source.tar.gz")
        google.write(BASE % self._known)
        google.apply()

    def build(self) -> None:
        account = f"run-{self._known['name']}@{PROJECT}.iam.gserviceaccount.com"
        self._google.build(
            {
                "storageSource": {"bucket": f"noetl-source-{self._known['name']}", "object": "source.tar.gz"},
                "imageUri": self._known["image"],
                "serviceAccount": f"projects/{PROJECT}/serviceAccounts/{account}",
                "buildpackBuild": {"functionTarget": "function"},
            }
        )

    def write(self, environment: str = "{}") -> None:
        self._google.write((BASE + SERVICE) % (self._known | {"environment": environment}))


def test_service_is_made_changed_and_deleted(google: Scratch) -> None:
    path = f"/v2/{PARENT}/services/changed"
    function = Function(google, "changed")
    function.build()
    function.write('{ A = "1", EMPTY = "" }')
    google.apply()
    assert google.plan() == ""
    function.write('{ A = "2" }')
    assert "1 changed, 0 destroyed" in google.apply()
    found = google.call("GET", path)
    assert found["template"]["containers"][0]["env"] == [{"name": "A", "value": "2"}]
    assert google.plan() == ""

    found["template"]["maxInstanceRequestConcurrency"] = 7
    google.call("PATCH", f"{path}?updateMask=template", {"template": found["template"]})
    assert "max_instance_request_concurrency = 7 -> 1" in google.plan()
    google.destroy()
    with pytest.raises(RuntimeError, match="404"):
        google.call("GET", path)


def test_service_that_does_not_start_is_replaced_by_the_next_apply(google: Scratch) -> None:
    function = Function(google, "broken")
    function.write()
    assert "function:1' not found" in google.apply(check=False)
    # it is there, and Terraform knows it
    assert google.call("GET", f"/v2/{PARENT}/services/broken")["name"].endswith("/broken")
    assert "is tainted, so must be replaced" in google.plan()
    function.build()
    google.apply()
    assert google.plan() == ""
    google.destroy()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('ingress = "ALL"', "ingress must be one of"),
        ('template {\n timeout = "1m"\n }', "template.timeout must match"),
        ('template {\n vpc_access { egress = "all" }\n }', "template.vpc_access.egress must be one of"),
    ],
)
def test_what_the_provider_refuses_is_refused_before_the_api_is_asked(google: Scratch, line: str, said: str) -> None:
    given = [f'name = "one"\n location = "{REGION}"', line, *([] if "template" in line else ["template {}"])]
    google.write('resource "google_cloud_run_v2_service" "one" {\n' + "\n".join(given) + "\n}\n")
    assert said in " ".join(google.terraform("validate", "-no-color", check=False).text.split())
