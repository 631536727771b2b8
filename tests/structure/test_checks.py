"""The checks of the tree, on trees that are made for them; and this tree."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from .checks import (
    banned_attributes,
    banned_words,
    circles,
    dead_names,
    fragments,
    modules_of,
    positional_calls,
    text_files,
)
from .rules import findings


def tree(tmp_path: Path, **texts: str) -> Path:
    """A package `p` of these modules; `a__b` is the module b of the package a."""
    for name, text in {"__init__": "", **texts}.items():
        path = tmp_path / "p" / f"{name if name == '__init__' else name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text)
    return tmp_path / "p"


def test_this_library_keeps_its_rules() -> None:
    assert not findings(), "\n".join(map(str, findings()))


def test_a_circle_is_found_also_where_an_import_is_late_or_for_types(tmp_path: Path) -> None:
    late = "def f():\n    from . import b\n    return b\n"
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p import a\n"
    modules = modules_of(tree(tmp_path, a="from .x.c import d\n", x__c=late, x__b=typed))
    (found,) = circles(modules)
    assert found.message.count("->") == 3
    edges = set(pairwise(found.message.split(" -> ")))
    assert edges == {("p.a", "p.x.c"), ("p.x.c", "p.x.b"), ("p.x.b", "p.a")}


def test_modules_that_share_what_they_import_are_no_circle(tmp_path: Path) -> None:
    assert not list(circles(modules_of(tree(tmp_path, a="from .x import b\n", x__b="import p.c\n", c=""))))


def test_a_banned_word_is_found_in_whatever_has_a_name(tmp_path: Path) -> None:
    text = (
        "import os as the_twin\nclass TwinStore: ...\ndef twin(x, twin_of=1): ...\n"
        "x.twin = 1\nTWIN_SECONDS = 1\ntwinkle = 1\n'twin'\n"
    )
    texts = {"a": text, "twin": ""}
    modules = modules_of(tree(tmp_path, **texts))
    named = {found.message.split("'")[1] for found in banned_words(modules, {"twin": "fake"})}
    assert named == {"the_twin", "TwinStore", "twin", "twin_of", "TWIN_SECONDS"}
    places = {found.place for found in banned_words(modules, {"twin": "fake"})}
    assert {"p/a.py:2", "p/twin.py:1"} <= places


def test_a_folder_may_hold_banned_words_for_a_reason_that_it_needs(tmp_path: Path) -> None:
    modules = modules_of(tree(tmp_path, x__a="twin = 1\n", y__a="", z__a="the_twin = 1\n"))
    found = list(banned_words(modules, {"twin": "fake"}, {"p/x": "it is quoted", "p/y": "it was quoted"}))
    assert [(finding.place, finding.message) for finding in found] == [
        ("p/z/a.py:1", "'the_twin': not 'twin', but fake"),
        ("p/y", "has a reason in rules.toml, and needs none"),
    ]


def test_a_banned_word_is_found_in_the_name_of_a_package_and_in_its_forms(tmp_path: Path) -> None:
    text = "def twins(): ...\ndef f():\n    global twinned\nf(twinning=1)\ntwine = 1\n"
    modules = modules_of(tree(tmp_path, **{"twin__a": text}))  # noqa: PIE804
    named = {found.message.split("'")[1] for found in banned_words(modules, {"twin": "fake"})}
    assert named == {"twin", "twins"}, "a doubled consonant is another word"
    assert [
        found.place for found in banned_words(modules_of(tree(tmp_path, b="burying = rung = 1\n")), {"bury": "reap"})
    ] == ["p/b.py:1"]


def test_a_banned_word_is_found_in_sql_and_terraform_outside_comments_and_strings(tmp_path: Path) -> None:
    (tmp_path / "a.sql").write_text("-- a twin\nSELECT 'twin' FROM one\n  JOIN twin ON true;\n")
    (tmp_path / "b.tf").write_text('# twin\nresource "aws_x" "the_twin" {\n  name = "twin"\n}\n')
    found = list(banned_words(text_files(tmp_path, tmp_path, ".sql", ".tf"), {"twin": "fake"}))
    assert [each.place for each in found] == ["a.sql:3", "b.tf:2"]


def test_a_banned_attribute_is_found_unless_there_is_a_reason_that_is_needed(tmp_path: Path) -> None:
    modules = modules_of(
        tree(tmp_path, a="def f(batch): return batch.nbytes\n", b="x.nbytes\n", c="nbytes = 'nbytes'\n")
    )
    exempt = {"nbytes": {"p/b.py": "of bytes", "p/c.py": "it was of bytes"}}
    found = list(banned_attributes(modules, {"nbytes": "use size_of"}, exempt))
    assert [(finding.place, finding.message) for finding in found] == [
        ("p/a.py:1", ".nbytes: use size_of"),
        ("p/c.py", "has a reason in tests/structure/rules.toml for .nbytes, and needs none"),
    ]


def test_a_short_module_with_one_importer_needs_a_reason(tmp_path: Path) -> None:
    modules = modules_of(
        tree(tmp_path, a="from .b import x\nfrom . import long\n", b="x = 1\n", long="x = 1\n" * 30, alone="")
    )
    (found,) = fragments(modules, {})
    assert (found.place, found.rule) == ("p/b.py", "fragment")
    assert not list(fragments(modules, {"p/b.py": "it is the place of x"}))
    (needless,) = [
        found for found in fragments(modules, {"p/b.py": "so", "p/long.py": "so"}) if found.place != "p/b.py"
    ]
    assert needless.place == "p/long.py"


def test_a_record_that_is_made_of_five_values_by_position_is_found(tmp_path: Path) -> None:
    record = "from dataclasses import dataclass\n@dataclass\nclass R:\n    a: int\n    @classmethod\n    def of(cls):\n"
    modules = modules_of(
        tree(
            tmp_path,
            a=record + "        return cls(1, 2, 3, 4, 5)\n",
            b="from . import a\na.R(1, 2, 3, 4, 5)\na.R(1, 2, 3, 4, b=5)\nprint(1, 2, 3, 4, 5)\n",
        )
    )
    assert [finding.place for finding in positional_calls(modules)] == ["p/a.py:7", "p/b.py:2"]


def test_a_name_that_nothing_uses_is_found_unless_it_has_a_reason(tmp_path: Path) -> None:
    package = tree(
        tmp_path, a="def used(): ...\ndef left(): ...\ndef called(): ...\n", b="from .a import used\nused()\n"
    )
    tree(tmp_path, models__answer="class Answer:\n    field: int\n")
    reasons = {"called": "by somebody", "used": "by nobody"}
    found = list(dead_names([package], tmp_path, reasons, "p/models"))
    assert [(finding.place, finding.message) for finding in found] == [
        ("p/a.py:2", "nothing uses the function 'left': delete it, or say who does in tests/structure/rules.toml"),
        ("tests/structure/rules.toml", "'used' has a reason, and needs none"),
    ]
