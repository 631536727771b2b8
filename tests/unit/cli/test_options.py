from __future__ import annotations

from pathlib import Path

import pytest

from noetl_serverless.cli.failure import WrongUse
from noetl_serverless.cli.options import data_directory, read_text, value_or_file, workload


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        (["n=3"], {"n": 3}),
        (["name=abc"], {"name": "abc"}),
        (['name="3"'], {"name": "3"}),
        (["flag=true", "none=null"], {"flag": True, "none": None}),
        (["a.b=1", "a.c=2"], {"a": {"b": 1, "c": 2}}),
        (["url=http://x/?a=b"], {"url": "http://x/?a=b"}),
        (["empty="], {"empty": ""}),
        (["name=NaN", "other=-Infinity"], {"name": "NaN", "other": "-Infinity"}),
    ],
)
def test_set(assignments: list[str], expected: dict[str, object]) -> None:
    assert workload(None, assignments) == expected


def test_set_goes_over_payload() -> None:
    assert workload('{"a": {"b": 1, "c": 1}}', ["a.b=2"]) == {"a": {"b": 2, "c": 1}}


def test_payload_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"n": 1}')
    assert workload(f"@{tmp_path / 'p.json'}", None) == {"n": 1}


@pytest.mark.parametrize(
    ("payload", "assignments", "message"),
    [
        ("{", None, r"--payload: invalid JSON: .*line 1 column 2"),
        ('{"a": NaN}', None, "--payload: invalid JSON: NaN is not a JSON value"),
        ("[1]", None, "must be a JSON object"),
        ("@/nowhere/p.json", None, "/nowhere/p.json: No such file"),
        (None, ["n"], "expected key=value"),
        (None, ["=1"], "expected key=value"),
        ('{"a": 1}', ["a.b=2"], "a is not an object"),
    ],
)
def test_wrong_use_says_what_and_where(payload: str | None, assignments: list[str] | None, message: str) -> None:
    with pytest.raises(WrongUse, match=message):
        workload(payload, assignments)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WrongUse, match="not UTF-8"):
        read_text(str(tmp_path / "x"))


def test_the_default_data_directory_is_the_users() -> None:
    assert data_directory(None).name == "noetl-serverless"
    assert data_directory(Path("/x")) == Path("/x")


def test_a_mistake_names_the_option_that_was_given() -> None:
    with pytest.raises(WrongUse, match=r"^--value: invalid JSON"):
        workload("{", None, "--value")
    with pytest.raises(WrongUse, match=r"^--value must be a JSON object"):
        workload("[]", None, "--value")


def test_a_value_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text('{"n": 1}\n')
    (tmp_path / "v.txt").write_text("as agreed")
    assert value_or_file(f"@{tmp_path}/v.json") == {"n": 1}
    assert value_or_file(f"@{tmp_path}/v.txt") == "as agreed"
    assert (value_or_file("3"), value_or_file("a@b"), value_or_file('"@x"')) == (3, "a@b", "@x")
    with pytest.raises(WrongUse, match="No such file"):
        value_or_file(f"@{tmp_path}/none.json")
