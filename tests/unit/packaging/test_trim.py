from __future__ import annotations

from pathlib import Path

from noetl_serverless.packaging.trim import trim

KEPT = [
    "aiohttp/client.py",
    "cryptography-50.0.2.dist-info/licenses/LICENSE.APACHE",
    "cryptography-50.0.2.dist-info/METADATA",
    "graphql/language/lexer.py",
    "pyarrow/dataset.py",
    "pyarrow/libarrow.so.2500",
    "pyarrow/libarrow_python.so.2500",
    "pyarrow/vendored/docscrape.py",
    "tool-1.0.dist-info/entry_points.txt",
]
CUT = [
    "_cffi_extra/include/x.h",
    "aiohttp/_http_parser.pyx",
    "aiohttp/web_app.py",
    "bin/nats",
    "cffi/api.py",
    "cryptography-50.0.2.dist-info/RECORD",
    "cryptography/py.typed",
    "pyarrow/_flight.cpython-312-x86_64-linux-gnu.so",
    "pyarrow/include/arrow/api.h",
    "pyarrow/libarrow_flight.so.2500",
    "pyarrow/libarrow_python.so",
    "pyarrow/libarrow_python.so.2500.1.0",
    "pyarrow/tests/test_array.py",
    "pydantic/v1/main.py",
    "yarl/_url.pyi",
]


def test_what_no_function_runs_goes_and_the_rest_stays(tmp_path: Path) -> None:
    for name in (*KEPT, *CUT):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("Metadata-Version: 2.1\nName: x\nVersion: 1\nSummary: long\n\nlonger")
    trim(tmp_path)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()) == sorted(
        KEPT
    )
    assert (tmp_path / KEPT[2]).read_text() == "Metadata-Version: 2.1\nName: x\nVersion: 1\n"
    assert not [path for path in tmp_path.rglob("*") if path.is_dir() and not any(path.iterdir())]
