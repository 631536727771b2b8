from __future__ import annotations

import os
import zipfile
from pathlib import Path

from noetl_serverless.packaging import archive


def fill(folder: Path, names: list[str]) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}" * 50)
    return folder


NAMES = ["b/two.py", "a.py", "b/one.py", "z/deep/er/x.sql"]


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = fill(tmp_path / "one", NAMES), fill(tmp_path / "other", NAMES[::-1])
    for path in other.rglob("*.py"):
        os.utime(path, (1, 1))
        path.chmod(0o600)
    archive.write(one, tmp_path / "one.zip")
    archive.write(other, tmp_path / "other.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()


def test_entries_are_in_order_with_one_time_and_one_mode(tmp_path: Path) -> None:
    folder = fill(tmp_path / "folder", NAMES)
    (folder / "b/two.py").chmod(0o700)
    archive.write(folder, tmp_path / "it.zip")
    with zipfile.ZipFile(tmp_path / "it.zip") as found:
        entries = found.infolist()
    assert [entry.filename for entry in entries] == sorted(NAMES)
    assert {entry.date_time for entry in entries} == {archive.TIMESTAMP}
    modes = {entry.filename: oct(entry.external_attr >> 16) for entry in entries}
    assert modes == {**dict.fromkeys(NAMES, "0o100644"), "b/two.py": "0o100755"}


def test_the_size_is_that_of_all_files(tmp_path: Path) -> None:
    folder = fill(tmp_path / "folder", NAMES)
    assert archive.size(folder) == sum(len(f"content of {name}" * 50) for name in NAMES)
