"""`canonical`: what the layout is, that comments stay where they belong, and that no value changes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from noetl_serverless.playbook.document import Unreadable, plain_data, read_document
from noetl_serverless.playbook.layout.canonical import NotFormatted, canonical
from noetl_serverless.playbook.layout.order import PLAYBOOK
from noetl_serverless.playbook.scripts import split, with_scripts

PAGE = Path(__file__).parents[4] / "playbooks" / "README.md"
EXAMPLES = sorted((Path(__file__).parents[4] / "playbooks").glob("*.yaml"))


def form(text: str) -> str:
    """The layout of `text`, which stays as it is when it is laid out again."""
    laid_out = canonical(dedent(text))
    assert canonical(laid_out) == laid_out, f"not stable:\n{laid_out}"
    return laid_out


def text(expected: str) -> str:
    return dedent(expected).lstrip("\n")


def test_keys_of_the_language_are_in_one_order_and_those_of_authors_as_written() -> None:
    written = """
    workflow:
    - next:
          arcs: [{set: {ctx.b: 1, ctx.a: 2}, when: "{{ x }}", step: b}]
      tool:
          spec: {timeout: 1}
          url: u
          kind: http
          headers: {z: 1, a: 2}
      step: a
    workload: {z: 1, a: 2}
    kind: Playbook
    metadata: {path: t/a, name: a}
    apiVersion: noetl.io/v2
    """
    assert form(written) == text("""
    apiVersion: noetl.io/v2
    kind: Playbook
    metadata: {name: a, path: t/a}
    workload: {z: 1, a: 2}
    workflow:
      - step: a
        tool:
          kind: http
          url: u
          headers: {z: 1, a: 2}
          spec: {timeout: 1}
        next:
          arcs: [{step: b, when: "{{ x }}", set: {ctx.b: 1, ctx.a: 2}}]
    """)


def test_comments_move_with_the_key_that_they_are_about() -> None:
    written = """
    # of the file

    kind: Playbook   # what it is
    # of the version
    apiVersion: noetl.io/v2
    workflow:
      # of the step
      - tool:  # of the tool
          # of the code
          code: |  # of the block
            x = 1  # Python
          kind: python
          # end of the tool
        step: a


      # of the next step
      - step: b  # at its side
        tool: {kind: noop}
      # end of the steps
    # end of the file
    """
    assert form(written) == text("""
    # of the file

    # of the version
    apiVersion: noetl.io/v2
    kind: Playbook  # what it is
    workflow:
      # of the step
      - step: a
        tool:  # of the tool
          kind: python
          # of the code
          code: |  # of the block
            x = 1  # Python
          # end of the tool

      # of the next step
      - step: b  # at its side
        tool: {kind: noop}
      # end of the steps
    # end of the file
    """)


def test_texts_of_several_lines_become_blocks() -> None:
    written = r"""
    a: "x = 1\nresult = x\n"
    b: {code: "x = 1\nresult = x"}
    c: ['one

      two']
    d: >-
        folded
        text
    e: plain
       text
    f: " begins with a space\nand so stays"
    g: |
           deep
             deeper
    """
    assert form(written) == text(r"""
    a: |
      x = 1
      result = x
    b:
      code: |-
        x = 1
        result = x
    c:
      - |-
        one
        two
    d: >-
      folded
      text
    e: plain
      text
    f: " begins with a space\nand so stays"
    g: |
      deep
        deeper
    """)


def test_a_comment_behind_the_indicators_of_a_block_is_none_of_its_text() -> None:
    assert form("a: |-\t# tabbed\n   x\nb: 1\n") == "a: |-  # tabbed\n  x\nb: 1\n"
    assert form("a: | # 1 + 1\n   x\n\nb: 1\n") == "a: |  # 1 + 1\n  x\n\nb: 1\n"


def test_brackets_stay_where_they_fit_on_one_line() -> None:
    items = [f"item_{number}" for number in range(20)]
    long = f"{', '.join(items[:9])},\n  {', '.join(items[9:])}"
    written = f"a: {{b: 1,\n    c:   [1,2]}}\nd: [{long}]\ne: {{x: [1, # one\n  2]}}\n"
    assert form(written).splitlines()[:3] == ["a: {b: 1, c: [1, 2]}", "d:", "  - item_0"]
    assert form(written).splitlines()[-4:] == ["e:", "  x:", "    - 1  # one", "    - 2"]


def test_an_anchor_stays_before_its_aliases() -> None:
    written = """
    workflow:
      - tool: &t {kind: noop}
        step: a
      - spec: &s {timeout: 1}
        tool: {kind: http, url: u, spec: *s}
        step: b
        <<: {desc: x}
    """
    assert form(written) == text("""
    workflow:
      - step: a
        tool: &t {kind: noop}
      - spec: &s {timeout: 1}
        tool: {kind: http, url: u, spec: *s}
        step: b
        <<: {desc: x}
    """)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("# c\n---\n\na: 1\n", "# c\n---\na: 1\n"),
        ("# c\n\n\n---\n\n\na: 1\n", "# c\n---\na: 1\n"),
        ("---\n# c\n\na: 1\n", "# c\n---\na: 1\n"),
        ("# c\n\n\na: 1\n", "# c\n\na: 1\n"),
    ],
)
def test_no_blank_line_stands_before_a_marker(written: str, expected: str) -> None:
    assert form(written) == form(expected) == expected


@pytest.mark.parametrize(
    "written",
    [
        "a: yes\nb: 012\nc: 1_000\nd: ~\ne:\nf: 2020-01-01\ng: !!str 5\n",
        "---\na: 1\n",
        "? a\n: 1\n",
        "'a': 1\n\"b\": 2\n? |\n  c\n: 3\n",
        "a: |+\n  keeps\n\n\nb: |-\n  x\n\n\nc: 1\n",
        "a: |2\n   x\nb: |\n\n  y\n",
        "a: |\n  no line end",
        "a:\n- - 1\n  - 2\n-\n  # in it\n  - 3\n- &x\n  b: 1\n- *x\n",
        "a: [ # c\n]\nb: {}\nc: [b: 1, {c}]\n",
        "a: # one\n  # two\n  b: 1\n",
        "\ufeffa: 1\r\nb: |\r\n  x\r\n  y\r\n",
        "a: 'it''s'\nb: \"tab\\t\\\n  joined\"\n",
        "a: ! b\n",
    ],
)
def test_values_stay_the_same(written: str) -> None:
    before, after = read_document(written), read_document(form(written))
    assert plain_data(after.root) == plain_data(before.root)
    assert json.dumps(plain_data(after.root), sort_keys=True) == json.dumps(plain_data(before.root), sort_keys=True)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("a: [1", "flow sequence"),
        ("a: 1\na: 2\n", "duplicate key 'a'"),
        ("- 1\n", "must be a mapping"),
        ("%YAML 1.1\n---\na: 1\n", "directives"),
        ("", "empty"),
        ("# about nothing\n{}\n", "comments would not stay"),
    ],
)
def test_what_cannot_be_read_is_refused(written: str, reason: str) -> None:
    with pytest.raises(NotFormatted, match=reason):
        canonical(written)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_in_it(path: Path) -> None:
    assert form(path.read_text()) == path.read_text()


def test_the_page_has_the_orders_of_keys() -> None:
    page = PAGE.read_text()
    step, tool = PLAYBOOK.parts["workflow"], PLAYBOOK.parts["workflow"].parts["tool"]
    for name, part in (("playbook", PLAYBOOK), ("step", step)):
        row = f"| {name} | {', '.join(part.first)}, ..., {', '.join(part.last)} |"
        assert row in page, f"the page has no row {row}"
    assert f"..., {', '.join(tool.last)} |" in page
    for part in (step.parts["loop"], step.parts["next"].parts["arcs"], *step.parts["next"].parts.values()):
        assert ", ".join(part.first) in page


SCALARS = ["x", "1", "yes", "'a b'", '"a\\nb"', '"{{ x }}"', "~", "a # no", "it's", '"# no"', "-1", "null", "''"]
KEYS = ["step", "tool", "kind", "name", "spec", "next", "arcs", "when", "workflow", "apiVersion", "'quoted'", "a b"]


def random_yaml(seed: int) -> tuple[str, int]:
    """A document in many styles, and how many comments it has."""
    draw = random.Random(seed)
    count = 0

    def comment(indent: str) -> str:
        nonlocal count
        blank = "\n" * draw.choice((0, 0, 0, 1, 2))
        if draw.random() < 0.7:
            return blank
        count += 1
        return f"{blank}{indent}# c{count}\n"

    def side() -> str:
        nonlocal count
        if draw.random() < 0.8:
            return "\n"
        count += 1
        return f"{' ' * draw.randint(1, 3)}# c{count}\n"

    def flow(depth: int) -> str:
        nonlocal count
        sep = draw.choice((", ", ",", ",\n      "))
        if depth > 2 or draw.random() < 0.5:
            return draw.choice([value for value in SCALARS if "#" not in value or value.startswith('"')])
        items = [flow(depth + 1) for _ in range(draw.randint(0, 3))]
        if draw.random() < 0.5:
            return f"[{sep.join(items)}]"
        return (
            "{"
            + sep.join(f"{key}: {item}" for key, item in zip(draw.sample(KEYS, len(items)), items, strict=True))
            + "}"
        )

    def block(indent: str, depth: int) -> str:
        step = indent + " " * draw.randint(1, 4)
        is_map = depth == 0 or draw.random() < 0.6
        out = ""
        for key in draw.sample(KEYS, draw.randint(1, 4)):
            out += comment(indent)
            head = f"{indent}{key}:" if is_map else f"{indent}-"
            match draw.randint(0, 5 if depth < 4 else 3):
                case 0:
                    out += f"{head} {draw.choice(SCALARS)}{side()}"
                case 1:
                    out += f"{head} {flow(0)}{side()}"
                case 2:
                    chomp = draw.choice(("", "-", "+"))
                    lines = [draw.choice(("code", "  deeper", "", "# no")) for _ in range(draw.randint(1, 4))]
                    lines[0] = "first"
                    tail = "\n" * draw.choice((0, 1)) if chomp != "+" else ""
                    out += (
                        f"{head} {draw.choice('|>')}{chomp}{side()}"
                        + "".join(f"{step}{line}\n" if line else "\n" for line in lines)
                        + tail
                    )
                case 3:
                    out += f"{head} one{side()}" if draw.random() < 0.5 else f"{head} one\n{step}two{side()}"
                case 4:
                    out += f"{head}{side()}{block(step, depth + 1)}"
                case _:
                    inner = block(step, depth + 1)
                    out += f"{head}{side()}{inner}"
        return out

    return block("", 0), count


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 10**9))
def test_any_style_keeps_values_and_comments_and_is_stable(seed: int) -> None:
    written, comments = random_yaml(seed)
    try:
        read_document(written)
    except Unreadable:
        return
    laid_out = form(written)
    kept = [word for word in laid_out.split() if word.startswith("c") and word[1:].isdigit()]
    assert len(kept) == len(set(kept)) == comments, f"{comments} comments in\n{written}\n{laid_out}"


DOCUMENTS = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=20)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
        max_leaves=8,
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(DOCUMENTS, st.sampled_from((None, 1, 3)), st.booleans())
def test_any_data_as_json_or_as_yaml_is_laid_out(data: dict[str, object], indent: int | None, as_json: bool) -> None:
    if as_json:
        written = json.dumps(data, indent=indent, ensure_ascii=False)
    else:
        written = yaml.safe_dump(data, indent=indent, allow_unicode=True, width=30)
    lay_out_twice(written)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab:-?[]{},&*!|>'\"#%@` \n\t0~<"), max_size=40))
def test_any_punctuation_is_laid_out_if_it_is_a_mapping(written: str) -> None:
    lay_out_twice(f"x: 1\n{written}")


def lay_out_twice(written: str) -> None:
    try:
        document = read_document(written)
    except Unreadable:
        return
    if document.faults or not isinstance(document.root, dict):
        return
    laid_out = canonical(written)
    assert canonical(laid_out) == laid_out, f"not stable:\n{laid_out}"


def test_the_scripts_behind_a_document_stay_as_they_are() -> None:
    text = (
        "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: s}\n"
        "workflow:\n  - {step: a,   tool: {kind: python, script: {uri: x.py}}}\n"
    )
    written = canonical(with_scripts(text, {"x.py": "result =  1\n"}))
    document, scripts = split(written)
    assert scripts == {"x.py": "result =  1\n"}
    assert document == canonical(text)
    assert canonical(written) == written
    with pytest.raises(NotFormatted, match="scripts of a playbook"):
        canonical(written.replace('"sha256"', '"sha1"'))
