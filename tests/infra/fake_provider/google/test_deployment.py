"""The deployment on Google Cloud with all that it can make: read back, changed, gone. Its functions do nothing."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from localstack.terraform import Terraform, workspace
from tests.infra.fake_provider.configuration import fake
from tests.infra.fake_provider.google.scratch import Scratch, pack
from tests.infra.google_cloud.standin import PROJECT, REGION, Standin

pytestmark = pytest.mark.slow

PACKAGES = ("control_plane", "gateway", "migration", "reconciler", "worker", "worker_data")
SECRETS = ("their-database", "their-nats")
FULL: dict[str, Any] = {
    "database": {"existing": {"url": "postgresql://noetl@db.example.org/noetl", "secret_id": SECRETS[0]}},
    "nats": {"existing": {"secret_id": SECRETS[1]}},
    "results": {"expire_days": 30, "versioned": True, "force_destroy": True},
    "network": {"existing": {"network": "ours", "subnetwork": "functions"}},
    "operators": ["user:ann@example.org", "user:ben@example.org"],
    "events": {"publishers": ["user:crm@example.org"]},
    "pools": {"gpu": {"like": "worker_data", "kinds": ["python"]}},
    "labels": {"team": "data"},
}
BARE = {name: FULL[name] for name in ("database", "nats")} | {
    "results": {"expire_days": 0, "versioned": True, "force_destroy": True},
    "events": {"results": False},
}


def packages(folder: Path) -> Path:
    folder.mkdir()
    functions: dict[str, dict[str, str]] = {}
    for name in PACKAGES:
        pack(folder / f"{name}.tar.gz")
        functions[name] = {"file": f"{name}.tar.gz", "sha256": f"00{len(functions)}", "base64sha256": "AA=="}
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    (folder / "manifest.json").write_text(
        json.dumps({"python": python, "architecture": "x86_64", "functions": functions})
    )
    return folder


def test_whole_deployment_with_everything_made(google: Scratch, standin: Standin, tmp_path: Path) -> None:
    for name in SECRETS:
        path = f"/v1/projects/{PROJECT}/secrets?secretId={name}"
        google.call("POST", path, {"replication": {"automatic": {}}})
    before = google.call("GET", "/_standin/resources")
    module = workspace(tmp_path).parent / "gcp"
    given = {
        "endpoint_url": standin.url,
        "project": PROJECT,
        "region": REGION,
        "package": {"directory": str(packages(tmp_path / "packages"))},
    }
    terraform = Terraform(module, {**fake(), "GOOGLE_OAUTH_ACCESS_TOKEN": standin.token})
    terraform("init", "-no-color")
    for shape in (FULL, BARE):
        (module / "all.auto.tfvars.json").write_text(json.dumps(given | shape))
        terraform("apply", "-auto-approve", "-no-color", "-target=module.images")
        if shape is FULL:
            for request in terraform.outputs()["builds"]["requests"].values():
                google.build(request)
        terraform("apply", "-auto-approve", "-no-color")
        planned = terraform("plan", "-detailed-exitcode", "-no-color", check=False)
        assert planned.status == 0, planned.text
    # another machine has the packages elsewhere, or not at all
    moved = tmp_path / "moved"
    shutil.move(tmp_path / "packages", moved)
    (module / "all.auto.tfvars.json").write_text(json.dumps(given | BARE | {"package": {"directory": str(moved)}}))
    assert terraform("plan", "-detailed-exitcode", "-no-color", check=False).status == 0
    terraform("destroy", "-auto-approve", "-no-color")
    assert google.call("GET", "/_standin/resources") == before
