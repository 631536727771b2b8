from __future__ import annotations

import json
import time
from typing import Any, ClassVar

import pytest

from noetl_serverless.errors import Fault, InvalidPlaybook
from noetl_serverless.playbook.document import plain_data, read_document
from noetl_serverless.playbook.load import load_document, load_plan, load_playbook, read_playbook
from noetl_serverless.playbook.scripts import scripts_of

from .playbooks import playbook, step, tool

OK = "{{ output.status == 'ok' }}"
ERROR = "{{ output.status == 'error' }}"


def rewritten(text: str) -> tuple[dict[str, Any], list[Fault]]:
    document = read_playbook(text)
    # it can be registered in that form
    load_document(document)
    return plain_data(document.root)["workflow"][0], document.warnings


def one_warning(text: str) -> tuple[dict[str, Any], Fault]:
    found, warnings = rewritten(text)
    assert len(warnings) == 1, warnings
    return found, warnings[0]


class TestStep:
    @pytest.mark.parametrize("name", ["args", "with"])
    def test_input_has_older_names(self, name: str) -> None:
        found, warning = one_warning(step(f"step: a\ntool: {{kind: noop}}\n{name}: {{x: 1}}"))
        assert found == {"step": "a", "tool": {"kind": "noop"}, "input": {"x": 1}}
        assert (warning.line, warning.column, warning.pointer) == (7, 5, f"/workflow/0/{name}")
        assert warning.message == f"an older form: '{name}' is called 'input' today"

    def test_a_tool_by_its_kind_takes_its_fields_from_the_step(self) -> None:
        found, warnings = rewritten(
            step("step: a\ntool: http\nurl: http://x/\nparams: {n: 1}\nset: {ctx.a: 1}\nnext: {arcs: [{step: a}]}")
        )
        assert found["tool"] == {"kind": "http", "url": "http://x/", "params": {"n": 1}}
        assert found["set"] == {"ctx.a": 1}
        assert [(warning.line, warning.pointer) for warning in warnings] == [
            (6, "/workflow/0/tool"),
            (7, "/workflow/0/url"),
            (8, "/workflow/0/params"),
        ]

    def test_fields_of_a_tool_stand_beside_it(self) -> None:
        found, warning = one_warning(step("step: a\ntool: {kind: python}\ncode: result = 1"))
        assert found["tool"] == {"kind": "python", "code": "result = 1"}
        assert "write tool: {code: ...}" in warning.message

    def test_the_tool_names_what_may_not_be_given_twice(self) -> None:
        assert refused(step("step: a\ntool: {kind: python, code: result = 1}\ncode: result = 2")) == [
            (7, "unknown key 'code'")
        ]

    @pytest.mark.parametrize(
        ("key", "value", "place"),
        [("output_select", "[n]", ("tool", "output")), ("timeout_seconds", "5", ("spec", "timeout"))],
    )
    def test_older_keys_of_a_tool_stand_beside_it(self, key: str, value: str, place: tuple[str, str]) -> None:
        found, warnings = rewritten(step(f"step: a\ntool: {{kind: noop}}\n{key}: {value}"))
        outer, inner = place
        assert found[outer][inner] == {"select": [{"path": "$.n", "as": "n"}]} if outer == "tool" else 5
        assert {(warning.line, warning.pointer) for warning in warnings} == {(7, f"/workflow/0/{key}")}

    @pytest.mark.parametrize("next_", ["a", "[a]", "[{step: a}]"])
    def test_next_may_name_one_step(self, next_: str) -> None:
        found, warning = one_warning(step(f"step: a\ntool: {{kind: noop}}\nnext: {next_}"))
        assert found["next"] == {"arcs": [{"step": "a"}]}
        assert warning.message == "an older form: write next: {arcs: [{step: a}]}"
        assert (warning.line, warning.pointer) == (7, "/workflow/0/next")

    def test_an_arc_in_a_list_keeps_its_condition_and_its_place(self) -> None:
        found, warnings = rewritten(step("step: a\ntool: {kind: noop}\nnext:\n  - step: a\n    cond: '{{ ctx.x }}'"))
        assert found["next"] == {"arcs": [{"step": "a", "when": "{{ ctx.x }}"}]}
        assert [(warning.line, warning.pointer) for warning in warnings] == [
            (8, "/workflow/0/next"),
            (9, "/workflow/0/next/0/cond"),
        ]
        with pytest.raises(InvalidPlaybook) as caught:
            load_playbook(step("step: a\ntool: {kind: noop}\nnext:\n  - step: nowhere"))
        assert [(fault.line, fault.pointer) for fault in caught.value.faults] == [(8, "/workflow/0/next/0/step")]

    def test_a_step_without_a_tool_does_nothing(self) -> None:
        plan = load_plan(step("step: a\ndesc: the end"))
        assert [task.kind for task in plan.steps["a"].tasks] == ["noop"]

    def test_a_timeout_belongs_in_the_spec(self) -> None:
        found, warning = one_warning(step("step: a\ntool: {kind: noop}\ntimeout: 30s"))
        assert found["spec"] == {"timeout": "30s"}
        assert warning.message == "an older form: 'timeout' belongs in 'spec': write spec: {timeout: ...}"

    def test_rules_of_a_step_are_those_of_its_tool(self) -> None:
        rules = f'[{{when: "{ERROR}", then: {{do: fail}}}}]'
        found, _ = one_warning(step(f"step: a\ntool: {{kind: noop}}\nspec: {{policy: {{rules: {rules}}}}}"))
        assert found["tool"]["spec"]["policy"]["rules"] == [{"when": ERROR, "then": {"do": "fail"}}]

    def test_output_belongs_to_the_tool(self) -> None:
        select = "output: {select: [{path: $.a, as: a}]}"
        found, _ = one_warning(step(f"step: a\ntool: {{kind: noop}}\n{select}"))
        assert found["tool"]["output"] == {"select": [{"path": "$.a", "as": "a"}]}
        found, _ = one_warning(step(f"step: a\ntool:\n  - {{kind: noop}}\n  - {{kind: noop}}\n{select}"))
        assert found["tool"][1]["output"] == {"select": [{"path": "$.a", "as": "a"}]}

    def test_a_name_like_a_path_is_written_with_underscores_wherever_it_stands(self) -> None:
        spec = "executor: {spec: {entry_step: a/b.c-d, final_step: a/b.c-d}}"
        steps = "step: a/b.c-d\ntool: {kind: noop}\nnext: [{step: a/b.c-d}]"
        document = read_playbook(step(steps).replace("workflow:", f"{spec}\nworkflow:"))
        root = plain_data(document.root)
        assert root["workflow"][0]["step"] == root["workflow"][0]["next"]["arcs"][0]["step"] == "a_b_c_d"
        assert root["executor"]["spec"] == {"entry_step": "a_b_c_d", "final_step": "a_b_c_d"}
        said = [(warning.pointer, warning.message.rpartition(": ")[2]) for warning in document.warnings]
        assert ("/workflow/0/next/0/step", "write a_b_c_d") in said

    @pytest.mark.parametrize("other", ["a_b", "a-b", "a.b"])
    def test_a_name_that_another_step_would_share_is_left_as_it_is(self, other: str) -> None:
        steps = f"- {{step: a/b, tool: {{kind: noop}}}}\n- {{step: {other}, tool: {{kind: noop}}}}\n"
        assert (5, "'a/b' is not a valid name: use letters, digits and _, and do not begin with a digit") in refused(
            playbook(f"workflow:\n{steps}")
        )

    @pytest.mark.parametrize(
        "more",
        [
            "workload: {a_b: 1}",
            "# {{ _task == 'a/b' }}\nworkload: {x: \"{{ event.step == 'a/b' }}\"}",
            "workbook: [{name: w, tool: {kind: noop, input: {a_b: 1}}}]",
        ],
    )
    def test_a_name_that_could_be_mistaken_is_left_as_it_is(self, more: str) -> None:
        text = playbook(f"{more}\nworkflow: [{{step: a/b, tool: {{kind: noop}}}}]")
        assert any("'a/b' is not a valid name" in message for _, message in refused(text))

    def test_a_step_of_a_sub_playbook_is_named_as_it_is_there(self) -> None:
        found, warnings = rewritten(tool("kind: playbook\npath: /my/child\nreturn_step: etl/load\ntask: a"))
        assert found["tool"] == {"kind": "playbook", "path": "/my/child", "return_step": "etl_load"}
        assert [warning.line for warning in warnings] == [9, 10]

    @pytest.mark.parametrize("name", ["1/b", "and", "a b", "results", "é/b"])
    def test_what_cannot_become_a_name_is_refused(self, name: str) -> None:
        assert refused(step(f"step: {name}\ntool: {{kind: noop}}"))[0][0] == 5


class TestTool:
    def test_a_label_as_key(self) -> None:
        found, warning = one_warning(tool("- fetch: {kind: noop}\n- {name: b, kind: noop}"))
        assert found["tool"] == [{"kind": "noop", "name": "fetch"}, {"name": "b", "kind": "noop"}]
        assert "{name: fetch, kind: ...}" in warning.message

    def test_a_label_as_key_and_an_older_kind(self) -> None:
        found, warnings = rewritten(tool("- fetch: {type: noop}"))
        assert found["tool"] == [{"kind": "noop", "name": "fetch"}]
        assert [warning.pointer for warning in warnings] == [
            "/workflow/0/tool/0/fetch",
            "/workflow/0/tool/0/fetch/type",
        ]

    def test_output_of_the_step_belongs_to_a_labelled_task_too(self) -> None:
        select = "output: {select: [{path: $.a, as: a}]}"
        found, warnings = rewritten(step(f"step: a\ntool:\n  - fetch: {{kind: noop}}\n{select}"))
        output = {"select": [{"path": "$.a", "as": "a"}]}
        assert found["tool"] == [{"kind": "noop", "name": "fetch", "output": output}]
        assert [(warning.line, warning.pointer) for warning in warnings] == [
            (7, "/workflow/0/tool/0/fetch"),
            (8, "/workflow/0/output"),
        ]

    def test_fields_in_its_spec(self) -> None:
        found, warnings = rewritten(
            tool("kind: python\nspec: {code: result = 1, input: {a: 1}, timeout: 5}\ninput: {b: 2}")
        )
        assert found["tool"] == {
            "kind": "python",
            "spec": {"timeout": 5},
            "input": {"b": 2, "a": 1},
            "code": "result = 1",
        }
        assert [warning.pointer for warning in warnings] == [
            "/workflow/0/tool/spec/code",
            "/workflow/0/tool/spec/input",
        ]

    @pytest.mark.parametrize("name", ["timeout", "timeout_seconds"])
    def test_a_timeout_belongs_in_the_spec(self, name: str) -> None:
        plan = load_plan(tool(f"kind: python\ncode: result = 1\n{name}: 1m30s"))
        assert plan.steps["a"].tasks[0].timeout == 90

    def test_the_timeout_of_http_is_its_own(self) -> None:
        found, _ = one_warning(tool("kind: http\nurl: http://x/\ntimeout_seconds: 5"))
        assert found["tool"] == {"kind": "http", "url": "http://x/", "timeout": 5}

    def test_a_credential_of_postgres(self) -> None:
        found, _ = one_warning(tool("kind: postgres\ncredential: pg\ncommand: SELECT 1"))
        assert found["tool"] == {"kind": "postgres", "command": "SELECT 1", "auth": "pg"}

    def test_names_of_fields_to_select(self) -> None:
        found, _ = one_warning(tool("kind: noop\noutput_select: [n, a.b]"))
        assert found["tool"]["output"] == {"select": [{"path": "$.n", "as": "n"}, {"path": "$.a.b", "as": "b"}]}

    @pytest.mark.parametrize(
        ("retry", "then"),
        [
            ("4", {"attempts": 4}),
            ("true", {}),
            ("{max_attempts: 3, initial_delay: 1}", {"attempts": 3, "delay": 1}),
            ("{attempts: 2, delay: 5, backoff: linear}", {"attempts": 2, "delay": 5, "backoff": "linear"}),
            ("{max_attempts: 3, backoff_multiplier: 2, max_delay: 9}",
             {"attempts": 3, "backoff": "exponential", "max_delay": 9}),
            ("{max_attempts: 3, backoff: 5}", {"attempts": 3, "delay": 5}),
            ("{attempts: 3, backoff: 0.5, backoff_multiplier: 2}",
             {"attempts": 3, "delay": 0.5, "backoff": "exponential"}),
        ],
    )  # fmt: skip
    def test_a_retry_is_a_rule(self, retry: str, then: dict[str, Any]) -> None:
        found, warning = one_warning(tool(f"kind: noop\nretry: {retry}"))
        assert found["tool"] == {
            "kind": "noop",
            "spec": {"policy": {"rules": [{"when": ERROR, "then": {"do": "retry", **then}}]}},
        }
        assert warning.line == 8

    def test_a_condition_of_a_retry_is_asked_after_an_error(self) -> None:
        signed, _ = one_warning(tool('kind: noop\nretry: {retry_when: "{{- -1 + ctx.n > -1 -}}"}'))
        assert "(-1 + ctx.n > -1)" in str(signed)
        found, _ = one_warning(tool("kind: noop\nretry: {max_attempts: 3, retry_when: \"{{ error.code == 'x' }}\"}"))
        (rule,) = found["tool"]["spec"]["policy"]["rules"]
        assert rule["when"] == "{{ output.status == 'error' and (error.code == 'x') }}"

    def test_a_fault_in_a_retry_has_its_place(self) -> None:
        with pytest.raises(InvalidPlaybook) as caught:
            load_playbook(tool("kind: noop\nretry:\n  max_attempts: 3\n  jitter: 1"))
        (fault,) = caught.value.faults
        assert (fault.line, fault.column, fault.pointer) == (10, 9, "/workflow/0/tool/retry/jitter")

    @pytest.mark.parametrize("retry", ["{delay: 1, backoff: 5}", "{backoff: true}"])
    def test_a_backoff_that_can_be_no_delay_is_refused(self, retry: str) -> None:
        with pytest.raises(InvalidPlaybook, match="this must be one of none, fixed, linear, exponential"):
            load_playbook(tool(f"kind: noop\nretry: {retry}"))

    def test_no_retry(self) -> None:
        assert rewritten(tool("kind: noop\nretry: false"))[0]["tool"] == {"kind": "noop"}


class TestSet:
    def test_of_the_only_tool_is_that_of_the_step(self) -> None:
        found, warning = one_warning(step("step: a\ntool: {kind: noop, set: {ctx.x: 1}}\nset: {ctx.y: 2}"))
        assert found["set"] == {"ctx.y": 2, "ctx.x": 1}
        assert (warning.message, warning.line) == ("an older form: 'set' is written beside 'tool'", 6)

    def test_of_an_item_of_a_loop_is_a_rule(self) -> None:
        loop = "loop: {in: [1], iterator: i}"
        found, _ = one_warning(step(f"step: a\n{loop}\ntool: {{kind: noop, set: {{iter.x: 1}}}}"))
        rules = [{"when": OK, "then": {"do": "continue", "set": {"iter.x": 1}}}]
        assert found["tool"] == {"kind": "noop", "spec": {"policy": {"rules": rules}}}

    def test_of_one_task_of_several_is_a_rule(self) -> None:
        found, _ = one_warning(tool("- {kind: noop, set: {ctx.x: 1}}\n- {kind: noop}"))
        rules = [{"when": OK, "then": {"do": "continue", "set": {"ctx.x": 1}}}]
        assert found["tool"][0]["spec"]["policy"]["rules"] == rules

    def test_beside_rules_it_could_mean_several_things(self) -> None:
        text = tool("- {kind: noop, set: {ctx.x: 1}, spec: {policy: {rules: [{else: {then: {do: break}}}]}}}")
        assert refused(text)[0][1].startswith("'set' is not part of the language")

    def test_the_same_key_twice_is_refused(self) -> None:
        text = step("step: a\ntool: {kind: noop, set: {ctx.x: 1}}\nset: {ctx.x: 2}")
        assert [line for line, _ in refused(text)] == [6]

    def test_a_tool_in_two_places_is_rewritten_in_each(self) -> None:
        text = playbook(
            """
            workflow:
              - {step: a, tool: &t {kind: noop, set: {ctx.x: 1}}, next: {arcs: [{step: b}]}}
              - {step: b, tool: [*t, {kind: noop}]}
            """
        )
        plan = load_plan(text)
        assert [item.key for item in plan.steps["a"].set] == ["x"]
        assert [item.key for item in plan.steps["b"].tasks[0].rules[0].set] == ["x"]


class TestRules:
    def test_do_belongs_in_then(self) -> None:
        rules = f"""
spec:
  policy:
    rules:
      - {{when: "{ERROR}", do: retry, attempts: 2}}
      - else: {{do: continue, set: {{ctx.x: 1}}}}"""
        found, warnings = rewritten(tool(f"kind: noop{rules}"))
        assert found["tool"]["spec"]["policy"]["rules"] == [
            {"when": ERROR, "then": {"do": "retry", "attempts": 2}},
            {"else": {"then": {"do": "continue", "set": {"ctx.x": 1}}}},
        ]
        assert [warning.line for warning in warnings] == [11, 12]

    @pytest.mark.parametrize("name", ["cond", "condition"])
    def test_the_condition_of_an_arc(self, name: str) -> None:
        text = step(f"step: a\ntool: {{kind: noop}}\nnext: {{arcs: [{{step: a, {name}: '{{{{ ctx.x }}}}'}}]}}")
        found, _ = one_warning(text)
        assert found["next"]["arcs"] == [{"step": "a", "when": "{{ ctx.x }}"}]


class TestLoop:
    def test_its_older_names(self) -> None:
        text = step("step: a\nloop: {collection: [1], element: i, mode: async, max_in_flight: 3}\ntool: {kind: noop}")
        found, warnings = rewritten(text)
        assert found["loop"] == {"in": [1], "iterator": "i", "spec": {"mode": "parallel", "max_in_flight": 3}}
        assert len(warnings) == 5


class TestDocument:
    def test_one_without_older_forms_is_the_same(self) -> None:
        document = read_document(step("step: a\ntool: {kind: noop}"))
        assert read_playbook(step("step: a\ntool: {kind: noop}")).root == document.root
        assert not read_playbook(step("step: a\ntool: {kind: noop}")).warnings

    def test_the_hash_is_that_of_what_was_written(self) -> None:
        old = load_plan(step("step: a\ntool: {kind: noop}\nargs: {x: 1}"))
        new = load_plan(step("step: a\ntool: {kind: noop}\ninput: {x: 1}"))
        assert old.steps == new.steps
        assert old.hash != new.hash

    def test_strict_refuses_older_forms(self) -> None:
        document = read_playbook(step("step: a\ntool: {kind: noop}\nargs: {x: 1}"))
        with pytest.raises(InvalidPlaybook) as caught:
            load_document(document, strict=True)
        assert [(fault.code, fault.line) for fault in caught.value.faults] == [("playbook.older_form", 7)]


def refused(text: str) -> list[tuple[int | None, str]]:
    with pytest.raises(InvalidPlaybook) as caught:
        load_playbook(text)
    return [(fault.line, fault.message) for fault in caught.value.faults]


class TestTokens:
    """`token(NAME)`, an access token of the service account that a credential holds."""

    @pytest.mark.parametrize(
        ("call", "name", "auth"),
        [
            ("token(account)", "account_token", "{{ workload.account }}"),
            ("token( workload.account )", "account_token", "{{ workload.account }}"),
            ("token('of-google')", "of_google_token", "of-google"),
            ('token("google")', "google_token", "google"),
        ],
    )
    def test_it_is_read_from_an_entry_of_the_keychain(self, call: str, name: str, auth: str) -> None:
        text = tokens(f"Bearer {{{{ {call} }}}} and {{{{ {call} }}}}")
        document = read_playbook(text)
        load_document(document)
        root = plain_data(document.root)
        assert root["keychain"] == [{"name": name, "kind": "google_access_token", "auth": auth}]
        header = root["workflow"][0]["tool"]["headers"]["A"]
        assert header == f"Bearer {{{{ keychain.{name}.token }}}} and {{{{ keychain.{name}.token }}}}"
        [warning] = document.warnings
        assert (warning.pointer, warning.line) == ("/workflow/0/tool/headers/A", 9)

    def test_it_stands_behind_the_entries_that_are_there(self) -> None:
        text = tokens("{{ token(account) }}", keychain="[{name: google, ref: google}]")
        root = plain_data(read_playbook(text).root)
        assert [entry["name"] for entry in root["keychain"]] == ["google", "account_token"]

    @pytest.mark.parametrize(
        ("call", "keychain"),
        [
            ("token(other)", "[]"),
            ("token(account, 'audience')", "[]"),
            ("token(account ~ 'x')", "[]"),
            ("token(account)", "[{name: google, ref: another}]"),
            ("token(account)", "[{name: account_token, ref: google}]"),
            ("token(dynamic)", "[]"),
            ("token('account') ~ token(account)", "[]"),
            ("token('é')", "[]"),
            ("token('1a')", "[]"),
            ("token(x.account)", "[]"),
        ],
    )
    def test_what_could_mean_something_else_is_refused(self, call: str, keychain: str) -> None:
        found = refused(tokens(f"{{{{ {call} }}}}", keychain))
        assert any(line == 9 and "there is no function named 'token'" in message for line, message in found), found

    @pytest.mark.parametrize(
        "header",
        [
            "token(account) {{ workload.account }}",
            "{{ 'token(account)' }}",
            '{{ "a token(account)" }}',
            "{{ x.token(account) }}",
            "{{ atoken(account) }}",
            "{{ account | token(account) }}",
            "{{ 'a \\' token(account)' }}",
            "{% raw %}{{ token(account) }}{% endraw %}",
            "{# {{ token(account) }} #}",
        ],
    )
    def test_what_is_no_call_is_left_as_it_is(self, header: str) -> None:
        document = read_playbook(tokens(header))
        assert not document.warnings
        assert plain_data(document.root)["workflow"][0]["tool"]["headers"] == {"A": header}

    def test_a_keychain_that_is_none_is_still_refused(self) -> None:
        assert refused(tokens("{{ token(account) }}", "[{name: [google], ref: x}, 7]"))[0][0] == 4

    @pytest.mark.parametrize(
        "nearer",
        [
            "input: {account: two}",
            "loop: {in: [a, b], iterator: account}",
            "set: {ctx.account: x}",
            "args: {account: '{{ workload.other }}'}",
            "input: {account: account}",
            "input: {account: workload.account}",
        ],
    )
    def test_a_name_that_may_mean_something_nearer_than_the_workload_is_refused(self, nearer: str) -> None:
        text = tokens("{{ token(account) }}") + f"    {nearer}\n"
        assert any("there is no function named 'token'" in message for _, message in refused(text))
        assert read_playbook(tokens("{{ token(workload.account) }}") + f"    {nearer}\n").warnings

    def test_what_only_hands_the_name_on_hides_nothing(self) -> None:
        text = tokens("{{ token(account) }}") + "    input: {account: '{{ account }}'}\n"
        load_document(read_playbook(text))

    def test_what_follows_a_call_stays_in_its_line(self) -> None:
        header = "{{ token(\n'google'\n) }}\n{{ nosuch.x }}"
        document = read_playbook(tokens(header))
        assert plain_data(document.root)["workflow"][0]["tool"]["headers"]["A"].count("\n") == header.count("\n")

    @pytest.mark.parametrize(
        "text",
        [
            "token(" + "{{" * 1_000_000,
            "{{ " + "token('a') ~ " * 200_000 + "1 }}",
            [f"{{{{ token('a') }}}} {n}" for n in range(20_000)],
            {f"k{n}": "{{ token('a') }}" for n in range(20_000)},
        ],
    )
    def test_its_work_grows_with_the_text(self, text: Any) -> None:
        # squared, each of these would take minutes
        assert len(read_playbook(tokens(text)).warnings) < 2


class TestProvidedAuth:
    """A secret of Google's that stands in the `auth` of http."""

    GIVEN: ClassVar = {
        "type": "bearer",
        "provider": "secret_manager",
        "key": "{{ path }}",
        "oauth_credential": "{{ workload.account }}",
    }

    def text(self, auth: Any, more: str = "") -> str:
        steps = "".join(
            f"  - {{step: s{n}, tool: {{kind: http, url: http://x/, auth: {json.dumps(auth)}}}}}\n" for n in range(2)
        )
        return playbook(f"workload: {{account: google, path: projects/p/secrets/k}}\nworkflow:\n{steps}{more}")

    def test_it_is_an_entry_of_the_keychain(self) -> None:
        document = read_playbook(self.text({"openai": self.GIVEN}))
        load_document(document)
        root = plain_data(document.root)
        assert root["keychain"] == [
            {
                "name": "openai",
                "kind": "secret_manager",
                "provider": "gcp",
                "auth": "{{ workload.account }}",
                "map": {"token": "{{ path }}"},
            }
        ]
        assert [step["tool"]["auth"] for step in root["workflow"]] == [{"credential": "openai", "type": "bearer"}] * 2
        [warning] = document.warnings
        assert (warning.line, warning.pointer) == (6, "/workflow/0/tool/auth")
        assert "write auth: {credential: openai, type: bearer}" in warning.message

    @pytest.mark.parametrize(
        "auth",
        [
            {"openai": {**GIVEN, "type": "basic"}},
            {"openai": {**GIVEN, "provider": "aws"}},
            {"openai": {**GIVEN, "key": "{{ none }}"}},
            {"openai": {**GIVEN, "key": "{{ path ~ 'x' }}"}},
            {"openai": {**GIVEN, "header": "X"}},
            {"openai": {**GIVEN, "key": ""}},
            {"open ai": GIVEN},
            {"a": GIVEN, "b": GIVEN},
            {"credential": "a"},
        ],
    )
    def test_anything_else_is_left_as_it_is(self, auth: Any) -> None:
        document = read_playbook(self.text(auth))
        assert not document.warnings
        assert plain_data(document.root)["workflow"][0]["tool"]["auth"] == auth

    def test_a_name_that_is_also_that_of_a_stored_credential_is_left_alone(self) -> None:
        more = "  - {step: t, tool: {kind: http, url: http://y/, auth: openai}}\n"
        assert not read_playbook(self.text({"openai": self.GIVEN}, more)).warnings

    def test_what_may_be_the_secret_itself_is_not_in_the_warning(self) -> None:
        document = read_playbook(self.text({"openai": {**self.GIVEN, "key": "sk-LITERAL"}}))
        assert document.warnings and "sk-LITERAL" not in str(document.warnings)

    def test_a_name_that_may_mean_something_nearer_than_the_workload_is_left_alone(self) -> None:
        more = "  - {step: t, tool: {kind: noop}, input: {path: other}}\n"
        assert not read_playbook(self.text({"openai": self.GIVEN}, more)).warnings


def tokens(header: Any, keychain: str = "") -> str:
    before = f"keychain: {keychain}\n" if keychain else "# no keychain\n"
    return playbook(
        f"{before}workload: {{account: google, dynamic: '{{{{ x }}}}'}}\nworkflow:\n  - step: a\n"
        f"    tool: {{kind: http, url: http://x/, params: {{n: 1}},\n      headers: {{A: {json.dumps(header)}}}}}\n"
    )


def test_the_credential_and_the_region_of_a_script_may_be_those_of_the_workload() -> None:
    source = "{type: s3, auth: '{{ account }}', region: '{{ workload.region }}'}"
    text = tool(f"kind: python\nscript: {{uri: s3://b/x.py, source: {source}}}")
    [(_, script)] = scripts_of(read_playbook(text + "workload: {account: aws_reader, region: eu-1}\n").root)
    assert (script.source.auth, script.source.region) == ("aws_reader", "eu-1")


@pytest.mark.parametrize(("seconds", "read"), [("30", 20), ("20", 20), ("20.5", 20), ("0.5", 0.5), ("'30'", "30")])
def test_more_time_for_a_script_than_it_gets_is_what_it_gets(seconds: str, read: Any) -> None:
    found = read_playbook(tool(f"kind: python\nscript: {{uri: http://x/y.py, source: {{timeout: {seconds}}}}}"))
    assert plain_data(found.root)["workflow"][0]["tool"]["script"]["source"]["timeout"] == read
    assert [warning.message for warning in found.warnings] == (
        ["an older form: reading a script takes 20 s at most: write that"] if seconds in ("30", "20.5") else []
    )


@pytest.mark.parametrize(
    ("uri", "read"),
    [
        ("{{ workload.dir }}/x.py", "lib/x.py"),
        ("{{ workload.dir | upper }}/{{ workload.n }}.py", "LIB/1.py"),
        ("{{ ctx.dir }}/x.py", None),
        ("{{ workload.none }}/x.py", None),
        ("{{ workload.n }}", None),
    ],
)
def test_a_script_is_where_the_workload_of_the_playbook_says(uri: str, read: str | None) -> None:
    text = tool(f'kind: python\nscript: {{uri: "{uri}"}}') + "workload: {dir: lib, n: 1}\n"
    document = read_playbook(text)
    assert [script.uri for _, script in scripts_of(document.root)] == ([read] if read else [])
    assert [f"write uri: {read}" in warning.message for warning in document.warnings] == ([True] if read else [])


@pytest.mark.parametrize(
    ("source", "location"),
    [
        ('{type: http, endpoint: "{{ workload.host }}"}', "http://h/x.py"),
        ('{type: http, endpoint: "{{ ctx.host }}"}', None),
        ("{type: http, endpoint: http://h, method: GET, timeout: 3}", "http://h/x.py"),
        ("{type: http, endpoint: http://h, method: POST}", None),
        ("{type: http, endpoint: http://h, timeout: -1}", None),
    ],
)
def test_the_server_of_a_script_may_be_of_the_workload_too(source: str, location: str | None) -> None:
    text = tool(f"kind: python\nscript: {{uri: x.py, source: {source}}}") + "workload: {host: http://h}\n"
    found = [script.location for _, script in scripts_of(read_playbook(text).root)]
    assert found == [location] if location else "{{" in str(found) or not found


@pytest.mark.parametrize(
    ("next_", "mode"),
    [
        ("[{step: a}, {step: b}]", "inclusive"),
        ("{arcs: [{step: a}, {step: b}]}", "exclusive"),
    ],
)
def test_next_mode_is_the_mode_of_the_router(next_: str, mode: str) -> None:
    text = step(f"step: a\ntool: {{kind: noop}}\nspec: {{next_mode: {mode}}}\nnext: {next_}") + "  - {step: b}\n"
    router = load_playbook(text).playbook.workflow[0].next
    assert router is not None and router.spec is not None
    assert (router.spec.mode, [arc.step for arc in router.arcs]) == (mode, ["a", "b"])


@pytest.mark.parametrize("next_", ["{spec: {mode: exclusive}, arcs: [{step: a}]}", "a"])
def test_next_mode_that_is_said_twice_or_of_no_list_is_refused(next_: str) -> None:
    text = step(f"step: a\ntool: {{kind: noop}}\nspec: {{next_mode: inclusive}}\nnext: {next_}")
    assert any("'next_mode'" in message for _, message in refused(text))


@pytest.mark.parametrize("words", ["[network]", "timeout", "[timeout, 3]", "[]"])
def test_retry_on_what_is_not_known_is_refused(words: str) -> None:
    text = tool(f"kind: noop\nretry: {{max_attempts: 2, retry_on: {words}}}")
    assert any("'retry_on'" in message for _, message in refused(text))


@pytest.mark.parametrize("spec", ["{entry_step: a}", "{budget: {max_invocations: 1}, x: 1}", "[]", "1"])
def test_a_spec_of_the_playbook_that_is_no_workload_is_refused(spec: str) -> None:
    text = tool("kind: noop") + f"spec: {spec}\n"
    assert any("'spec'" in message for _, message in refused(text))


@pytest.mark.parametrize(
    "select",
    [
        "{strategy: first, threshold_kb: 1}",
        "{strategy: size_threshold}",
        "{strategy: size_threshold, threshold_kb: -1}",
    ],
)
def test_an_output_select_that_says_something_else_is_refused(select: str) -> None:
    text = tool(f"kind: noop\noutput_select: {select}")
    assert any("'output_select'" in message for _, message in refused(text))


def test_a_fault_in_a_rewritten_part_is_where_it_was_written() -> None:
    text = step("step: a\ntool: {kind: noop}\nspec: {next_mode: inclusive}\nnext:\n  - step: nowhere\n  - {step: a}")
    assert refused(text) == [(9, "there is no step 'nowhere'")]
    text = tool("kind: python\nscript: {uri: inline, source: {type: inline, code: 'result ='}}")
    assert [line for line, _ in refused(text)] == [8]


@pytest.mark.parametrize(
    "fields",
    [
        "output: {inline_max_bytes: 100, output_select: {strategy: size_threshold, threshold_kb: 10}}",
        "output: {select: [{path: $.a, as: a}], output_select: [b]}",
        "output: 5\noutput_select: [b]",
        "output: 5\noutput_select: {strategy: size_threshold, threshold_kb: 10}",
        "retry: 3\nspec: oops",
        "retry: 3\nspec: {policy: oops}",
        "retry: {when: null, max_attempts: 3}",
        "retry: {when: 5, max_attempts: 3}",
        "retry: {backoff_multiplier: true}",
        "retry: {retry_on: [{timeout: 5}]}",
        "retry: {retry_on: [[timeout]]}",
        "set: {step.a: 1}\nspec: oops",
    ],
)
def test_what_stands_beside_an_older_form_is_not_dropped(fields: str) -> None:
    assert refused(tool(f"kind: noop\n{fields}"))


def test_a_router_that_is_wrong_is_not_dropped_for_next_mode() -> None:
    text = step("step: a\ntool: {kind: noop}\nspec: {next_mode: inclusive}\nnext: {spec: oops, arcs: [{step: a}]}")
    assert refused(text)


@pytest.mark.parametrize(("when", "rendered"), [("false", False), ("true", True)])
def test_a_retry_that_is_always_or_never_made(when: str, rendered: bool) -> None:
    plan = load_plan(tool(f"kind: noop\nretry: {{when: {when}, max_attempts: 3}}"))
    ((rule,),) = [task.rules for task in plan.steps["a"].tasks]
    assert rule.when is not None
    assert rule.when.render({"output": {"status": "error"}}) is rendered


def test_a_fault_in_the_condition_of_a_retry_is_where_it_was_written() -> None:
    text = tool("kind: noop\nretry:\n  attempts: 1\n\n  when: >-\n    {{ 1 + }}")
    assert [line for line, _ in refused(text)] == [12]


@pytest.mark.parametrize(
    "script", ["{uri: a, sha256: x, source: {type: inline, code: x}}", "{source: {type: inline, n: 1}}"]
)
def test_an_inline_script_with_more_than_its_code_is_refused(script: str) -> None:
    assert refused(tool(f"kind: python\nscript: {script}"))


def test_an_inline_script_of_sql_is_its_command() -> None:
    document = read_playbook(tool("kind: postgres\nauth: a\nscript: {source: {type: inline, code: SELECT 1}}"))
    (task,) = [step["tool"] for step in document.root["workflow"]]
    assert (task["command"], "script" in task) == ("SELECT 1", False)


def test_names_of_steps_beside_next_mode_are_arcs() -> None:
    text = step("step: a\ntool: {kind: noop}\nspec: {next_mode: inclusive}\nnext: [a, {step: b}]") + "  - {step: b}\n"
    router = load_playbook(text).playbook.workflow[0].next
    assert router is not None and [arc.step for arc in router.arcs] == ["a", "b"]


def test_places_of_scripts_take_a_bounded_time_together() -> None:
    costly = "{% for i in range(900) %}{% for j in range(1000) %}{{ '' }}{% endfor %}{% endfor %}a.py"
    steps = "".join(f'''  - {{step: s{n}, tool: {{kind: python, script: {{uri: "{costly}"}}}}}}\n''' for n in range(40))
    began = time.process_time()
    document = read_playbook(f"apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {{name: x}}\nworkflow:\n{steps}")
    # of 40 that each take as much as one template may
    assert 0 < len(document.warnings) < 20, f"{len(document.warnings)} in {time.process_time() - began:.1f} s"


def test_rules_of_a_step_do_not_take_the_place_of_a_spec_of_the_tool_that_is_wrong() -> None:
    rules = "[{else: {then: {do: fail}}}]"
    assert refused(step(f"step: a\ntool: {{kind: noop, spec: oops}}\nspec: {{policy: {{rules: {rules}}}}}"))
