"""What rules for a child allow and refuse, tried by a process that is under them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from noetl_serverless.tools.private_folders import PrivateFolders, Rules, is_enforced

pytestmark = pytest.mark.skipif(not is_enforced(), reason="the kernel has no Landlock (Linux 5.19 or later)")

# runs statements under rules, and prints for each what went wrong
UNDER_RULES = """
import os, sys
from noetl_serverless.tools.confinement import drop_privileges
from noetl_serverless.tools.landlock import restrict_self
drop_privileges()
restrict_self(int(sys.argv[1]))
for statement in sys.argv[2:]:
    try:
        exec(statement)
        print("done")
    except OSError as error:
        print(type(error).__name__)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A private folder, with another one in it that it does without, beside what is not private."""
    home = tmp_path / "user" / "data" / "stack"
    (home / "scratch" / "own").mkdir(parents=True)
    (home / "inner").mkdir()
    for path in (home / "secret", home / "inner" / "secret", home / "scratch" / "other", home.parent / "beside"):
        path.write_text("text")
    (tmp_path / "user" / "documents").mkdir()
    (tmp_path / "user" / "documents" / "link").symlink_to(home / "secret")
    (tmp_path / "user" / "way").symlink_to(home)
    return home


def under_rules(home: Path, *statements: str) -> list[str]:
    private = PrivateFolders([str(home), str(home / "inner")])
    rules = private.rules(str(home / "scratch" / "own"))
    assert rules is not None
    private.renew(rules)
    return under(rules, home, *statements)


def under(rules: Rules, home: Path, *statements: str) -> list[str]:
    os.set_inheritable(rules.descriptor, True)
    try:
        done = subprocess.run(
            [sys.executable, "-c", UNDER_RULES, str(rules.descriptor), *statements],
            pass_fds=[rules.descriptor],
            cwd=home / "scratch" / "own",
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        os.close(rules.descriptor)
    return done.stdout.split()


def test_what_is_in_a_private_folder_is_refused_by_every_path(home: Path) -> None:
    user = home.parents[1]
    paths = [home / "secret", home / "inner" / "secret", home / "scratch" / "other", user / "documents" / "link"]
    paths += [user / "way" / "secret", Path("../../secret"), Path(f"/proc/self/root{home}/secret")]
    found = under_rules(home, *(f"open({str(path)!r})" for path in paths))
    assert dict(zip(paths, found, strict=True)) == dict.fromkeys(paths, "PermissionError")


def test_a_private_folder_can_be_neither_changed_nor_moved(home: Path) -> None:
    statements = [
        f"open({str(home / 'secret')!r}, 'w')",
        f"open({str(home / 'new')!r}, 'x')",
        f"os.unlink({str(home / 'secret')!r})",
        f"os.mkdir({str(home / 'new')!r})",
        f"os.rename({str(home / 'secret')!r}, 'here')",
        f"os.link({str(home / 'secret')!r}, 'here')",
        f"os.rename({str(home)!r}, {str(home) + '2'!r})",
        f"os.rename({str(home.parent)!r}, {str(home.parent) + '2'!r})",
        f"os.truncate({str(home / 'secret')!r}, 0)",
    ]
    found = under_rules(home, *statements)
    assert [pair for pair in zip(statements, found, strict=True) if pair[1] == "done"] == []
    assert (home / "secret").read_text() == "text"


def test_all_else_stays_as_it_is(home: Path, tmp_path: Path) -> None:
    documents = home.parents[1] / "documents"
    statements = [
        f"open({str(home.parent / 'beside')!r}).read()",
        f"open({str(documents / 'new')!r}, 'w').write('x')",
        f"os.mkdir({str(documents / 'folder')!r})",
        f"os.rename({str(documents / 'new')!r}, {str(documents / 'folder' / 'new')!r})",
        f"os.listdir({str(tmp_path)!r})",
        "open('own', 'w').write('x')",
        "open('own').read()",
        "os.rename('own', 'renamed')",
        f"os.link('renamed', {str(documents / 'linked')!r})",
        "open('/dev/null', 'w').write('x')",
        "open('/proc/self/status').read()",
        "import subprocess; subprocess.run(['true'], check=True)",
    ]
    assert dict(zip(statements, under_rules(home, *statements), strict=True)) == dict.fromkeys(statements, "done")


@pytest.mark.parametrize("others", [0, 500])
def test_what_appears_beside_a_private_folder_is_allowed_once_the_rules_are_renewed(home: Path, others: int) -> None:
    private = PrivateFolders([str(home)])
    rules = private.rules(str(home / "scratch" / "own"))
    assert rules is not None
    private.renew(rules)
    # so many that come and go that they are listed anew
    for number in range(others):
        (home.parent / "other").write_text(str(number))
        private.renew(rules)
        (home.parent / "other").rename(home.parent / f"other-{number}")
        private.renew(rules)
        (home.parent / f"other-{number}").unlink()
    for place in (home, home.parent):
        (place / "new").write_text("text")
    # the same path, and another file
    (home.parent / "beside").unlink()
    (home.parent / "beside").write_text("text")
    private.renew(rules)
    looks = [f"open({str(path)!r}).read()" for path in (home.parent / "new", home.parent / "beside", home / "new")]
    assert under(rules, home, *looks) == ["done", "done", "PermissionError"]
