from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl_serverless.playbook.sql_text import parts

FRAGMENTS = ["'", "''", "E'", '"', "$$", "$a$", "--", "/*", "*/", "\\", "\n", "\r", " ", "e", "x", "1", ";", "?"]


def kinds(text: str) -> list[tuple[str, str]]:
    return [(part.kind, text[part.start : part.end]) for part in parts(text)]


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        ("a 'it''s;' b", "text", "'it''s;'"),
        ("a E'it\\'s' b", "escaped", "E'it\\'s'"),
        ("a e'\\\\' b", "escaped", "e'\\\\'"),
        # the second is read as the first, with its backslash
        ("a E'x' \n 'y\\'' b", "escaped", "E'x' \n 'y\\''"),
        ("a E'x' -- more\n 'y\\'' b", "escaped", "E'x' -- more\n 'y\\''"),
        ("a E'x' 'y\\' b", "text", "'y\\'"),
        ('a "it""s" b', "identifier", '"it""s"'),
        ("a $$it's$$ b", "dollar", "$$it's$$"),
        ("a $x$ $$ ; $$ $x$ b", "dollar", "$x$ $$ ; $$ $x$"),
        ("a $é$ ; $é$ b", "dollar", "$é$ ; $é$"),
        ("a -- it's\n b", "comment", "-- it's"),
        ("a -- it's\r b", "comment", "-- it's"),
        ("a /* b /* c */ d */ b", "comment", "/* b /* c */ d */"),
        ("a /*/* c */*/ b", "comment", "/*/* c */*/"),
        ("a */**/ b", "comment", "/**/"),
    ],
)
def test_what_is_quoted_or_commented_is_one_part(text: str, kind: str, found: str) -> None:
    assert (kind, found) in kinds(text)
    assert kinds(text)[-1][0] == "sql"


@pytest.mark.parametrize("text", ["a$$b$$", "name'", "typE'\\'", "$1$$", "a$e'\\'", "éE'\\'"])
def test_what_a_name_goes_on_with_opens_nothing_of_its_own(text: str) -> None:
    assert {kind for kind, _ in kinds(text)} <= {"sql", "text"}


@pytest.mark.parametrize("text", ["'a", "'a''", "E'a\\'", '"a', "$$ a $", "$a$ $$", "/* /* */", "E'a'\n'b\\'"])
def test_what_is_not_closed_reaches_to_the_end(text: str) -> None:
    (last,) = parts(text)
    assert (last.end, last.closed) == (len(text), False)


def test_a_line_of_comment_needs_no_end() -> None:
    assert all(part.closed for part in parts("select 1 -- done"))


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=40).map("".join))
def test_the_parts_are_the_whole_text_in_order(text: str) -> None:
    found = list(parts(text))
    assert "".join(text[part.start : part.end] for part in found) == text
    assert all(before.end == after.start for before, after in pairwise(found))
    assert all(part.closed for part in found[:-1])


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=40).map("".join))
def test_closed_quotes_and_comments_are_the_same_wherever_they_stand(text: str) -> None:
    for part in parts(text):
        if part.closed and part.kind != "sql":
            alone = f"({text[part.start : part.end]}\n)"
            assert kinds(alone)[1] == (part.kind, text[part.start : part.end])


def test_a_long_text_that_is_not_closed_is_read_in_one_go() -> None:
    # it would take hours, did each quote try all that follows it
    (part,) = parts("'" + "a''" * 200_000)
    assert not part.closed
