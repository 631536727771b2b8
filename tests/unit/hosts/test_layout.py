from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from noetl_serverless.hosts.local.layout import InUse, Layout, Unusable


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "stack")
    layout.create()
    return layout


@pytest.mark.parametrize(
    ("home", "reason"),
    [
        ("file", "{}/file: Not a directory"),
        ("file/below", "{}/file/below: Not a directory"),
        ("dangling", "{}/dangling: Not a directory"),
        ("/proc/nope/below", "/proc/nope: No such file or directory"),
        ("holds-a-file", "{}/holds-a-file/logs: Not a directory"),
    ],
)
def test_a_directory_that_cannot_be_created_is_reported_with_the_reason(tmp_path: Path, home: str, reason: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    (tmp_path / "holds-a-file").mkdir()
    (tmp_path / "holds-a-file" / "logs").write_text("")
    with pytest.raises(Unusable) as raised:
        Layout(tmp_path / home).create()
    assert str(raised.value) == f"{tmp_path / home} cannot be the data directory: {reason.format(tmp_path)}"


def test_one_stack_at_a_time(layout: Layout) -> None:
    with layout.locked():
        assert layout.is_locked()
        with pytest.raises(InUse, match="already runs on"), layout.locked():
            pass
    assert not layout.is_locked()


def test_two_directories_are_independent(layout: Layout, tmp_path: Path) -> None:
    other = Layout(tmp_path / "other")
    other.create()
    with layout.locked(), other.locked():
        assert layout.is_locked()
        assert other.is_locked()


def test_what_a_killed_stack_left_is_not_running(layout: Layout) -> None:
    layout.write_run({"pid": 1})
    assert layout.running() is None
    assert layout.last_run() == {"pid": 1}


def test_a_stack_that_starts_is_not_taken_for_the_one_that_was_killed(layout: Layout) -> None:
    layout.write_run({"pid": 1})
    with layout.locked():
        assert layout.running() is None
        layout.write_run({"pid": os.getpid()})
        assert layout.running() == {"pid": os.getpid()}


def test_run_json_is_for_its_owner(layout: Layout) -> None:
    layout.write_run({"database_url": "postgresql://user:password@host/db"})
    assert (layout.home / "run.json").stat().st_mode & 0o777 == 0o600


def test_waiting_for_others_ends_when_they_have_gone(layout: Layout) -> None:
    mine, other = layout.mark_used(), layout.mark_used()
    order: list[str] = []

    def wait() -> None:
        layout.wait_for_others(mine)
        order.append("waited")

    waiting = threading.Thread(target=wait)
    waiting.start()
    # it would be over at once, if it did not wait
    waiting.join(0.2)
    order.append("the other has gone")
    other.close()
    waiting.join()
    assert order == ["the other has gone", "waited"]
    mine.close()
