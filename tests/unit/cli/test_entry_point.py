"""`noetls` as each extra installs it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# None in sys.modules: the import fails as if the module were not installed
WITHOUT = (
    "import sys; sys.argv = ['noetls', '--version']; sys.modules.update(dict.fromkeys({missing!r})); "
    "from {module} import {function}; {function}()"
)


def noetls(*missing: str) -> subprocess.CompletedProcess[str]:
    script = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["noetls"]
    module, _, function = script.partition(":")
    code = WITHOUT.format(missing=missing, module=module, function=function)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_with_the_extra_it_runs() -> None:
    done = noetls()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("noetls ")


def test_without_it_the_extra_is_named() -> None:
    done = noetls("typer")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "typer is not installed; run: pip install 'noetl-serverless[local]'\n"


@pytest.mark.parametrize("module", ["noetl_serverless.cli.commands", "noetl_serverless.plurals"])
def test_a_module_of_its_own_that_is_missing_is_no_matter_of_extras(module: str) -> None:
    done = noetls(module)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback") and module in done.stderr
