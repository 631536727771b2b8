from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.errors import Fault, json_pointer
from noetl_serverless.playbook.document import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_DUPLICATES,
    Document,
    Unreadable,
    plain_data,
    read_document,
)


def refused(text: str) -> Fault:
    with pytest.raises(Unreadable) as caught:
        read_document(text)
    return caught.value.fault


def data(text: str) -> Any:
    return plain_data(read_document(text).root)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("0x1f", 31),
        ("yes", True),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ("! 1", "1"),
        ("!!str 1", "1"),
        ("!!int '7'", 7),
        ("2024-01-01", "2024-01-01"),
        ("12:30", "12:30"),
        ("1:30.5", "1:30.5"),
        ("=", "="),
        ("1.5e3", 1500.0),
        ("1e3", "1e3"),
        # as json.dumps and JavaScript write them
        ("1e-06", 1e-06),
        ("-1.5e-07", -1.5e-07),
        ("1e+16", 1e16),
        ("[1e-06, 1E-9]", [1e-06, 1e-09]),
        ("'1e-06'", "1e-06"),
        ("1e-", "1e-"),
        ("|\n  a\n  b", "a\nb\n"),
    ],
)
def test_scalars_are_those_of_json(text: str, value: Any) -> None:
    assert data(f"x: {text}\n") == {"x": value}


def test_keys_are_texts_as_written() -> None:
    assert data("on: 1\n404: 2\n~: 3\n") == {"on": 1, "404": 2, "~": 3}


def test_aliases_and_merges() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [*a, {z: 4}]}\nd: [*a]\n"
    merged = data(text)
    assert merged["b"] == {"x": 1, "y": 3}
    assert merged["c"] == {"x": 1, "y": 2, "z": 4}
    assert merged["d"] == [{"x": 1, "y": 2}]


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("a: 1\nb: : 2", 2, 4, "mapping values"),
        ("a: 'x", 1, 6, "quoted scalar"),
        ("a: 1\n\tb: 2", 2, 1, "tab character"),
        ("", 1, 1, "empty"),
        ("# nothing\n", 1, 1, "empty"),
        ("a: 1\n---\nb: 2", 2, 1, "one document"),
        ("a:\n  - *b", 2, 5, "not defined"),
        ("a: &a\n  - *a", 2, 5, "refers to an object that contains it"),
        ("a: !!python/object:os.system x", 1, 4, "not allowed"),
        ("a: !mine x", 1, 4, "not allowed"),
        ("a: !!set {x}", 1, 4, "not allowed"),
        ("a: !!binary aGk=", 1, 4, "not allowed"),
        ("? [a]\n: 1", 1, 3, "plain string"),
        ("a: {!t b: 1}", 1, 5, "a key cannot have a tag, as here !t"),
        ("!!str a: 1", 1, 1, "a key cannot have a tag"),
        ("a: {{ b }}", 1, 5, 'a text that begins with a template needs quotes: "{{ ... }}"'),
        ("a:\n  - {{ b }}-x", 2, 6, "needs quotes"),
        ("a: {% if b %}x{% endif %}", 1, 5, 'needs quotes: "{% ... %}"'),
        ("a: .inf", 1, 4, "not a JSON number"),
        ("a: 99999999999999999999", 1, 4, "64 bits"),
        ("a: " + "9" * 5000, 1, 4, "int"),
        ("a: !!int x", 1, 4, "not a value of type int"),
        ('a: "\\0"', 1, 4, "cannot be stored"),
        ("a: 1\nb: \x07", 2, 1, "control characters"),
        ("a: 1\nb: \ud800", 2, 1, "unpaired surrogate"),
        ("a: {<<: 1}", 1, 9, "<< must be a mapping"),
    ],
)
def test_what_cannot_be_read_has_its_place(text: str, line: int, column: int, message: str) -> None:
    fault = refused(text)
    assert (fault.line, fault.column) == (line, column)
    assert message in fault.message


@pytest.mark.parametrize("text", ["a: 1\nbc: [\n", "a: 1\nb", "a: 1\n*b", "a: 1\n'b\n"])
def test_what_is_missing_at_the_end_is_missing_in_the_last_line(text: str) -> None:
    fault, last = refused(text), text.splitlines()[-1]
    assert (fault.line, fault.column) == (2, len(last) + 1), fault


class TestBounds:
    def test_bytes(self) -> None:
        assert refused("a: " + "ä" * (MAX_BYTES // 2)).code == "playbook.too_large"

    def test_depth(self) -> None:
        assert data("[" * MAX_DEPTH + "]" * MAX_DEPTH)
        for opening in ("[", "{a: ", "- "):
            fault = refused(opening * (MAX_DEPTH + 1) + "1")
            assert fault.code == "playbook.too_large"
        assert refused("[" * 500_000)

    def test_depth_through_aliases(self) -> None:
        text = "a0: &a0 " + "[" * 40 + "]" * 40 + "\na1: " + "[" * 30 + "*a0" + "]" * 30
        assert refused(text).message == f"nested deeper than {MAX_DEPTH} levels"

    def test_the_billion_laughs(self) -> None:
        lines = ["l0: &l0 [" + "x," * 9 + "x]"]
        lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12)]
        fault = refused("\n".join(lines))
        assert fault.code == "playbook.too_large"
        assert "aliases counted" in fault.message

    def test_as_mappings_and_merges(self) -> None:
        lines = ["l0: &l0 {a: 1, b: 2, c: 3, d: 4}"]
        lines += [f"l{n}: &l{n} {{a: *l{n - 1}, b: *l{n - 1}, c: *l{n - 1}}}" for n in range(1, 20)]
        assert refused("\n".join(lines)).code == "playbook.too_large"


class TestPlaces:
    def test_every_value_and_key_has_its_mark(self) -> None:
        document = read_document("a:\n  - b: |\n      one\n      two\n    c: 2\n")
        found, mark = document.find(("a", 0, "b"))
        assert found == ["a", 0, "b"]
        assert (mark.line, mark.column, mark.content) == (2, 8, 3)
        fault = document.fault("m", ("a", 0, "c"), key=True)
        assert (fault.line, fault.column, fault.pointer) == (5, 5, "/a/0/c")

    def test_what_the_document_lacks_is_left_out_of_a_path(self) -> None:
        document = read_document("a: {b: 1}")
        assert document.find(("a", "tag", "b", "c"))[0] == ["a", "b"]
        assert document.value(("a", "c")) is None

    def test_an_alias_stands_where_it_is_used(self) -> None:
        document = read_document("a: &a {x: 1}\nb: *a\n")
        assert document.find(("b",))[1].line == 2
        assert document.find(("b", "x"))[1].line == 1

    def test_duplicate_keys_are_all_found(self) -> None:
        document = read_document("a: 1\na: 2\nb:\n  c: 1\n  c: 2\n")
        assert isinstance(document, Document)
        places = [(fault.pointer, fault.line, fault.code) for fault in document.faults]
        assert places == [("/a", 2, "playbook.duplicate_key"), ("/b/c", 5, "playbook.duplicate_key")]

    @pytest.mark.parametrize("value", ["1", "x", "false", "null", "1.5"])
    def test_the_same_scalar_twice_under_one_key_is_a_warning(self, value: str) -> None:
        document = read_document(f"a: {value}\nb: {{}}\na: {value}\n")
        assert not document.faults
        assert [(fault.pointer, fault.line, fault.code) for fault in document.warnings] == [
            ("/a", 3, "playbook.duplicate_key")
        ]

    @pytest.mark.parametrize(
        ("first", "second"),
        [("1", "true"), ("1", "1.0"), ("1", "'1'"), ("[1]", "[1]"), ("{x: 1}", "{x: 1}"), ("", "x"), ("0.0", "-0.0")],
    )
    def test_what_is_not_the_same_scalar_is_a_fault(self, first: str, second: str) -> None:
        document = read_document(f"a: {first}\na: {second}\n")
        assert [fault.line for fault in document.faults] == [2] and not document.warnings

    def test_only_some_are_warnings(self) -> None:
        document = read_document("a: 1\n" * (MAX_DUPLICATES + 3))
        assert (len(document.warnings), len(document.faults)) == (MAX_DUPLICATES, 2)

    def test_pointers_escape(self) -> None:
        assert json_pointer(("a/b", 0, "c~d")) == "/a~1b/0/c~0d"


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("plain", (2, 6, 0)),
        ("'quoted'", (2, 7, 0)),
        ('"quoted"', (2, 7, 0)),
        ("|\n      text", (3, 7, 6)),
        (">-\n\n   text", (3, 4, 3)),
        ("|2\n      text", (3, 5, 4)),
    ],
)
def test_the_place_of_a_text_is_without_its_quotes_and_its_indentation(value: str, place: tuple[int, int, int]) -> None:
    _, mark = read_document(f"top:\n  a: {value}\n").find(["top", "a"])
    assert (mark.content, mark.content_column, mark.indent) == place
