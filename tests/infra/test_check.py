"""checkov and trivy find nothing that is not justified where it stands."""

from __future__ import annotations

import re
import subprocess

import pytest
from infra.tools.check import IMAGE, INFRA, NAMES, commands


@pytest.mark.parametrize("name", NAMES)
def test_is_clean(name: str) -> None:
    done = subprocess.run(commands()[name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_exception_is_justified() -> None:
    text = "\n".join(path.read_text() for path in [*sorted(INFRA.rglob("*.tf")), IMAGE])
    bare = re.findall(r"^.*checkov:skip=\w+(?!: \S).*$", text, re.M)
    bare += re.findall(r"^(?!# ).*\n#trivy:ignore:.*$", text, re.M)
    assert [line for line in bare if not re.search(r"checkov:skip=\w+: \S", line)] == []
