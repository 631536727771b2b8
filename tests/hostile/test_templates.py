"""Templates come with playbooks, and are rendered in the control plane too: they must reach nothing and always end."""

from __future__ import annotations

import contextlib
import json
import re
import resource
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl_serverless.playbook import bounds
from noetl_serverless.playbook.methods import METHODS
from noetl_serverless.playbook.sandbox import TEXT
from noetl_serverless.playbook.template import SqlTemplate, Template, TemplateError

from .conftest import FUZZ

SCOPE: dict[str, Any] = {
    "x": "text",
    "row": {"a": 1, "b": [1, 2, {"c": None}]},
    "xs": [0] * 1000,
    "workload": {"deep": {"er": [1, 2, 3]}},
}
# the usual ways out of a Jinja sandbox, beside those in unit/playbook/test_template.py
ESCAPES = [
    "x.__class__.__mro__[1].__subclasses__()",
    "x['__cl' ~ 'ass__']",
    "x | attr('\\x5f\\x5fclass\\x5f\\x5f')",
    "x | attr(['__class', '__'] | join)",
    "[x] | map(attribute='__class__') | list",
    "[x] | map('attr', '__class__') | list",
    "[x] | selectattr('__class__') | list",
    "[x] | groupby('__class__') | list",
    "[x, 'b'] | sort(attribute='__class__')",
    "[x] | sum(attribute='__class__')",
    "[x] | unique(attribute='__class__') | list",
    "dict.__base__",
    "dict.mro()",
    "namespace.__init__.__globals__",
    "namespace(a=1).__class__",
    "range.__wrapped__",
    "x.upper.__self__",
    "x.format.__globals__",
    "'{x.__class__}'.format(x=x)",
    "'{0[__class__]}'.format(x)",
    "'{0.__class__.__mro__}'.format_map({'0': x})",
    "'%(a)s' % namespace",
    "x | format(namespace)",
    "(xs | map('string')).gi_frame.f_builtins",
    "(xs | map('string')).gi_code",
    "joiner.__init__.__globals__.os",
    "cycler.__init__.__globals__.os.popen('id').read()",
    "lipsum.__globals__",
    "config.items()",
    "request.application.__globals__",
    "url_for.__globals__",
    "get_flashed_messages.__globals__",
    "self._TemplateReference__context",
    "caller()",
    "loop.__init__",
    "__builtins__",
    "noetl_result.__class__",
    "environment",
    "row.__init__.__globals__",
    "row | attr('pop')",
    "xs.append(1)",
    "row.update({'a': 2})",
    "xs.sort()",
    "x.encode().decode.__self__",
    "_weighed",
    "x | _whole",
    "x | _weighed",
    "x | _turn",
]
BOMBS = [
    "{% for a in xs %}{% for b in xs %}{% for c in xs %}{% endfor %}{% endfor %}{% endfor %}",
    "{% for a in xs %}{% for b in xs %}{% for c in xs if false %}{% endfor %}{% endfor %}{% endfor %}",
    "{% for a in xs recursive %}{% if loop.depth < 6 %}{{ loop(xs) }}{% endif %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = (n.x, n.x) %}{% endfor %}{{ n.x | string }}",
    "{% set n = namespace(x=1) %}{% for i in range(60) %}{% set n.x = {1: n.x, 2: n.x} %}{% endfor %}{{ n.x ~ 1 }}",
    "{% set ns = namespace(x=1) %}{% for i in range(60) %}{% set ns.x = dict(a=ns.x, b=ns.x) %}{% endfor %}{{ ns.x }}",
    "{% set a = [0] * 1000 %}{% set b = [a] * 1000 %}{% set c = [b] * 1000 %}{{ c | string | length }}",
    "{% set a = [0] * 1000 %}{% set b = [a] * 1000 %}{{ (b + b + b + b) | tojson | length }}",
    "{% set a = ['y' * 1000000] * 1000 %}{{ a | string | length }}",
    "{{ ([[0] * 1000000] * 1000) | sum(start=[]) | length }}",
    "{{ range(10 ** 9) | list }}",
    "{{ 'a' * 10 ** 9 }}",
    "{{ '{:>999999999}'.format(x) }}",
    "{{ 9 ** (9 ** 9) }}",
    "{{ ('a' * 1000000) | wordwrap(1, true, 'b' * 1000) }}",
    "{{ ('a\\n' * 1000) | indent('y' * 100000) }}",
]


# each of these took seconds or gigabytes before methods and filters were bounded one by one
OPERATIONS = [
    "'a'.encode().ljust(1500000000)",
    "(1).to_bytes(1500000000, 'big')",
    "('a' * 100000).translate({97: 'b' * 10000})",
    "('{0:99999}' * 5000).format(1)",
    "('{0}' * 5000).format(big)",
    "('{a}' * 5000).format_map({'a': big})",
    "'{0:{1}}'.format(1, 999999999)",
    "'{:.999999999f}'.format(1.0)",
    "'%0999999999d' % 1",
    "'%.*f' % (999999999, 1.0)",
    "'%(a)s' * 5000 % {'a': big}",
    "'%0999999999d' is odd",
    "'%0999999999d' is divisibleby 3",
    "['%0999999999d'] | select('even') | list",
    "('a' * 1000000) | wordwrap(1)",
    "dashes | wordwrap(100)",
    "big.center(10 ** 9)",
    "(('f' * 9000000) | int(base=16)) % (('e' * 4000000) | int(base=16))",
    "1e300 | int",
    "1.5 | round(999999999)",
    "1 | round(-10000000, 'floor')",
    # numbers whose hashes are equal, so that each is compared with all before it
    "range(0, (2 ** 61 - 1) * 200000, 2 ** 61 - 1) | unique | list",
    "colliding | map('int') | unique | list",
    "('[' ~ (colliding | join(',')) ~ ']') | fromjson | unique | list",
    "rows | map(attribute='" + "a." * 10000 + "b') | list",
    "rows | sort(attribute='" + "id," * 10000 + "id') | list",
    "([rows] * 100) | sum(start=[]) | sort(attribute='id')",
    "numbers | batch(10000, 0) | map('list') | map('list') | list | tojson(indent=999)",
    "(nested | tojson(indent=16)) * 3",
    "lines | indent(10000)",
    "big | replace('a', 'b' * 1000)",
    "big.replace('', 'xx')",
    "numbers | join('y' * 1000)",
    "big | urlencode | urlencode | urlencode",
    "('<' * 9000000) | e",
    "tabs.expandtabs(10000)",
    "big.rfind('ab' + 'a' * 2000000)",
    "big.rsplit('ab' + 'a' * 2000000)",
    "big.strip('b' * 4000000)",
    "big | trim('b' * 4000000)",
    "big.startswith((big + 'b',) * 1000000)",
    "numbers | select('in', numbers) | list",
    "rows | selectattr('name', 'in', colliding) | list",
    "[numbers] * 100",
    "big.split('a') | list | batch(2) | list",
    "numbers | map('string') | map('upper') | map('lower') | map('trim') | map('title') | list",
    "('[' * 100000) | fromjson",
    "big.encode('idna')",
    # a tuple is hashed again each time
    "{(1,) * 100000: 1}",
]
# in a loop over a million numbers
TURNS = [
    "{% if numbers == numbers[:] %}{% endif %}",
    "{% if big == big ~ '' %}{% endif %}",
    "{% set y = numbers[:1000000] | length %}",
    "{% set y = big ~ i %}",
    "{% set y = numbers | list %}",
    "{% set y = numbers | sort %}",
    "{% set y = big.upper() %}",
    "{% set y = big in big %}",
    "{% set y = -1 in numbers %}",
    "{% set y = 'a' in range(900000) %}",
    "{% set y = 'a' is in range(900000) %}",
    "{% set y = 0.5 in range(900000) %}",
    "{% set y = numbers | string %}",
    "{% set y = rows | tojson %}",
    "{% set y = rows | map(attribute='id') | list %}",
    "{% set y = '%s' % rows %}",
    "{% set y = '{:9999}'.format(1) %}",
    "{% set y = 'x'.center(9999) %}",
    "{% set y = [rows] %}",
    "{% set y = (9 ** 1200) % (7 ** 700) | string %}",
    "{{ loop.changed(numbers) }}",
    "{% if table.items() == table.items() %}{% endif %}",
    "{% set y = table.values() ~ '' %}",
    "{% set y = dict(table.items()) %}",
    "{% set y = ns.t | unique | list %}",
    "z" * 60_000,
    "{{ 1 }}" * 8000,
    "{% if i %}{% endif %}" * 2500,
    "{% set ns.x = ns.x + [i] %}",
    "{% set ns.y = ns.y ~ 'abcdef' %}",
    "{% set ns.z = ns.z + ns.z %}",
    "{% set ns.z = ns.z - (-ns.z) %}",
    "{% set ns.x = ns.x + ['a' * 9000000] %}",
    "{% set ns.x = ns.x + ['%09000d' % i] %}",
    "{% set ns.o = dict(ns.o, **{'k' ~ i: 1}) %}",
]
LARGE: dict[str, Any] = {
    "big": "a" * 5_000_000,
    "dashes": "-" * 1_000_000,
    "lines": "\n" * 3_000_000,
    "tabs": "\t" * 1_000_000,
    "numbers": list(range(1_000_000)),
    "rows": [{"id": n, "name": f"n{n}"} for n in range(100_000)],
    "colliding": [str((2**61 - 1) * n) for n in range(100_000)],
    "table": {f"k{n}": n for n in range(200_000)},
    "nested": [[[1] * 100] * 100] * 10,
}
# a rendering takes one or two, of a machine that has others to do
MAX_SECONDS = 20.0
MAX_MEGABYTES = 600


LEAKS = re.compile("<|built-in|class|0x|module|import|os\\.")


def test_no_way_out_of_the_sandbox() -> None:
    """Refused, or without anything of Python's in what comes out: what is undefined may stand where nobody looks."""
    for expression in ESCAPES:
        with pytest.raises(TemplateError):
            print(expression, Template("{{ " + expression + " }}").render(SCOPE))
        for source in ("text {{ %s }}", "{%% if %s %%}yes{%% endif %%}", "{%% set y = %s %%}{{ y | list }}"):
            with contextlib.suppress(TemplateError):
                assert not LEAKS.search(Template(source % expression).render(SCOPE)), source % expression


@pytest.mark.parametrize("source", BOMBS)
def test_a_bomb_is_refused(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # the bounds themselves are wide: what reaches a hundredth of them reaches them
    for name in ("MAX_TURNS", "MAX_WEIGHT"):
        monkeypatch.setattr(bounds, name, 100_000)
    with pytest.raises(TemplateError):
        Template(source).render(SCOPE)


def refused_within_bounds(kind: type[Template | SqlTemplate], source: str) -> TemplateError | None:
    """The error, if it fails. It takes little time and memory in any case."""
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.thread_time()
    error = None
    try:
        kind(source).render(LARGE)
    except TemplateError as caught:
        error = caught
    taken = time.thread_time() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    assert taken < MAX_SECONDS, f"{source[:200]} took {taken:.1f} s"
    assert grown < MAX_MEGABYTES, f"{source[:200]} took {grown} MB"
    return error


@pytest.mark.parametrize("expression", OPERATIONS)
def test_no_operation_runs_away(expression: str) -> None:
    assert refused_within_bounds(Template, "{{ " + expression + " }}") is not None, "it gives a value"


@pytest.mark.parametrize("turn", TURNS)
def test_no_loop_runs_away(turn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # they grow with it
    monkeypatch.setattr(bounds, "MAX_WEIGHT", bounds.MAX_WEIGHT // 4)
    source = (
        "{% set ns = namespace(x=[], y='', z=2, o={}, t=[(1,) * 100000]) %}{% for i in numbers %}"
        + turn
        + "{% endfor %}"
    )
    error = refused_within_bounds(Template, source)
    assert error is not None
    assert error.to_dict()["code"] == "template.too_large"


def test_values_bound_in_a_loop_do_not_either() -> None:
    error = refused_within_bounds(SqlTemplate, "SELECT {% for i in numbers %}{{ rows }},{% endfor %}")
    assert error is not None
    assert error.code == "template.too_large"


VALUES = st.sampled_from(
    ["x", "row", "xs", "workload.deep.er", "none", "2", "'a'", "9999", "-1", "1.5", "10 ** 18", "[x, 1]"]
)
FILTERS = st.sampled_from([name for name in sorted(TEXT.filters) if not name.startswith("_")])
METHOD_NAMES = st.sampled_from(sorted(METHODS))
OPERATORS = st.sampled_from(["+", "-", "*", "/", "//", "%", "**", "~", "==", "<", "in", "and", "or"])


def deeper(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    arguments = st.lists(inner, max_size=2).map(", ".join)
    return st.one_of(
        st.tuples(inner, OPERATORS, inner).map(lambda parts: f"({' '.join(parts)})"),
        st.tuples(inner, FILTERS, arguments).map(lambda parts: f"({parts[0]} | {parts[1]}({parts[2]}))"),
        st.tuples(inner, METHOD_NAMES, arguments).map(lambda parts: f"({parts[0]}).{parts[1]}({parts[2]})"),
        st.tuples(inner, inner).map(lambda parts: f"({parts[0]})[{parts[1]}:]"),
        st.tuples(inner, FILTERS).map(lambda parts: f"({parts[0]} | map('{parts[1]}') | list)"),
        st.tuples(inner, inner).map(lambda parts: f"[{parts[0]}, {parts[1]}]"),
    )


@FUZZ
@given(expression=st.recursive(VALUES, deeper, max_leaves=12))
def test_any_expression_ends_within_bounds(expression: str) -> None:
    with pytest.MonkeyPatch.context() as patched:
        # a hundredth of what is usual, so that they are reached
        for name in ("MAX_WEIGHT", "MAX_TURNS", "MAX_TEXT_CHARACTERS"):
            patched.setattr(bounds, name, 100_000)
        for source in ("{{ %s }}", "{%% for i in xs %%}{{ %s }}{%% endfor %%}"):
            try:
                template = Template(source % expression)
            except TemplateError:
                continue
            started = time.thread_time()
            with contextlib.suppress(TemplateError):
                assert len(json.dumps(template.render(SCOPE))) < 20_000_000
            assert time.thread_time() - started < MAX_SECONDS / 4, f"{source % expression} took too long"


def test_what_is_large_but_honest_is_rendered() -> None:
    rows = [{"id": n, "name": "n"} for n in range(100_000)]
    assert len(Template("{{ [rows, rows] }}").render({"rows": rows})) == 2
    assert (
        Template("{% for r in rows %}{% if loop.last %}{{ r.id }}{% endif %}{% endfor %}").render({"rows": rows})
        == "99999"
    )
    assert Template("{{ rows | sum(attribute='id') }}").render({"rows": rows}) == 4_999_950_000
    assert Template("{{ dict(a=1, b=rows | length) }}").render({"rows": rows}) == {"a": 1, "b": 100_000}


PIECES = st.sampled_from(
    [
        *(
            "{{",
            "}}",
            "{%",
            "%}",
            "{#",
            "#}",
            " ",
            "|",
            ".",
            "[",
            "]",
            "(",
            ")",
            "'",
            ",",
            "~",
            "*",
            "+",
            "not ",
            "in ",
        ),
        *(
            "x",
            "row",
            "xs",
            "workload",
            "range",
            "dict",
            "namespace",
            "loop",
            "__class__",
            "self",
            "1",
            "999999999",
            "''",
        ),
        *("for a in xs", "endfor", "if x", "endif", "set y = x", "attr", "map", "format", "list", "join", "items"),
    ]
)


@FUZZ
@given(source=st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=14).map(" ".join)))
def test_any_text_gives_data_or_a_template_error(source: str) -> None:
    for made in (source, "{{ " + source + " }}"):
        with contextlib.suppress(TemplateError):
            json.dumps(Template(made).render(SCOPE))
        with contextlib.suppress(TemplateError):
            SqlTemplate(made).render(SCOPE)
    assert SCOPE["xs"] == [0] * 1000 and SCOPE["row"]["a"] == 1
