"""URIs of results and locators: what is written is read, and nothing else."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from noetl_serverless.uri import KEYS, MAX_NAME_CHARACTERS, TOP_KEYS, Locator, ResultUri, parse

# all of Unicode but the halves of surrogate pairs, which are no text
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)
HEX8, HEX = (st.from_regex(f"[0-9a-f]{{{n}}}", fullmatch=True) for n in ("8", "1,64"))
RESULTS = st.one_of(
    st.builds(ResultUri, st.integers(1, 2**63).map(str), st.just("result"), TEXTS, HEX8),
    st.builds(ResultUri, st.integers(1, 2**63).map(str), st.just("tmp"), TEXTS, HEX),
    st.builds(ResultUri, st.integers(1, 2**63).map(str), st.just("manifest"), TEXTS, st.integers(0, 10**9).map(str)),
)
LOCATORS = st.builds(
    lambda first, rest: Locator((first, *rest)),
    st.tuples(st.sampled_from(sorted(TOP_KEYS)), TEXTS),
    st.lists(st.tuples(st.sampled_from(sorted(KEYS)), TEXTS), max_size=5),
)


@given(RESULTS)
@example(ResultUri("7", "result", ".", "00000000"))
@example(ResultUri("7", "result", "..", "00000000"))
@example(ResultUri("7", "result", "a/b%2Fc", "00000000"))
@example(ResultUri("7", "tmp", "\0?#\n", "0"))
def test_a_result_s_uri_comes_back_whatever_its_name(uri: ResultUri) -> None:
    text = str(uri)
    assert parse(text) == ResultUri.parse(text) == uri
    assert text.count("/") == 6 and text.isascii()


@given(LOCATORS)
def test_a_locator_comes_back_whatever_its_values(locator: Locator) -> None:
    # one of five segments may look like a result; a locator has pairs
    assert Locator.parse(str(locator)) == parse(str(locator)) == locator


@given(RESULTS, RESULTS)
def test_two_results_have_two_uris(one: ResultUri, other: ResultUri) -> None:
    assert (str(one) == str(other)) == (one == other)


@given(st.text(max_size=80), st.sampled_from(["", "noetl://", "noetl://execution/", "noetl://execution/7/result/"]))
def test_any_text_is_read_and_written_as_it_is_or_refused(text: str, start: str) -> None:
    with contextlib.suppress(ValueError):
        assert str(parse(start + text)) == start + text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("noetl://execution/7/result/load", "not the URI of a result"),
        ("noetl://execution/7/result//00000000", "empty segment"),
        ("noetl://execution/7/result/load/00000000?x=1", "query"),
        ("noetl://execution/7/result/load/00000000#x", "fragment"),
        ("noetl://execution/7/result/load/0000000", "8 hexadecimal"),
        ("noetl://execution/7/manifest/load/x", "number"),
        ("noetl://execution/7/result/../00000000", "usual form"),
        ("noetl://execution/7/result/%6Coad/00000000", "usual form"),
        ("noetl://execution/7/result/%ff/00000000", "usual form"),
        ("noetl://node/n", "begins with"),
        ("noetl://tenant/t/planet/p", "no key 'planet'"),
        ("noetl://tenant", "pairs"),
        ("noetl://", "empty segment"),
        ("https://execution/7", "begins with noetl://"),
        ("noetl://tenant/" + "x" * 5000, "more than 4096"),
    ],
)
def test_what_is_refused_says_why(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(text)


@pytest.mark.parametrize("name", ["", "\ud800", "x" * (MAX_NAME_CHARACTERS + 1)])
def test_a_name_that_is_none_has_no_uri(name: str) -> None:
    with pytest.raises(ValueError, match=r"segment|limit"):
        str(ResultUri("7", "result", name, "00000000"))
