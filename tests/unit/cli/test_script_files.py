from __future__ import annotations

from pathlib import Path

import pytest

from noetl_serverless.cli.failure import WrongUse
from noetl_serverless.cli.script_files import with_script_files
from noetl_serverless.playbook.scripts import split, with_scripts

TEXT = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: x}
workflow:
  - step: a
    tool:
      - {kind: python, script: {uri: lib/load.py, source: {type: file}}}
      - {kind: python, script: {uri: lib/load.py}}
      - {kind: duckdb, script: {uri: ./sum.sql}}
      - {kind: python, script: {uri: "https://h/x.py"}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "playbooks"
    (folder / "lib").mkdir(parents=True)
    (folder / "lib" / "load.py").write_text("result = 'ü'\n", encoding="utf-8")
    (folder / "sum.sql").write_text("SELECT 1\r\n", encoding="utf-8", newline="")
    (tmp_path / "secret.py").write_text("secret")
    return folder


def test_the_files_beside_a_playbook_go_with_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = (TEXT, {"lib/load.py": "result = 'ü'\n", "./sum.sql": "SELECT 1\r\n"})
    assert split(with_script_files(TEXT, str(folder / "p.yaml"))) == expected
    monkeypatch.chdir(folder)
    assert split(with_script_files(TEXT, "p.yaml")) == split(with_script_files(TEXT, "-")) == expected


def test_a_file_that_is_not_beside_it_is_looked_for_in_the_current_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = TEXT.replace("./sum.sql", "./playbooks/sum.sql")
    assert split(with_script_files(text, str(folder / "p.yaml")))[1]["./playbooks/sum.sql"] == "SELECT 1\r\n"
    # those beside the playbook come first
    (tmp_path / "sum.sql").write_text("SELECT 2")
    assert split(with_script_files(TEXT, str(folder / "p.yaml")))[1]["./sum.sql"] == "SELECT 1\r\n"


@pytest.mark.parametrize("uri", ["playbooks/../../secret.py", "playbooks/link.py"])
def test_nothing_outside_of_the_current_folder_is_sent(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    (folder / "link.py").symlink_to("../secret.py")
    monkeypatch.chdir(folder)
    with pytest.raises(WrongUse):
        with_script_files(TEXT.replace("./sum.sql", uri), str(tmp_path / "elsewhere" / "p.yaml"))


def test_a_script_in_an_older_place_goes_with_it_too(folder: Path) -> None:
    text = f"{TEXT[: TEXT.index('    tool')]}    tool: python\n    script: {{uri: lib/load.py}}\n"
    assert split(with_script_files(text, str(folder / "p.yaml")))[1].keys() == {"lib/load.py"}


def test_what_came_with_it_is_not_read_again(folder: Path) -> None:
    text = with_scripts(TEXT, {"lib/load.py": "1", "./sum.sql": "2"})
    assert with_script_files(text, "/nowhere/p.yaml") == text


@pytest.mark.parametrize("text", ["script: [", "a: 1", "just: a script", TEXT[: TEXT.index("workflow")]])
def test_what_names_no_script_is_left_as_it_is(text: str) -> None:
    assert with_script_files(text, "/nowhere/p.yaml") == text


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "none.py",
            "there is no script 'none.py' below FOLDER, the folder of the playbook, or CURRENT, the current one",
        ),
        ("../none.py", "there is no script '../none.py' below FOLDER, the folder of the playbook"),
        (".env/x.py", "the script '.env/x.py' is not sent: a part of its path begins with a dot"),
        ("lib", "the script 'lib' cannot be read: Is a directory"),
        ("../secret.py", "the script '../secret.py' is outside the folder of the playbook"),
        ("/etc/hosts", "the script '/etc/hosts' is outside the folder of the playbook"),
        ("link.py", "the script 'link.py' is outside the folder of the playbook"),
        ("large.py", "the script 'large.py' has more than 1048576 bytes"),
    ],
)
def test_what_cannot_be_sent_is_wrong_use(
    folder: Path, monkeypatch: pytest.MonkeyPatch, uri: str, message: str
) -> None:
    current = folder / "lib"
    monkeypatch.chdir(current)
    (folder / ".env").mkdir()
    (folder / ".env" / "x.py").write_text("1")
    (folder / "link.py").symlink_to("../secret.py")
    (folder / "large.py").write_text("x" * (1024 * 1024 + 1))
    file = str(folder / "p.yaml")
    with pytest.raises(WrongUse) as caught:
        with_script_files(TEXT.replace("./sum.sql", uri), file)
    line = TEXT.splitlines().index("      - {kind: duckdb, script: {uri: ./sum.sql}}") + 1
    message = message.replace("FOLDER", str(folder)).replace("CURRENT", str(current))
    assert caught.value.detail.startswith(f"{file}: line {line}, column 38: {message}")
    (error,) = caught.value.problem["errors"]
    assert (error["pointer"], error["line"]) == ("/workflow/0/tool/2/script/uri", line)


@pytest.mark.parametrize("uri", [".ssh/id_rsa", ".netrc", ".config/x.py", "notes.txt", "innocent.sql", "lib/.x.sql"])
@pytest.mark.parametrize("from_standard_input", [False, True])
def test_of_a_current_folder_that_is_not_the_playbooks_only_scripts_are_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, from_standard_input: bool
) -> None:
    home = tmp_path / "home"
    for name in (".ssh/id_rsa", ".netrc", ".config/x.py", "notes.txt", "lib/.x.sql", "lib/load.py", "sum.sql"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("1")
    (home / "innocent.sql").symlink_to(".ssh/id_rsa")
    monkeypatch.chdir(home)
    file = "-" if from_standard_input else str(home / "downloads" / "p.yaml")
    assert split(with_script_files(TEXT, file))[1].keys() == {"lib/load.py", "./sum.sql"}
    with pytest.raises(WrongUse, match=f"the script '{uri}' is not sent"):
        with_script_files(TEXT.replace("./sum.sql", uri), file)


@pytest.mark.parametrize("absolute", [False, True])
def test_of_a_script_that_is_below_the_current_folder_it_is_said_how_to_name_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absolute: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    uri = str(tmp_path / "secret.py") if absolute else "../secret.py"
    with pytest.raises(WrongUse, match=r"; write uri: secret\.py, which is found below the current folder"):
        with_script_files(TEXT.replace("./sum.sql", uri), str(folder / "p.yaml"))
    assert split(with_script_files(TEXT.replace("./sum.sql", "secret.py"), str(folder / "p.yaml")))[1]["secret.py"]
