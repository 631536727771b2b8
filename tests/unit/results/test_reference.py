from __future__ import annotations

import pytest

from noetl_serverless.errors import InvalidRequest
from noetl_serverless.results.reference import (
    MAX_EXTRACT_BYTES,
    MAX_PREVIEW_BYTES,
    MISSING,
    ResultUri,
    at_path,
    extract,
    preview,
    storage_key,
)


@pytest.mark.parametrize(
    "text",
    [
        "noetl://execution/12345/result/load/0a1b2c3d",
        "noetl://execution/12345/result/load%20all%2Feven_these/0a1b2c3d",
        "noetl://execution/12345/manifest/each/3",
    ],
)
def test_uri_survives_parsing_and_writing(text: str) -> None:
    assert str(ResultUri.parse(text)) == text


def test_step_name_is_decoded() -> None:
    uri = ResultUri.parse("noetl://execution/1/result/a%2Fb_c/0a1b2c3d")
    assert uri == ResultUri("1", "result", "a/b_c", "0a1b2c3d")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "noetl://execution/1/result/load",
        "noetl://execution/1/result/load/0a1b2c3",
        "noetl://execution/1/result/load/0A1B2C3D",
        "noetl://execution/1/result/load/0a1b2c3d/",
        "noetl://execution/1/result/load/0a1b2c3d?x=1",
        "noetl://execution/1/result/a/b/0a1b2c3d",
        "noetl://execution/1/result/%6Coad/0a1b2c3d",
        "noetl://execution/1/manifest/each/0a1b2c3d",
        "noetl://execution//result/load/0a1b2c3d",
        "https://execution/1/result/load/0a1b2c3d",
    ],
)
def test_anything_else_is_no_uri(text: str) -> None:
    with pytest.raises(ValueError, match="URI"):
        ResultUri.parse(text)


def test_keys_stay_below_their_execution() -> None:
    assert storage_key("7", "../../etc/passwd", "ab").count("/") == 2
    assert ".." not in storage_key("7", "..", "ab")
    assert storage_key("7", "a/b", "ab") != storage_key("7", "a_b", "ab")


def test_long_step_names_keep_apart() -> None:
    one, other = storage_key("7", "x" * 300 + "1", "ab"), storage_key("7", "x" * 300 + "2", "ab")
    assert one != other
    assert max(len(part) for part in one.split("/")) < 200


def test_small_scalars_at_the_top_are_extracted() -> None:
    data = {"n": 3, "name": "x", "none": None, "flag": True, "rows": [1], "deep": {"n": 4}, "long": "y" * 300}
    assert extract(data) == {"n": 3, "name": "x", "none": None, "flag": True}


def test_extraction_ends_at_its_limit() -> None:
    fields = extract({f"k{i}": "v" * 100 for i in range(1000)})
    assert 0 < sum(len(k) + len(v) for k, v in fields.items()) <= MAX_EXTRACT_BYTES


def test_selected_paths_are_extracted_under_their_names() -> None:
    data = {"rows": [{"id": 7}, {"id": 8}], "page": {"next": "abc"}}
    select = [("$.rows[1].id", "second"), ("$.page", "page"), ("$.rows[9]", "none")]
    assert extract(data, select) == {"second": 8, "page": {"next": "abc"}}


def test_selecting_too_much_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="big"):
        extract({"big": ["x" * 100] * 1000}, [("$.big", "big")])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$", {"a": [{"b-c": 1}], "o k": 2}),
        ("$.a[0]", {"b-c": 1}),
        ("$.a[0].b-c", 1),
        ("a[0]", {"b-c": 1}),
        ("$['o k']", 2),
        ("$.a.b", MISSING),
        ("$.a[3]", MISSING),
        ("$.zz", MISSING),
    ],
)
def test_paths(path: str, value: object) -> None:
    found = at_path({"a": [{"b-c": 1}], "o k": 2}, path)
    assert found is value if value is MISSING else found == value


@pytest.mark.parametrize("path", ["$..a", "$.a[x]", "$.a[", "$.*"])
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="JSON path"):
        at_path({}, path)


def test_preview_is_short_and_whole_characters() -> None:
    text = preview(('"' + "é" * 5000 + '"').encode())
    assert len(text.encode()) <= MAX_PREVIEW_BYTES
    assert text.endswith("…")
