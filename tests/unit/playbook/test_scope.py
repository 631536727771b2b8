from __future__ import annotations

from typing import Any

import pytest

from noetl_serverless.playbook.scope import Scope, build_scope
from noetl_serverless.playbook.template import NeedsFetch, Template, TemplateError

REF = {"kind": "result_ref", "ref": "noetl://execution/1/result/big/00000000", "extracted": {"n": 3}}


def scope(**parts: Any) -> Scope:
    return build_scope(**{"workload": {}, "ctx": {}, "steps": {}, "loops": (), "execution_id": "7", **parts})


def render(source: str, **parts: Any) -> Any:
    return Template(source).render(scope(**parts))


class Fetching:
    def __init__(self, data: Any) -> None:
        self.data = data
        self.calls: list[str] = []

    def __call__(self, ref: dict[str, Any]) -> Any:
        self.calls.append(ref["ref"])
        return self.data


class TestOrder:
    def test_the_nearer_name_wins(self) -> None:
        layers: dict[str, Any] = {
            "extra": {"x": "extra"},
            "iter": {"x": "iter"},
            "steps": {"x": {"status": "ok", "data": "step"}},
            "ctx": {"x": "ctx"},
            "workload": {"x": "workload"},
        }
        for name in ("extra", "iter", "step", "ctx", "workload"):
            assert render("{{ x }}", **layers) == name
            layers.pop("steps" if name == "step" else name)

    def test_reserved_names_never_fall_through(self) -> None:
        with pytest.raises(TemplateError, match="'event' is not defined"):
            render("{{ event }}", ctx={"event": 1}, workload={"event": 1})
        assert render("{{ ctx.event }}", ctx={"event": 1}) == 1

    def test_scopes_are_there_by_name(self) -> None:
        parts: dict[str, Any] = {"workload": {"a": 1}, "ctx": {"a": 2}, "iter": {"a": 3, "_index": 0}}
        source = "{{ [workload.a, ctx.a, iter.a, iter._index, execution_id] }}"
        assert render(source, **parts) == [1, 2, 3, 0, "7"]

    def test_names_of_the_task_that_runs(self) -> None:
        task = {"results": {"a": 1}, "_prev": 2, "_task": "t", "_attempt": 1, "step": {"k": 5}}
        assert render("{{ [results.a, _prev, _task, _attempt, step.k] }}", task=task) == [1, 2, "t", 1, 5]

    def test_it_is_a_mapping_of_all_names(self) -> None:
        whole = scope(workload={"a": 1}, ctx={"b": 2}, steps={"s": {"status": "ok", "data": 1}}, iter={"u": 1})
        assert {"a", "b", "s", "u", "iter", "ctx", "workload"} <= set(whole)
        assert len(whole) == len(list(whole))
        assert "nope" not in whole
        with pytest.raises(KeyError):
            whole["nope"]


class TestStep:
    STEPS: dict[str, Any] = {
        "s": {"status": "ok", "data": {"f": 1, "items": [1], "status": "mine"}},
        "listed": {"status": "ok", "data": [{"id": 4}]},
        "http": {"status": "ok", "data": {"status_code": 200, "data": {"rows": [1]}}},
        "bad": {"status": "error", "data": None, "error": {"code": "x"}},
        "big": {"status": "ok", "ref": REF},
    }

    @pytest.mark.parametrize(
        ("source", "value"),
        [
            ("{{ s.f }}", 1),
            ("{{ s['f'] + 1 }}", 2),
            ("{{ s.items }}", [1]),
            ("{{ s.status }}", "ok"),
            ("{{ s.result.status }}", "mine"),
            ("{{ s }}", {"f": 1, "items": [1], "status": "mine"}),
            ("{{ s.data.f }}", 1),
            ("{{ s | length }}", 3),
            ("{{ s._ref }}", None),
            ("{{ s.error }}", None),
            ("{{ s.error.code }}", None),
            ("{{ listed[0].id }}", 4),
            ("{{ listed[:1] }}", [{"id": 4}]),
            ("{{ listed[:1][0].id }}", 4),
            ("{{ listed | map(attribute='id') }}", [4]),
            ("{{ listed.data }}", [{"id": 4}]),
            ("{{ bad.error.code }}", "x"),
            ("{{ bad.status == 'error' }}", True),
            ("{{ s.nope is defined }}", False),
            ("{{ s.nope | default(9) }}", 9),
            ("{{ {'all': s.f, 'list': listed} }}", {"all": 1, "list": [{"id": 4}]}),
        ],
    )
    def test_what_is_read_of_it(self, source: str, value: Any) -> None:
        assert render(source, steps=self.STEPS) == value

    def test_data_is_the_whole_result_unless_it_has_a_field_data(self) -> None:
        assert render("{{ http.data.rows }}", steps=self.STEPS) == [1]
        assert render("{{ http.result.data.rows }}", steps=self.STEPS) == [1]
        assert render("{{ s.data }}", steps=self.STEPS) == self.STEPS["s"]["data"]

    def test_extracted_fields_and_the_reference_need_no_fetch(self) -> None:
        fetch = Fetching({"n": 3, "rows": []})
        assert render("{{ big.n }}", steps=self.STEPS, fetch=fetch) == 3
        assert render("{{ big._ref }}", steps=self.STEPS, fetch=fetch) == REF
        assert render("{{ big.status }}", steps=self.STEPS, fetch=fetch) == "ok"
        assert fetch.calls == []

    def test_anything_else_is_fetched_once(self) -> None:
        fetch = Fetching({"n": 3, "rows": [1, 2]})
        source = "{{ [big.rows, big.rows | length, big.result.rows[0], big.data.n] }}"
        assert render(source, steps=self.STEPS, fetch=fetch) == [[1, 2], 2, 1, 3]
        assert fetch.calls == [REF["ref"]]

    @pytest.mark.parametrize("path", ["big.rowz", "big.result.rowz"])
    def test_a_field_that_is_not_there_is_compared_with_all_that_are(self, path: str) -> None:
        with pytest.raises(TemplateError, match=r"available: .*n, rows\); did you mean 'rows'\?"):
            render(f"{{{{ {path} }}}}", steps=self.STEPS, fetch=Fetching({"n": 3, "rows": []}))

    def test_where_nothing_is_fetched_it_says_what_to_do(self) -> None:
        for source in ("{{ big.rows }}", "{{ big.rows | length > 1 }}", "{{ big }}", "{{ big is none }}"):
            with pytest.raises(NeedsFetch, match=r"output\.select") as caught:
                render(source, steps=self.STEPS)
            assert caught.value.template == source
        assert render("{{ big is defined }}", steps=self.STEPS) is True

    def test_what_a_fetch_raises_is_not_made_an_error_of_the_template(self) -> None:
        def broken(_ref: dict[str, Any]) -> Any:
            raise KeyError("gone")

        with pytest.raises(KeyError, match="gone"):
            render("{{ big.rows | default(1) }}", steps=self.STEPS, fetch=broken)

    def test_a_missing_field_is_named_with_what_there_is(self) -> None:
        with pytest.raises(TemplateError, match=r"step 's' has no 'g' \(available: f, items") as caught:
            render("{{ s.g }}", steps=self.STEPS)
        assert caught.value.name == "g"


class TestLoop:
    RESULTS: Any = {"results": [{"n": 1}, None], "stats": {"total": 2, "success": 1, "failed": 1}}
    MANIFEST: dict[str, Any] = {
        "kind": "manifest",
        "ref": "noetl://execution/7/manifest/big/1",
        "count": 2,
        "extracted": {"stats": RESULTS["stats"]},
    }
    PARTS: dict[str, Any] = {
        "loops": {"small", "big", "skipped", "broken"},
        "steps": {
            "small": {"status": "ok", "data": RESULTS},
            "big": {"status": "ok", "ref": MANIFEST},
            "skipped": {"status": "skipped"},
            "broken": {"status": "error", "error": {"code": "loop.not_iterable"}},
            "plain": {"status": "ok", "data": RESULTS},
        },
    }

    @pytest.mark.parametrize("name", ["small", "big"])
    @pytest.mark.parametrize(
        ("source", "value"),
        [
            ("{{ each }}", [{"n": 1}, None]),
            ("{{ each[0] }}", {"n": 1}),
            ("{{ each[0].n }}", 1),
            ("{{ each[-1] }}", None),
            ("{{ each | length }}", 2),
            ("{{ each | tojson }}", '[{"n": 1}, null]'),
            ("{% for x in each %}{{ x.n if x else '-' }}{% endfor %}", "1-"),
            ("{{ [each, each[:1]] }}", [[{"n": 1}, None], [{"n": 1}]]),
            ("{{ each is iterable and each is not mapping }}", True),
            ("{{ each.results }}", [{"n": 1}, None]),
            ("{{ each.results[0].n }}", 1),
            ("{{ each.stats.failed }}", 1),
            ("{{ each['stats'].total }}", 2),
            ("{{ each.data }}", RESULTS),
            ("{{ each.data.stats.total }}", 2),
            ("{{ each.result.results | length }}", 2),
            ("{{ each.get('stats').total }}", 2),
            ("{{ (each if each.stats.total > 1 else skipped).results[0].n }}", 1),
            ("{{ (each if false else skipped).status }}", "skipped"),
            ("{{ each.keys() | list }}", ["results", "stats"]),
            ("{{ each.status }}", "ok"),
            ("{{ each.error }}", None),
        ],
    )
    def test_it_is_the_list_of_its_results_and_its_fields_are_as_ever(self, name: str, source: str, value: Any) -> None:
        fetch = Fetching(self.RESULTS)
        assert render(source.replace("each", name), fetch=fetch, **self.PARTS) == value
        assert len(fetch.calls) <= (1 if name == "big" else 0)

    def test_its_stats_need_no_fetch_and_the_rest_says_so(self) -> None:
        assert render("{{ big.stats.failed > 0 and big._ref.count == 2 }}", **self.PARTS) is True
        for source in ("{{ big }}", "{{ big[0] }}", "{{ big | length }}", "{{ big.results }}", "{{ big.result }}"):
            with pytest.raises(NeedsFetch, match="routing can read its stats; read the results in a step"):
                render(source, **self.PARTS)

    def test_what_has_no_results_is_null(self) -> None:
        assert render("{{ [skipped, broken, broken.error.code] }}", **self.PARTS) == [None, None, "loop.not_iterable"]

    def test_it_is_the_playbook_that_tells_a_loop_from_a_step_with_such_a_result(self) -> None:
        assert render("{{ plain }}", **self.PARTS) == self.RESULTS

    def test_ctx_may_hold_the_list_by_reference(self) -> None:
        ref = Template("{{ big }}").reference(scope(**self.PARTS))
        assert ref == {**self.MANIFEST, "field": "results"}
        parts: dict[str, Any] = {"ctx_refs": {"all": ref, "whole": self.MANIFEST}, "fetch": Fetching(self.RESULTS)}
        source = "{{ [ctx.all, all[0].n, ctx.all | length, ctx.whole.stats.total] }}"
        assert render(source, **parts) == [[{"n": 1}, None], 1, 2, 2]
        assert parts["fetch"].calls == [self.MANIFEST["ref"]]
        with pytest.raises(TemplateError, match="no 'stats'"):
            render("{{ ctx.all.stats }}", **parts)


class TestOutput:
    def test_the_envelope(self) -> None:
        output = {"status": "ok", "data": {"x": 1}, "meta": {"attempt": 2}, "extra": {"http": {"status": 200}}}
        source = "{{ [output.status, output.data.x, output.meta.attempt, output.http.status, output.ref] }}"
        assert render(source, output=output) == ["ok", 1, 2, 200, None]

    def test_parts_that_are_not_there_are_null_all_the_way(self) -> None:
        output = {"status": "error", "data": None, "error": {"code": "refused"}}
        assert render("{{ output.http.status in [429, 503] }}", output=output) is False
        assert render("{{ output.pg.sqlstate == '23505' }}", output=output) is False
        assert render("{{ [output.error.code, error.code] }}", output=output) == ["refused", "refused"]

    def test_there_is_no_error_after_a_success(self) -> None:
        output = {"status": "ok", "data": 1}
        assert render("{{ error }}", output=output) is None
        assert render("{{ error.code == 'x' or output.error.kind == 'y' }}", output=output) is False
        assert render("{{ output.error is none }}", output=output) is True

    def test_what_the_envelope_never_has_is_missing(self) -> None:
        with pytest.raises(TemplateError, match="the output has no 'rows'"):
            render("{{ output.rows }}", output={"status": "ok", "data": {"rows": []}})

    def test_its_data_by_reference(self) -> None:
        output = {"status": "ok", "ref": REF}
        assert render("{{ output.data.n }}", output=output) == 3
        assert render("{{ output.ref.ref }}", output=output) == REF["ref"]
        with pytest.raises(NeedsFetch):
            render("{{ output.data.rows }}", output=output)
        fetch = Fetching({"rows": [1]})
        assert render("{{ output.data.rows }}", output=output, fetch=fetch) == [1]
        assert render("{{ output.data }}", output=output, fetch=fetch) == {"rows": [1]}
