"""Removes from installed distributions what no function runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from .strip import strip

# sources, headers, type stubs, tests
_SUFFIXES = frozenset({".pyi", ".pyx", ".pxd", ".pxi", ".c", ".h", ".hpp", ".cpp", ".cc", ".a", ".lib", ".md", ".rst"})
_FOLDERS = frozenset({"tests", "test", "testing", "__pycache__", "include", "bin", "benchmarks"})
# what is read at run time, though its name looks like the above
_KEPT = frozenset({"pyarrow/vendored"})
_OF_DIST_INFO = frozenset({"METADATA", "entry_points.txt"})

# parts of distributions that nothing here imports: servers, plugins of pytest and mypy, old interfaces
_PARTS = (
    *("aiohttp/web*.py", "aiohttp/worker.py", "aiohttp/pytest_plugin.py", "aiohttp/test_utils.py"),
    *("anyio/_backends/_trio.py", "anyio/pytest_plugin.py"),
    *(f"asn1crypto/{name}.py" for name in ("cms", "crl", "csr", "ocsp", "pdf", "pkcs12", "tsp", "_perf")),
    # cryptography needs only the compiled half of cffi
    *(
        "cryptography/hazmat/primitives/serialization/pkcs*.py",
        "cffi",
        "pycparser",
        "cffi-*.dist-info",
        "pycparser-*.dist-info",
    ),
    *("dateutil/zoneinfo/*.tar.gz", "dateutil/rrule.py"),
    *("multidict/_testcapi*.so", "multidict/_multidict_py.py", "nats/micro", "starlette/testclient.py"),
    *("pydantic/v1", "pydantic/mypy.py"),
)

# whole parts of pyarrow that are never imported here, and duplicate names of one library: 70 MB
_PYARROW_LIBRARIES = re.compile(
    r"lib(arrow_flight|arrow_python_flight|arrow_s3|gandiva|arrow_python_parquet_encryption)\b.*"
    r"|libarrow_python\.so(\.\d+\.\d+\.\d+)?"
)
_PYARROW_MODULES = frozenset(
    {
        *("_flight", "flight", "_substrait", "substrait", "_gandiva", "gandiva", "_orc", "orc", "_cuda", "cuda"),
        *("_azurefs", "_gcsfs", "_hdfs", "_s3fs", "_dataset_orc", "_parquet_encryption", "_dataset_parquet_encryption"),
        *("_pyarrow_cpp_tests", "jvm", "conftest"),
    }
)


def trim(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), key=lambda path: len(path.parts), reverse=True):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            if path.name in _FOLDERS and not any(name.startswith(kept) for kept in _KEPT):
                shutil.rmtree(path)
        elif path.is_file() and _is_dispensable(path):
            path.unlink()
        elif path.is_file() and path.name == "METADATA":
            path.write_text(_identity_headers(path.read_text(encoding="utf-8")), encoding="utf-8")
        elif path.is_file() and ".so" in path.name:
            strip(path)
    for pattern in _PARTS:
        for path in folder.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    _trim_pyarrow(folder / "pyarrow")
    for path in sorted(folder.rglob("*"), key=lambda path: len(path.parts), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _is_dispensable(path: Path) -> bool:
    inside = next((parent for parent in path.parents if parent.suffix == ".dist-info"), None)
    if inside is not None:
        # licences are kept with the code
        return path.name not in _OF_DIST_INFO and "licen" not in path.as_posix().lower() and path.name != "NOTICE"
    return path.suffix in _SUFFIXES or path.name in (".lock", "py.typed")


def _trim_pyarrow(folder: Path) -> None:
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.is_file() and (
            _PYARROW_LIBRARIES.fullmatch(path.name) or path.name.partition(".")[0] in _PYARROW_MODULES
        ):
            path.unlink()
    for name in ("src", "includes"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _identity_headers(metadata: str) -> str:
    """The name, version and license of a distribution, without its description: some look up their own version
    there."""
    kept = ("Metadata-Version:", "Name:", "Version:", "License")
    return "".join(f"{line}\n" for line in metadata.partition("\n\n")[0].splitlines() if line.startswith(kept))
