"""Services of Cloud Run: built from source, changed by long-running operations."""

from __future__ import annotations

import zipfile

import pytest
from tests.infra.fake_provider.google.scratch import PARENT, Scratch
from tests.infra.google_cloud.standin import REGION

# what the buildpack's image starts, without a package to install
FRAMEWORK = """
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

HTTPServer(("127.0.0.1", int(os.environ["PORT"])), BaseHTTPRequestHandler).serve_forever()
"""
BASE = """
resource "google_storage_bucket" "source" {
  name                        = "noetl-source-%(name)s"
  location                    = "%(region)s"
  uniform_bucket_level_access = true
  force_destroy               = true
}
resource "google_storage_bucket_object" "source" {
  bucket = google_storage_bucket.source.name
  name   = "%(name)s.zip"
  source = "%(archive)s"
}
resource "google_service_account" "one" { account_id = "run-%(name)s" }
"""
SERVICE = """
resource "google_cloud_run_v2_service" "one" {
  name                = "%(name)s"
  location            = "%(region)s"
  deletion_protection = false
  build_config {
    source_location = "gs://${google_storage_bucket.source.name}/${google_storage_bucket_object.source.name}"
    function_target = "function"
  }
  template {
    service_account                  = google_service_account.one.email
    timeout                          = "60s"
    max_instance_request_concurrency = 1
    scaling { max_instance_count = 2 }
    containers {
      image = "function"
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


def configuration(google: Scratch, name: str, files: dict[str, str], environment: str = "{}") -> str:
    archive = google.folder / "source.zip"
    with zipfile.ZipFile(archive, "w") as written:
        for path, text in files.items():
            written.writestr(zipfile.ZipInfo(path), text)
    known = {"name": name, "region": REGION, "archive": archive, "environment": environment}
    return (BASE + SERVICE) % known


GOOD = {"main.py": "", "requirements.txt": "", "functions_framework.py": FRAMEWORK}


def test_service_is_made_changed_and_deleted(google: Scratch) -> None:
    path = f"/v2/{PARENT}/services/changed"
    google.write(configuration(google, "changed", GOOD, '{ A = "1", EMPTY = "" }'))
    google.apply()
    assert google.plan() == ""
    google.write(configuration(google, "changed", GOOD, '{ A = "2" }'))
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
    google.write(configuration(google, "broken", {"requirements.txt": ""}))
    assert "has no main.py" in google.apply(check=False)
    # it is there, and Terraform knows it
    assert google.call("GET", f"/v2/{PARENT}/services/broken")["name"].endswith("/broken")
    said = google.plan()
    assert "is tainted, so must be replaced" in said
    google.write(configuration(google, "broken", GOOD))
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
