from __future__ import annotations

from pathlib import Path

import pytest

from noetl_serverless.packaging.closure import Importer

FILES = {
    "__init__.py": "",
    "a.py": "import orjson\nfrom . import b\nfrom .c.d import thing\n",
    "b.py": "def f():\n    import duckdb\n    from .lazy import x\n",
    "lazy.py": "import pyarrow.parquet as pq\n",
    "c/__init__.py": "from ..e import y\n",
    "c/d.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import numpy\nelse:\n    import jinja2\n",
    "e.py": "from noetl_serverless.barred import z\n",
    "barred.py": "import boto3\n",
    "alone.py": "",
}


@pytest.fixture
def importer(tmp_path: Path) -> Importer:
    for name, text in FILES.items():
        path = tmp_path / "noetl_serverless" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Importer(tmp_path, ["noetl_serverless.barred"])


def named(*names: str) -> set[str]:
    return {"noetl_serverless", *(f"noetl_serverless.{name}" for name in names)}


def test_everything_that_can_be_reached_is_in_it(importer: Importer) -> None:
    found = importer.of_script("from noetl_serverless.a import something\nimport os")
    assert found.modules == named("a", "b", "lazy", "c", "c.d", "e")
    assert found.others == {"os", "orjson", "duckdb", "pyarrow", "jinja2", "typing"}


def test_what_only_a_type_checker_sees_is_not(importer: Importer) -> None:
    assert "numpy" not in importer.of_modules(["noetl_serverless.c.d"], lazily=True).others


def test_what_functions_import_is_left_out_when_nobody_calls_them(importer: Importer) -> None:
    found = importer.of_modules(["noetl_serverless.a"], lazily=False)
    assert found.modules == named("a", "b", "c", "c.d", "e")
    assert not {"duckdb", "pyarrow"} & found.others


def test_excluded_modules_are_not_followed(importer: Importer) -> None:
    found = importer.of_modules(["noetl_serverless.e", "noetl_serverless.barred"], lazily=True)
    assert found.modules == named("e")
    assert "boto3" not in found.others
