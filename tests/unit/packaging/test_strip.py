"""Libraries of this machine's own Python, with and without what is cut off."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from noetl_serverless.packaging.strip import strip


@pytest.mark.parametrize(
    "module", ["multidict._multidict", "yaml._yaml", "orjson.orjson", "pydantic_core._pydantic_core"]
)
def test_a_stripped_library_still_loads(module: str, tmp_path: Path) -> None:
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    package = module.partition(".")[0]
    shutil.copytree(Path(spec.origin).parent, tmp_path / package)
    library = tmp_path / package / Path(spec.origin).name
    saved = strip(library)
    assert library.stat().st_size == Path(spec.origin).stat().st_size - saved
    code = f"import {module}; print({module}.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()) == library


def test_stripping_twice_changes_nothing_more(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("multidict._multidict")
    assert spec is not None and spec.origin is not None
    library = tmp_path / "library.so"
    shutil.copyfile(spec.origin, library)
    assert strip(library) > 0
    assert strip(library) == 0


def test_what_is_no_library_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "script.so"
    file.write_bytes(b"INPUT ( libfoo.so )")
    assert strip(file) == 0
    assert file.read_bytes() == b"INPUT ( libfoo.so )"
