"""A configuration of a few resources of Google's, applied to the stand-ins."""

from __future__ import annotations

import io
import tarfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from localstack.terraform import Terraform
from tests.infra.fake_provider.configuration import fake
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
# what the buildpack's image starts
_FRAMEWORK = """
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

HTTPServer(("127.0.0.1", int(os.environ["PORT"])), BaseHTTPRequestHandler).serve_forever()
"""


class Scratch:
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

    def build(self, request: Mapping[str, Any]) -> None:
        """An image, which is there afterwards."""
        operation = self.call("POST", f"/v2/{PARENT}/builds:submit", request)["buildOperation"]["name"]
        while not (found := self.call("GET", f"/v1/{operation}"))["done"]:
            time.sleep(0.05)
        assert "error" not in found, found

    def read(self, bucket: str, name: str) -> bytes:
        """An object's content."""
        url = f"{self._standin.url}/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {self._standin.token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return bytes(answer.read())


def pack(path: Path) -> None:
    """The package of a function that starts, answers nothing, and needs nothing to be installed."""
    files = {"main.py": "", "requirements.txt": "", "functions_framework.py": _FRAMEWORK}
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
