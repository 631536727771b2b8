from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from noetl_serverless.playbook.scope import build_scope
from noetl_serverless.playbook.template import Place, Template, TemplateError, Tree, render_tree, truthy
from noetl_serverless.playbook.values import Rows
from noetl_serverless.playbook.views import EventName


def render(source: str, **names: Any) -> Any:
    return Template(source, Place(10, 5)).render(names)


def failure(source: str, **names: Any) -> TemplateError:
    with pytest.raises(TemplateError) as caught:
        render(source, **names)
    return caught.value


class TestValues:
    @pytest.mark.parametrize("value", [1, 1.5, True, None, "x", [1, 2], {"a": 1}])
    def test_a_lone_expression_gives_the_value_itself(self, value: Any) -> None:
        assert render("{{ x }}", x=value) is value
        assert render("{{ x if true else 0 }}", x=value) == value

    def test_space_around_a_lone_expression_does_not_make_it_text(self) -> None:
        assert render("  {{ 1 + 1 }}\n") == 2

    @pytest.mark.parametrize(
        ("source", "text"),
        [
            ("n={{ n }}", "n=3"),
            ("{{ n }}{{ n }}", "33"),
            ("{{ yes }}/{{ nothing }}", "True/None"),
            ("{% if n > 2 %}5{% endif %}", "5"),
            ("{{ rows }}!", '[{"id": "ä"}]!'),
            ("line\n{{ n }}\n", "line\n3\n"),
        ],
    )
    def test_any_other_text_gives_a_string_that_is_never_coerced(self, source: str, text: str) -> None:
        result = render(source, n=3, yes=True, nothing=None, rows=[{"id": "ä"}])
        assert result == text
        assert type(result) is str

    def test_iterators_become_lists(self) -> None:
        assert render("{{ rows | map(attribute='id') }}", rows=[{"id": 1}, {"id": 2}]) == [1, 2]
        assert render("{{ row.items() }}", row={"a": 1}) == [["a", 1]]

    def test_a_template_can_read_the_name_it_keeps_its_own_result_in(self) -> None:
        assert render("{{ noetl_result + 1 }}", noetl_result=1) == 2

    def test_trees_are_rendered_in_place(self) -> None:
        tree: Tree = {"a": [Template("{{ x }}"), "{{ raw }}", 1], "b": None}
        assert render_tree(tree, {"x": 5}) == {"a": [5, "{{ raw }}", 1], "b": None}

    def test_many_threads_may_render_one_template_at_once(self) -> None:
        template = Template("{{ x.y + 1 }}")
        results: list[int] = []
        threads = [threading.Thread(target=lambda: results.append(template.render({"x": {"y": 1}}))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [2] * 8


class TestData:
    @pytest.mark.parametrize("name", ["items", "values", "keys", "get", "pop"])
    def test_a_field_wins_over_a_method(self, name: str) -> None:
        assert render("{{ row." + name + " }}", row={name: 7}) == 7
        assert render("{{ row." + name + " + 1 }}", row={name: 7}) == 8

    def test_methods_that_only_read_are_there(self) -> None:
        row = {"a": 1}
        assert render("{{ row.get('b', 2) }}", row=row) == 2
        assert render("{% for k, v in row.items() %}{{ k }}{{ v }}{% endfor %}", row=row) == "a1"
        assert render("{{ 'a,b'.split(',') }}") == ["a", "b"]

    def test_methods_and_functions_are_there_in_loops_too(self) -> None:
        source = (
            "{% for x in xs %}{% set y = x.upper().center(3) %}{% set z = dict(a=range(2) | list) %}"
            "{{ y }}{{ z.a }}{{ loop.cycle('-', '+') }}{{ loop.changed(x) }}{{ loop.index }}{% endfor %}"
        )
        assert render(source, xs=["a", "b"]) == " A [0, 1]-True1 B [0, 1]+True2"

    def test_a_name_that_does_not_exist_is_refused_when_compiled(self) -> None:
        for source, message in (
            ("{{ 'x'.uper() }}", "no method named 'uper'; did you mean 'upper'"),
            ("{{ x | uper }}", "no filter named 'uper'; did you mean 'upper'"),
            ("{{ x | map('uper') }}", "no filter named 'uper'; did you mean 'upper'"),
            ("{{ x is definid }}", "no test named 'definid'; did you mean 'defined'"),
            ("{{ x | selectattr('a', 'equal') }}", "no test named 'equal'"),
            ("{{ rang(3) }}", "no function named 'rang'; did you mean 'range'"),
            (
                "{{ token(google) }}",
                "no function named 'token'; a token comes from an entry of the keychain: {{ keychain.",
            ),
            ("{{ x['upper']() }}", "only a method or a function can be called"),
        ):
            with pytest.raises(TemplateError, match=message):
                Template(source)

    def test_a_method_is_no_value(self) -> None:
        assert "function" in failure("{{ row.get }}", row={}).message

    def test_data_cannot_be_changed(self) -> None:
        rows = [1]
        assert failure("{{ rows.append(2) }}", rows=rows).message == "there is no method named 'append'"
        assert failure("{{ row.pop('a') }}", row={"a": 1})
        assert rows == [1]

    @pytest.mark.parametrize(
        "source",
        [
            "{{ ''.__class__ }}",
            "{{ ''['__class__'] }}",
            "{{ row.__class__.__mro__ }}",
            "{{ x | attr('__class__') }}",
            "{{ range.__globals__ }}",
            "{{ [].__class__.__base__.__subclasses__() }}",
            "{{ '{0.__class__}'.format(x) }}",
            "{{ self.__init__ }}",
        ],
    )
    def test_the_sandbox_holds(self, source: str) -> None:
        assert failure(source, row={}, x="a")


class TestFilters:
    @pytest.mark.parametrize(
        ("source", "value"),
        [
            ("{{ {'a': '<ä>'} | tojson }}", '{"a": "<ä>"}'),
            ("{{ 'ä' | b64encode }}", "w6Q="),
            ("{{ 'w6Q=' | b64decode }}", "ä"),
            ("{{ '[1, {}]' | fromjson }}", [1, {}]),
            ("{{ '<a>' | e | safe }}", "&lt;a&gt;"),
            ("{{ ['b', 'A', 'b'] | unique | sort }}", ["A", "b"]),
            ("{{ [{'a': none}, {'a': none}] | sort(attribute='a') }}", [{"a": None}, {"a": None}]),
            ("{{ rows | sort(attribute='id', reverse=true) | map(attribute='id') }}", [2, 1]),
            ("{{ [{'a': 2, 'b': 1}, {'a': 1, 'b': 2}] | sort(attribute='b,a') | map(attribute='a') }}", [2, 1]),
            ("{{ rows | groupby('id') | map(attribute='grouper') }}", [1, 2]),
            ("{{ rows | groupby('id') | map('last') | map('length') }}", [1, 1]),
            ("{{ rows | max(attribute='id') }}", {"id": 2}),
            ("{{ {'b': 1, 'a': 2} | dictsort }}", [["a", 2], ["b", 1]]),
            ("{{ {'a': 1} | items }}", [["a", 1]]),
            ("{{ '7' | int + '2.5' | float }}", 9.5),
            ("{{ 2.567 | round(1) }}", 2.6),
            ("{{ 'a b' | urlencode }}", "a%20b"),
            ("{{ 'hello big wide world' | truncate(11) }}", "hello..."),
            ("{{ 'aa bb-cc' | wordwrap(5) }}", "aa\nbb-cc"),
            ("{{ [1, 2, 3] | reverse }}", [3, 2, 1]),
            ("{{ [1, 2] | tojson(indent=1) }}", "[\n 1,\n 2\n]"),
            ("{{ [1] | string ~ none }}", "[1]None"),
            ("{{ ' a,b ' | trim | upper }}", "A,B"),
            ("{{ [1, 2, 3, 4] | select('even') | reject('eq', 4) }}", [2]),
            ("{{ [1, 2, 3] | slice(2) }}", [[1, 2], [3]]),
            ("{{ '%s-%(a)s' | replace('%s-', '') % {'a': 1} }}", "1"),
            ("{{ '%s is %5.2f%%' % ('x', 1.5) }}", "x is  1.50%"),
            ("{{ '{0[a]} {1.b} {c!r:>4}'.format({'a': 1}, {'b': 2}, c='x') }}", "1 2  'x'"),
            ("{{ '{:{}}'.format(1, 3) }}", "  1"),
            ("{{ 'abc'[1:] ~ 'abc'[::-1] ~ 'abc'[0] }}", "bccbaa"),
            ("{{ rows[:1] + rows[-1:] }}", [{"id": 1}, {"id": 2}]),
            ("{{ 1 < rows[1].id < 3 }}", True),
            ("{{ 1 < rows[1].id < rows[0].id }}", False),
            ("{{ rows[0].id in [rows[1].id, 1] and 'b' not in ['a'] }}", True),
            ("{{ 'a.b\"c' | identifier }}", '"a"."b""c"'),
            ("{{ rows | join('-', attribute='id') }}", "1-2"),
            ("{{ ['b', 'a'] | sort | join }}", "ab"),
            ("{{ 'aXa' | replace('X', '-') }}", "a-a"),
            ("{{ '%05.1f' | format(2.25) }}", "002.2"),
            ("{{ '{:>4}'.format(1) }}", "   1"),
            ("{{ 'x' | center(3) }}", " x "),
            ("{{ [1, 2, 3] | batch(2) }}", [[1, 2], [3]]),
            ("{{ rows | sum(attribute='id') }}", 3),
            ("{{ missing | default(4) }}", 4),
            ("{{ rows | selectattr('id', '>', 1) }}", [{"id": 2}]),
        ],
    )
    def test_what_they_give(self, source: str, value: Any) -> None:
        assert render(source, rows=[{"id": 1}, {"id": 2}]) == value

    @pytest.mark.parametrize("name", ["random", "lipsum", "nope", "_whole"])
    def test_chance_and_the_unknown_are_refused_when_compiled(self, name: str) -> None:
        with pytest.raises(TemplateError, match=f"no filter named '{name}'"):
            Template("{{ x | " + name + " }}")

    def test_so_are_statements_that_load_or_define(self) -> None:
        for source in (
            "{% include 'x' %}",
            "{% import 'x' as y %}",
            "{% extends 'x' %}",
            "{% macro f() %}{% endmacro %}",
            "{% block x %}{% endblock %}",
        ):
            with pytest.raises(TemplateError, match="cannot be used here"):
                Template(source)


class TestMissing:
    def test_names_what_is_missing(self) -> None:
        error = failure("{{ ctx.pge }}", ctx={"page": 1, "rows": 2})
        assert error.name == "pge"
        assert "available: page, rows" in error.message

    def test_an_unknown_name_is_an_error_with_its_place(self) -> None:
        error = failure("x\n{{ nope }} {{ 1 }}")
        assert (error.name, error.line, error.column) == ("nope", 11, 4)
        assert error.to_dict()["template"] == "x\n{{ nope }} {{ 1 }}"
        assert error.to_dict()["code"] == "template.error"

    @pytest.mark.parametrize(
        ("source", "place"),
        [
            ("{{ ctx.pge }}", (10, 12)),
            ("{{ ctx['pge'] }}", (10, 12)),
            ("text {{ 1 }} {{ ctx.pge }}", (10, 25)),
            ("line\n  {{ ctx.page }} {{ 1 + ctx.pge }}\n", (11, 33)),
            ("a\n{{ ctx.page\n   + ctx.pge }}", (12, 14)),
            ("{% if ctx.page %}\n\n{{ ctx.pge }}\n{% endif %}", (12, 12)),
            ("a\n{{ {'x': ctx.page}\n  .pge }}", (12, 8)),
            ("a\n  {{ ctx[('p', 'ge') | join] }}", (11, 7)),
            ("{# pge #} {{ ctx.pge }}", (10, 22)),
        ],
    )
    def test_the_place_is_that_of_the_name(self, source: str, place: tuple[int, int]) -> None:
        with pytest.raises(TemplateError) as caught:
            Template(source, Place(10, 5, "", 4)).render({"ctx": {"page": 1}})
        assert (caught.value.name, caught.value.line, caught.value.column) == ("pge", *place)

    def test_names_like_it_are_offered(self) -> None:
        assert "'cutomer' is not defined; did you mean 'customer'?" in failure("{{ cutomer }}", customer=1).message
        assert "did you mean 'page'?" in failure("{{ ctx.pge }}", ctx={"rows": 1, "page": 1}).message
        assert "did you mean 'range'?" in failure("{{ rnge }}").message
        assert "did you mean" not in failure("{{ xyz }}", customer=1).message

    def test_looking_for_them_takes_no_time(self) -> None:
        names = {f"name{number}": 1 for number in range(200_000)}
        started = time.thread_time()
        failure("{{ ctx.nme99999 }}", ctx=names)
        failure("{{ nme99999 }}", **names)
        assert time.thread_time() - started < 5, "all the names were compared"

    def test_also_inside_what_an_expression_builds(self) -> None:
        assert failure("{{ {'a': [nope]} }}").name == "nope"

    def test_is_defined_and_default_may_ask(self) -> None:
        assert render("{{ nope is defined }}") is False
        assert render("{{ ctx.nope is not defined }}", ctx={}) is True
        assert render("{{ ctx.nope | default('x') }}", ctx={}) == "x"

    def test_a_message_never_quotes_a_whole_value(self) -> None:
        assert len(failure("{{ ('%(' ~ x ~ ')s') % {} }}", x="nope" * 1000).message) == 500

    def test_syntax_errors_have_the_line_in_the_playbook(self) -> None:
        with pytest.raises(TemplateError) as caught:
            Template("a\nb {{ 1 + }}", Place(7, 3))
        assert caught.value.line == 8

    def test_what_python_raises_is_an_error_of_the_template(self) -> None:
        assert "division by zero" in failure("{{ 1 / 0 }}").message
        error = failure("a\n{{ [1] + 'x' }}")
        assert (error.message, error.line) == ('TypeError: can only concatenate list (not "str") to list', 11)


class TestBounds:
    @pytest.mark.parametrize(
        "source",
        [
            "{{ 'x' * 100000000 }}",
            "{{ 100000000 * [1] }}",
            "{{ 10 ** 100000 }}",
            "{{ range(2000000) | length }}",
            "{% for i in range(900000) %}{{ '' if i else range(900000) | length }}{% endfor %}",
            "{{ range(10 ** 100) }}",
            "{{ 'x' | center(100000000) }}",
            "{{ 'x'.ljust(100000000) }}",
            "{{ 'x' | indent(100000000) }}",
            "{{ '%100000000d' % 1 }}",
            "{{ '%*d' % (100000000, 1) }}",
            "{{ '%100000000d' | format(1) }}",
            "{{ '{:100000000}'.format(1) }}",
            "{{ '{:{}}'.format(1, 100000000) }}",
            "{{ [1] | batch(100000000, 0) }}",
            "{{ [1] | slice(100000000) }}",
            "{{ {'a': 1} | tojson(indent=100000000) }}",
            "{% set ns = namespace(x='x') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
            "{% set ns = namespace(x='x') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
            "{% set ns = namespace(x='x') %}{% for i in range(60) %}"
            "{% set v %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = v %}{% endfor %}",
            "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
            "{% set ns = namespace(x=2) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
            "{{ ('x' * 1000000).replace('x', 'y' * 1000) }}",
            "{{ 'y' * 1000000 | int }}{{ ('x' * 1000000) | replace('x', 'y' * 1000) }}",
            "{{ [('x' * 1000000)] | map('list') | first | join('y' * 1000) }}",
            "{% for i in range(100) %}{{ 'x' * 1000000 }}{% endfor %}",
            "{% set s = '%' * 1000000 %}{% for i in range(6) %}{% set x = s % () %}{% endfor %}",
        ],
    )
    def test_what_makes_much_out_of_little_is_refused(self, source: str) -> None:
        assert failure(source)

    def test_what_is_usual_is_not(self) -> None:
        assert render("{{ range(100000) | length }}") == 100000
        assert render("{{ 'ab' * 3 }}") == "ababab"
        assert render("{{ 2 ** 62 }}") == 2**62
        assert len(render("{{ ('x' * 1000000) ~ '' }}")) == 1_000_000

    def test_its_loops_take_a_million_turns_together_and_no_more(self) -> None:
        source = "{% for a in rows %}{% for b in rows %}{% endfor %}{% endfor %}x"
        assert render(source, rows=[0] * 999) == "x"
        with pytest.raises(TemplateError, match="at most 1000000 times"):
            render(source, rows=[0] * 1000)

    def test_a_template_is_at_most_64_kib(self) -> None:
        with pytest.raises(TemplateError, match="longer than"):
            Template("{{ 1 }}" + " " * 65536)

    def test_a_number_that_python_does_not_read_is_an_error_not_a_crash(self) -> None:
        with pytest.raises(TemplateError, match="too many digits"):
            Template("{{ " + "1" * 5000 + " }}")

    def test_deep_nesting_is_an_error_not_a_crash(self) -> None:
        with pytest.raises(TemplateError):
            Template("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}").render({})

    def test_a_recursive_loop_ends(self) -> None:
        source = "{% set t = [1] %}{% for x in t recursive %}{{ loop(t) }}{% endfor %}"
        assert failure(source)


@pytest.mark.parametrize("value", [None, False, 0, 0.0, "", [], {}, "false", "False", "0", "NO", "none", " no "])
def test_what_counts_as_false(value: Any) -> None:
    assert truthy(value) is False


@pytest.mark.parametrize("value", [True, 1, "x", "yes", "true", [0], {"a": None}, 0.1])
def test_what_counts_as_true(value: Any) -> None:
    assert truthy(value) is True


class TestReads:
    @pytest.mark.parametrize(
        ("source", "reads"),
        [
            ("{{ ctx.page }}", {"ctx": {"page"}}),
            ("{{ ctx['page'] + ctx.n }}", {"ctx": {"page", "n"}}),
            ("{{ ctx }}", {"ctx": None}),
            ("{{ ctx.a.b.c }}", {"ctx": {"a"}}),
            ("{{ ctx[name] }}", {"ctx": None, "name": None}),
            ("{{ ctx.get('a') }}", {"ctx": {"a"}}),
            ("{{ ctx.get(k) }}", {"ctx": None, "k": None}),
            ("{{ ctx.items() }}", {"ctx": None}),
            ("{{ ctx.items }}", {"ctx": {"items"}}),
            ("{{ ctx.a and ctx }}", {"ctx": None}),
            ("{{ f.x | default(ctx.b) }}", {"f": {"x"}, "ctx": {"b"}}),
            ("{% for x in rows %}{{ x.id }}{{ y }}{% endfor %}", {"rows": None, "y": None}),
            ("{% set x = ctx.a %}{{ x.b }}", {"ctx": {"a"}}),
            ("{{ range(3) }}", {}),
            ("{{ rows | map(attribute='id') | join(sep.x) }}", {"rows": None, "sep": {"x"}}),
            ("plain {# {{ no }} #}", {}),
        ],
    )
    def test_names_and_first_segments(self, source: str, reads: dict[str, set[str] | None]) -> None:
        assert dict(Template(source).reads) == reads


class TestEventName:
    def test_each_name_equals_its_aliases_in_both_directions(self) -> None:
        for mine, other in (
            ("call.done", "step.done"),
            ("call.error", "step.failed"),
            ("loop.done", "step.done"),
            ("loop.done", "call.done"),
            ("loop.failed", "call.error"),
        ):
            assert EventName(mine) == other
            assert other == EventName(mine)
            assert (EventName(mine) != other) is False
        assert EventName("call.done") != "loop.done"
        assert EventName("call.error") != "call.done"

    def test_in_a_template(self) -> None:
        scope = build_scope(workload={}, ctx={}, steps={}, loops=(), execution_id="1", event={"name": "call.error"})
        assert Template("{{ event.name == 'step.failed' }}").render(scope) is True
        assert Template("{{ event.name in ['x', 'step.failed'] }}").render(scope) is True
        assert Template("{{ event.name != 'call.error' }}").render(scope) is False
        name = Template("{{ event.name }}").render(scope)
        assert type(name) is str
        assert name == "call.error"


class Numbered(Rows):
    """Rows that are made when they are asked for."""

    def __init__(self, count: int) -> None:
        self.count_of_rows = count

    def __len__(self) -> int:
        return self.count_of_rows

    def __getitem__(self, index: Any) -> Any:
        at = range(self.count_of_rows)[index]
        return [{"n": n} for n in at] if isinstance(at, range) else {"n": at}


class TestRows:
    def test_they_are_joined_and_searched_like_lists(self) -> None:
        rows, more = Numbered(2), [{"n": 9}]
        assert render("{{ rows + more }}", rows=rows, more=more) == [{"n": 0}, {"n": 1}, {"n": 9}]
        assert render("{{ more + rows }}", rows=rows, more=more) == [{"n": 9}, {"n": 0}, {"n": 1}]
        assert render("{{ rows + rows }}", rows=rows) == [{"n": 0}, {"n": 1}] * 2
        assert render("{{ rows.index({'n': 1}) }}", rows=rows) == 1
        assert render("{{ rows.count({'n': 1}) }}", rows=rows) == 1
        for values in (rows, more, (1, 2)):
            message = failure("{{ values.index('7' * 1000) }}", values=values).message
            assert "the list has no such item" in message and "777" not in message.removeprefix("{{")

    @pytest.mark.parametrize("source", ["{{ rows + [1] }}", "{{ rows.count(1) }}", "{{ rows.index(1) }}"])
    def test_too_many_are_refused_with_their_number_and_what_to_do(self, source: str) -> None:
        message = failure(source, rows=Numbered(2_000_000)).message
        assert "here are 2000000 rows, each of which counts as 10" in message
        assert "as input of python or duckdb, or as 'rows' of postgres" in message


def test_a_slice_of_nothing_names_what_is_null() -> None:
    null = failure("{{ load['rows'][1:3] }}", load={"rows": None}).message
    assert null.endswith("'load['rows']' is null and has no parts [from:to]; a step that has not run is null")
    assert "there is no 'rowz'" in failure("{{ load.rowz[1:3] }}", load={"rows": [1]}).message
