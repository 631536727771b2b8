from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from noetl_serverless.scratch import ScratchFolder

OWNER = """
import sys, time
from pathlib import Path
from noetl_serverless.scratch import ScratchFolder

folder = ScratchFolder(Path(sys.argv[1]), "python")
(folder.path / "left").mkdir()
(folder.path / "left/behind").write_text("x")
print(folder.path, flush=True)
time.sleep(60)
"""


def test_what_a_killed_owner_left_is_removed_and_what_a_living_one_has_is_kept(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        theirs = Path(owner.stdout.readline().strip())
        mine = ScratchFolder(tmp_path, "python")
        assert (theirs / "left/behind").exists()
    finally:
        owner.kill()
        owner.communicate()
    another = ScratchFolder(tmp_path, "python")
    assert not theirs.exists()
    assert mine.path.exists()
    assert another.path != mine.path
    for folder in (mine, another):
        folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_folders_of_another_kind_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "archive-x").mkdir()
    (tmp_path / "archive-x/held").touch()
    ScratchFolder(tmp_path, "python").remove()
    assert (tmp_path / "archive-x/held").exists()
