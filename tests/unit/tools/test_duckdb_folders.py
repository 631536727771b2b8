"""Where duckdb keeps the files of executions, and for how long."""

from __future__ import annotations

from pathlib import Path

import pytest

from noetl_serverless.tools.duckdb_folders import KEPT_SECONDS, Folders


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folders(tmp_path: Path, clock: Clock) -> Folders:
    return Folders(tmp_path, clock, max_bytes=1000)


def use(folders: Folders, execution_id: str, size: int = 10) -> Path:
    with folders.in_use(execution_id) as folder:
        (folder / "x").write_bytes(b"x" * size)
    return folder


def test_what_an_execution_has_written_is_there_the_next_time(folders: Folders) -> None:
    folder = use(folders, "7")
    with folders.in_use("7") as again:
        assert again == folder
        assert (again / "x").exists()


def test_no_execution_leaves_its_place(folders: Folders) -> None:
    with folders.in_use("../../etc") as folder, folders.in_use("7") as other:
        assert folder.parent == other.parent


def test_files_are_kept_for_an_hour_after_their_last_use(folders: Folders, clock: Clock) -> None:
    old, other = use(folders, "1"), use(folders, "2")
    clock.now = 60.0
    use(folders, "2")
    clock.now = KEPT_SECONDS + 1.0
    use(folders, "3")
    assert (old.exists(), other.exists()) == (False, True)


def test_those_used_longest_ago_go_first_when_there_are_too_many(folders: Folders) -> None:
    first, second, third = use(folders, "1", 400), use(folders, "2", 400), None
    use(folders, "1", 400)
    third = use(folders, "3", 400)
    assert (first.exists(), second.exists(), third.exists()) == (True, False, True)


def test_what_is_in_use_stays_however_old_or_large(folders: Folders, clock: Clock) -> None:
    with folders.in_use("1") as folder:
        (folder / "x").write_bytes(b"x" * 5000)
        clock.now = 2 * KEPT_SECONDS
        use(folders, "2", 900)
        with folders.in_use("1"):
            pass
        use(folders, "3", 900)
        assert (folder / "x").exists()
    assert not folder.exists()


def test_each_process_has_a_folder_of_its_own(tmp_path: Path, folders: Folders) -> None:
    other = Folders(tmp_path)
    assert use(folders, "7") != use(other, "7")
    folders.remove()
    assert len(list(tmp_path.glob("duckdb-*"))) == 1
    other.remove()
    assert list(tmp_path.iterdir()) == []
