"""Tells Terraform to take the fake providers, which lie in a mirror on disk like any others.

TF_CLI_CONFIG_FILE=$(python -m tests.infra.fake_provider.configuration) terraform init
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Collection
from pathlib import Path

from localstack import toolbox
from localstack.terraform import write_script

from . import catalog

REGISTRY = "registry.terraform.io/hashicorp"


def provider() -> dict[str, str]:
    """The environment in which Terraform finds the providers without the internet: each real one that is on this
    machine, and a fake in the place of each that is not."""
    if _is_configured():
        return {}
    missing = [name for name in catalog.names() if not real_provider(name)]
    return {"TF_CLI_CONFIG_FILE": str(write(missing))} if missing else {}


def real_provider(name: str = "aws") -> bool:
    """Whether the real provider is on this machine, where Terraform looks for it without the internet."""
    return _is_configured() or bool(_places_of(name))


def fake() -> dict[str, str]:
    return {"TF_CLI_CONFIG_FILE": str(write(catalog.names()))}


def write(fakes: Collection[str]) -> Path:
    """The configuration file of Terraform's command line, with the mirror beside it. Those that are not faked are taken
    from where they lie."""
    folder = toolbox.tool("terraform")
    mirror = folder / "mirror"
    for name in fakes:
        _add(mirror, folder, name)
    installed = [(mirror, name) for name in fakes]
    installed += [(place, name) for name in catalog.names() if name not in fakes for place in _places_of(name)]
    config = folder / f"{'-'.join(['terraform', *fakes])}.rc"
    text = (
        "disable_checkpoint = true\n"
        "provider_installation {\n"
        + "".join(
            f'  filesystem_mirror {{\n    path    = "{place}"\n    include = ["{REGISTRY}/{name}"]\n  }}\n'
            for place, name in installed
        )
        + "}\n"
    )
    if not config.exists() or config.read_text() != text:
        config.write_text(text)
    return config


def _is_configured() -> bool:
    return bool(os.environ.get("TF_CLI_CONFIG_FILE")) or (Path.home() / ".terraformrc").exists()


def _places_of(name: str) -> list[Path]:
    places = [Path.home() / ".terraform.d" / "plugins", Path("/usr/local/share/terraform/plugins")]
    if os.environ.get("TF_PLUGIN_CACHE_DIR"):
        places.append(Path(os.environ["TF_PLUGIN_CACHE_DIR"]))
    return [place for place in places if (place / REGISTRY / name).is_dir()]


def _add(mirror: Path, folder: Path, name: str) -> None:
    version = catalog.schema(name)["version"]
    system = f"{platform.system().lower()}_{'arm64' if platform.machine() in ('arm64', 'aarch64') else 'amd64'}"
    program = mirror / REGISTRY / name / version / system / f"terraform-provider-{name}_v{version}"
    program.parent.mkdir(parents=True, exist_ok=True)
    write_script(
        program,
        f'#!/bin/sh\nPYTHONPATH="{toolbox.ROOT}" exec "{folder}/bin/python" -m tests.infra.fake_provider {name} "$@"\n',
    )


if __name__ == "__main__":
    sys.stdout.write(f"{write(catalog.names())}\n")
