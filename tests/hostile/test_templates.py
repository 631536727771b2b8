"""Templates come with playbooks, and are rendered in the control plane too: they must reach nothing and always end."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noetl_serverless.playbook import bounds
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
