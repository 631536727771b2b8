"""playbooks/REFERENCE.md says what the language is, and shows what tests run."""

from __future__ import annotations

import re
import tomllib
from collections import Counter

import pytest
from tests.conformance.case import FOLDER
from tests.conformance.rows import rows

from noetl_serverless.playbook.older_forms.names import NAMES

from .examples import Examples
from .former import older_forms
from .page import COMMAND, FILE, Page, slug
from .places import language

COVERED: dict[str, list[str]] = tomllib.loads((FOLDER / "coverage.toml").read_text())["language"]
# rows of keys and of their words; the others are about what is no key
KEYS = [row for row in COVERED if re.match(r"[\w.]+\.\w+(: |$)", row) and not row.startswith("event.name: ")]


@pytest.fixture(scope="module")
def page() -> str:
    return Page().text()


@pytest.fixture(scope="module")
def examples() -> Examples:
    return Examples(language())


@pytest.fixture(scope="module")
def older() -> list[str]:
    return [form.older for form in older_forms()]


def test_the_page_is_what_the_language_and_the_conformance_files_say(page: str) -> None:
    # not compared by pytest, which would take long to show the difference
    is_current = page == FILE.read_text()
    assert is_current, f"run `{COMMAND}`"


def test_each_link_within_the_page_leads_to_one_heading(page: str) -> None:
    headings = Counter(slug(heading) for heading in re.findall(r"^#+ (.*)$", _without_code(page), re.MULTILINE))
    assert not [heading for heading, count in headings.items() if count > 1], "headings with the same anchor"
    links = set(re.findall(r"\]\(#([^)]*)\)", page))
    assert links, "the page has no links: has their form changed?"
    assert not links - headings.keys(), "links that lead nowhere"


@pytest.mark.parametrize("row", KEYS)
def test_the_example_of_a_key_is_of_a_file_that_covers_it(row: str, examples: Examples) -> None:
    key, _, word = row.partition(": ")
    if word and any("{{" in text for text in examples.words(key, COVERED[row])):
        # a template gives the word
        return
    example = examples.of(key, word or None)
    assert example is not None, f"{COVERED[row]} have {row!r} only elsewhere than at its place"
    assert example.case.name in COVERED[row], f"{COVERED[row]} do not show {row!r}, but {example.case.name} does"


def test_a_key_that_a_file_covers_has_an_example_on_the_page(page: str) -> None:
    sections = re.split(r"^#### ", page, flags=re.MULTILINE)[1:]
    assert len(sections) > 150, "few keys are found: has the form of the page changed?"
    without = [section.partition("\n")[0].strip("`") for section in sections if "```yaml" not in section]
    not_yet = {row for row in rows() if ":" not in row and row not in COVERED}
    assert len(without) <= len(not_yet), f"{without} have no example, but only {sorted(not_yet)} have no file"


@pytest.mark.parametrize(
    ("part", "name"), [(part, name) for part, names in NAMES.items() for older in names.values() for name in older]
)
def test_an_older_name_has_an_example(part: str, name: str, older: list[str]) -> None:
    assert any(f"{name}:" in text for text in older), f"no file of conformance/older has {name!r} of a {part}"


def _without_code(page: str) -> str:
    return re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
