"""Tells Terraform to take the fake provider, which lies in a mirror on disk like any other.

TF_CLI_CONFIG_FILE=$(python -m tests.infra.fake_provider.configuration) terraform init
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path

from localstack import toolbox
from localstack.terraform import write_script

SOURCE = "registry.terraform.io/hashicorp/aws"
SCHEMA = Path(__file__).with_name("schema.json")


def provider() -> dict[str, str]:
    """The environment in which Terraform finds a provider for AWS without the internet: the real one if it is on this
    machine, else the fake one."""
    return {} if real_provider() else fake()


def real_provider() -> bool:
    """Whether the real provider is on this machine, where Terraform looks for it without the internet."""
    if os.environ.get("TF_CLI_CONFIG_FILE") or (Path.home() / ".terraformrc").exists():
        return True
    places = [Path.home() / ".terraform.d" / "plugins", Path("/usr/local/share/terraform/plugins")]
    if os.environ.get("TF_PLUGIN_CACHE_DIR"):
        places.append(Path(os.environ["TF_PLUGIN_CACHE_DIR"]))
    return any((place / SOURCE).is_dir() for place in places)


def fake() -> dict[str, str]:
    return {"TF_CLI_CONFIG_FILE": str(write())}


def write() -> Path:
    """The configuration file of Terraform's command line, with the mirror beside it."""
    folder = toolbox.tool("terraform")
    version = json.loads(SCHEMA.read_text())["version"]
    system = f"{platform.system().lower()}_{'arm64' if platform.machine() in ('arm64', 'aarch64') else 'amd64'}"
    mirror = folder / "mirror"
    program = mirror / SOURCE / version / system / f"terraform-provider-aws_v{version}"
    program.parent.mkdir(parents=True, exist_ok=True)
    write_script(
        program,
        f'#!/bin/sh\nPYTHONPATH="{toolbox.ROOT}" exec "{folder}/bin/python" -m tests.infra.fake_provider "$@"\n',
    )
    config = folder / "terraform.rc"
    config.write_text(
        "disable_checkpoint = true\n"
        "provider_installation {\n"
        f'  filesystem_mirror {{\n    path    = "{mirror}"\n    include = ["{SOURCE}"]\n  }}\n'
        "}\n"
    )
    return config


if __name__ == "__main__":
    sys.stdout.write(f"{write()}\n")
