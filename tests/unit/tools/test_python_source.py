"""The interpreter that runs task code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from noetl_serverless.tools.python_source import arguments


def test_a_child_imports_what_its_parent_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what stands before an installed package of the same name."""
    (tmp_path / "yaml.py").write_text("def main():\n    print('here')\n")
    monkeypatch.syspath_prepend(tmp_path)
    done = subprocess.run(arguments("yaml"), capture_output=True, text=True, check=True)
    assert done.stdout == "here\n"
