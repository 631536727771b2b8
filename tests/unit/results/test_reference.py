from __future__ import annotations

import pytest

from noetl_serverless.results.reference import MAX_PREVIEW_BYTES, ResultUri, preview, storage_key


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


def test_preview_is_short_and_whole_characters() -> None:
    text = preview(('"' + "é" * 5000 + '"').encode())
    assert len(text.encode()) <= MAX_PREVIEW_BYTES
    assert text.endswith("…")


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 5])
def test_a_preview_may_be_shorter(limit: int) -> None:
    assert len(preview(b"0123456789", limit).encode()) <= limit
    assert preview(b"01", 2) == "01"
