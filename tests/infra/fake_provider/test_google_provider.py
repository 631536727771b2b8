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


def test_creates_updates_and_deletes(scratch: Scratch) -> None:
    queue = f"/v2/{PARENT}/queues/one"
    scratch.write(
        f"""
resource "google_cloud_tasks_queue" "one" {{
  name     = "one"
  location = "{REGION}"
  rate_limits {{ max_concurrent_dispatches = 3 }}
  http_target {{
    http_method = "POST"
    uri_override {{
      host   = "example.org"
      scheme = "HTTPS"
      path_override {{ path = "/" }}
    }}
  }}
}}
"""
    )
    scratch.apply()
    found = scratch.call("GET", queue)
    assert found["rateLimits"]["maxConcurrentDispatches"] == 3
    assert found["httpTarget"]["uriOverride"]["host"] == "example.org"
    assert scratch.plan() == ""

    scratch.write(f'resource "google_cloud_tasks_queue" "one" {{\n  name = "one"\n  location = "{REGION}"\n}}\n')
    assert "updated in-place" in scratch.apply()
    assert "httpTarget" not in scratch.call("GET", queue)
    assert scratch.plan() == ""

    scratch.destroy()
    with pytest.raises(RuntimeError, match="404"):
        scratch.call("GET", queue)


def test_labels_are_the_providers_and_the_resources(scratch: Scratch) -> None:
    text = 'resource "google_secret_manager_secret" "one" {\n  secret_id = "labelled"\n  replication {\n auto {}\n }\n  %s\n}\n'
    path = f"/v1/projects/{PROJECT}/secrets/labelled"
    scratch.write(text % 'labels = { own = "1" }')
    scratch.apply()
    everywhere = {"everywhere": "yes", "goog-terraform-provisioned": "true"}
    assert scratch.call("GET", path)["labels"] == {"own": "1", **everywhere}
    assert scratch.plan() == ""

    # what others set stays, and is no drift
    scratch.call("PATCH", f"{path}?updateMask=labels", {"labels": {"own": "1", **everywhere, "foreign": "1"}})
    assert scratch.plan() == ""
    scratch.write(text % 'labels = { other = "2" }')
    scratch.apply()
    assert scratch.call("GET", path)["labels"] == {"other": "2", "foreign": "1", **everywhere}
    assert scratch.plan() == ""
    # what is ours is put right
    scratch.call("PATCH", f"{path}?updateMask=labels", {"labels": {"other": "3"}})
    assert '"other"' in scratch.plan()
    scratch.destroy()
