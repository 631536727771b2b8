"""The grammar of `keychain`, where templates may read it, and what is known of its entries before a run."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

import pytest

from noetl_serverless.errors import InvalidPlaybook
from noetl_serverless.playbook.lint import lint
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.playbook.plan import Plan
from noetl_serverless.tools import registry

HEAD = "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: x}\nworkload: {url: u, cred: c}\n"
NOOP = "workflow:\n  - {step: a, tool: {kind: noop}}\n"
# from line 5 on
ENTRIES = """\
keychain:
  - {name: tok, kind: oauth2, endpoint: "{{ workload.url }}"}
  - {name: b, kind: bearer, token: "{{ url }}"}
  - name: pair
    kind: static
    map: {user: ann, pin: "{{ keychain.b.token }}"}
"""


def plan(keychain: str, rest: str = NOOP) -> Plan:
    return load_plan(HEAD + dedent(keychain) + rest)


def faults(keychain: str, rest: str = NOOP) -> list[tuple[int | None, str, str]]:
    with pytest.raises(InvalidPlaybook) as caught:
        plan(keychain, rest)
    return [(fault.line, fault.code, fault.message) for fault in caught.value.faults]


def entry(text: str) -> str:
    return f"keychain:\n  - {text}\n"


class TestEntries:
    def test_all_that_is_written_is_compiled(self) -> None:
        found = plan(ENTRIES).keychain
        assert {name: (one.kind, one.scope, one.auto_renew) for name, one in found.items()} == {
            "tok": ("oauth2", "local", False),
            "b": ("bearer", "local", False),
            "pair": ("static", "local", False),
        }
        assert found["pair"].needs == {"b"} and dict(found["b"].reads) == {"url": None}

    @pytest.mark.parametrize(
        ("written", "kind"),
        [
            ("kind: secrets, provider: gcp, auth: c, map: {a: b}", "secret_manager"),
            ("kind: secret_manager, provider: gcp, auth: '{{ workload.cred }}', map: {a: b}", "secret_manager"),
            ("kind: credential_ref, credential: c", "credential"),
            ("kind: credential", "credential"),
            ("ref: c, type: postgres", "credential"),
            ("kind: google_id_token, target_audience: x, service_account_credential: c", "google_id_token"),
        ],
    )
    def test_kinds_have_the_names_that_are_in_use(self, written: str, kind: str) -> None:
        assert plan(entry(f"{{name: x, scope: global, auto_renew: true, {written}}}")).keychain["x"].kind == kind

    @pytest.mark.parametrize(
        ("written", "code", "message"),
        [
            ("{name: x, kind: secretz}", "playbook.invalid_value", "did you mean 'secrets'?"),
            ("{name: x}", "playbook.missing_field", "'kind' is required"),
            ("{name: x, kind: 5}", "playbook.invalid_value", "this must be one of secret_manager"),
            ("{name: 5x, kind: static, map: {a: b}}", "playbook.invalid_value", "use letters, digits, _ and -"),
            ("{kind: bearer, token: x}", "playbook.missing_field", "'name' is required"),
            ("{name: x, kind: bearer}", "playbook.missing_field", "'token' is required"),
            ("{name: x, kind: static, map: {}}", "playbook.invalid_value", "at least 1 item"),
            ("{name: x, kind: oauth2}", "playbook.missing_field", "'endpoint' is required"),
            ("{name: x, kind: oauth2, endpoint: u, methode: GET}", "playbook.unknown_key", "did you mean 'method'?"),
            ("{name: x, kind: oauth2, endpoint: u, scope: catalog}", "playbook.invalid_value", "local, global, shared"),
            ("{name: x, kind: oauth2, endpoint: u, ttl: 0}", "playbook.invalid_value", "at least 1"),
            ("{name: x, kind: bearer, token: y, ttl: 9}", "playbook.unknown_key", "unknown key 'ttl'"),
            ("{name: x, kind: secrets, provider: gpc, auth: c, map: {a: b}}", "playbook.invalid_value", "mean 'gcp'?"),
            ("{name: x, kind: secrets, provider: gcp, map: {a: b}}", "playbook.missing_field", "'auth' is required"),
            ("{name: x, kind: google_id_token, target_audience: a}", "playbook.invalid_value", "'auth' is required"),
            ("{name: x, kind: google_id_token, target_audience: a, auth: c, service_account_credential: c}",
             "playbook.invalid_value", "not both"),
            ("{name: x, kind: credential, credential: a, ref: b}", "playbook.invalid_value", "not both"),
            ("{name: x, kind: secrets, provider: credential, auth: c, endpoint: u, map: {a: b}}",
             "playbook.invalid_value", "'endpoint' requires provider: gcp or aws"),
        ],
    )  # fmt: skip
    def test_a_fault_has_its_line_and_says_what_to_write(self, written: str, code: str, message: str) -> None:
        [fault] = faults(entry(written))
        assert fault[:2] == (6, code) and message in fault[2], fault

    def test_a_name_is_given_once(self) -> None:
        found = faults(entry("{name: x, kind: credential}\n  - {name: x, kind: credential}"))
        assert found == [(7, "playbook.duplicate_name", "there is another keychain entry named 'x'")]

    @pytest.mark.parametrize(
        ("written", "name"),
        [
            ("kind: bearer, token: '{{ ctx.a }}'", "ctx"),
            ("kind: bearer, token: '{{ a.result }}'", "a"),
            ("kind: bearer, token: '{{ auth.token }}'", "auth"),
            ("kind: oauth2, endpoint: '{{ response.url }}'", "response"),
            ("kind: oauth2, endpoint: u, map: {a: '{{ auth.token }}'}", "auth"),
        ],
    )
    def test_an_entry_reads_nothing_of_a_run_but_its_workload(self, written: str, name: str) -> None:
        [(line, code, message)] = faults(entry(f"{{name: x, {written}}}"))
        assert (line, code) == (6, "playbook.invalid_value")
        assert message.startswith(f"'{name}' cannot be read in a keychain entry")

    def test_entries_do_not_need_each_other_in_a_circle(self) -> None:
        found = faults(
            """\
            keychain:
              - {name: a, kind: bearer, token: "{{ keychain.b.token }}"}
              - {name: b, kind: bearer, token: "{{ keychain.c.token }}"}
              - {name: c, kind: bearer, token: "{{ keychain.a.token }}"}
              - {name: d, kind: bearer, token: "{{ keychain.a.token }}"}
            """
        )
        assert [(line, message) for line, _, message in found] == [
            (line, f"the keychain entry '{name}' needs its own value") for line, name in ((6, "a"), (7, "b"), (8, "c"))
        ]

    def test_a_long_chain_of_entries_compiles(self) -> None:
        chain = [f'  - {{name: e{n}, kind: bearer, token: "{{{{ keychain.e{n + 1}.token }}}}"}}\n' for n in range(99)]
        assert len(plan("keychain:\n" + "".join(chain) + "  - {name: e99, kind: credential}\n").keychain) == 100

    def test_the_schema_has_every_kind(self) -> None:
        schema = registry.playbook_schema()
        definitions = schema["$defs"]
        assert definitions["OAuth2Entry"]["required"] == ["name", "kind", "endpoint"]
        assert schema["properties"]["keychain"]["maxItems"] == 100


def step(text: str) -> str:
    return "workflow:\n" + dedent(text)


class TestWhereItIsRead:
    def test_tools_and_inputs_read_it_and_only_their_names_are_known(self) -> None:
        found = plan(
            ENTRIES,
            step(
                """\
                - step: a
                  input: {x: "{{ keychain.pair.pin }}", y: 1}
                  tool:
                    - {kind: http, url: u, headers: {A: "Bearer {{ keychain.tok.access_token }}"}}
                    - {kind: postgres, auth: pg, query: "SELECT {{ keychain.b.token }}"}
                    - {kind: noop}
                """
            ),
        ).steps["a"]
        assert [task.secrets for task in found.tasks] == [{"tok"}, {"b"}, set()]
        assert (found.input, list(found.secret_input), found.secrets) == ({"y": 1}, ["x"], {"pair"})
        assert found.reads["workload"] == {"url"}, "the worker cannot render what the entries read"

    @pytest.mark.parametrize(
        "written",
        [
            "set: {ctx.x: '{{ keychain.b.token }}'}",
            "loop: {in: '{{ keychain.b.token }}', iterator: i}",
            "loop: {in: '{{ [1] }}', iterator: i, spec: {mode: parallel, max_in_flight: '{{ keychain.b.token }}'}}",
            "loop: {iterator: i, cursor: {kind: postgres, auth: pg, claim: 'SELECT {{ keychain.b.token }}'},"
            " spec: {mode: cursor}}",
            "spec: {policy: {admit: {rules: [{when: '{{ keychain.b.token }}', then: {allow: true}}]}}}",
            "next: {arcs: [{step: a, when: '{{ keychain.b.token }}'}]}",
            "next: {arcs: [{step: a, set: {ctx.x: '{{ keychain.b.token }}'}}]}",
        ],
    )
    def test_what_is_written_to_the_log_does_not(self, written: str) -> None:
        [(line, code, message)] = faults(ENTRIES, step(f"- step: a\n  tool: {{kind: noop}}\n  {written}\n"))
        assert (line, code) == (14, "playbook.invalid_value")
        assert "its value would be written to the log" in message

    @pytest.mark.parametrize(
        "written",
        [
            "{when: '{{ keychain.b.token }}', then: {do: fail}}",
            "{else: {then: {do: continue, set: {ctx.x: '{{ keychain.b.token }}'}}}}",
        ],
    )
    def test_nor_does_a_rule(self, written: str) -> None:
        found = faults(ENTRIES, step(f"- step: a\n  tool: {{kind: noop, spec: {{policy: {{rules: [{written}]}}}}}}\n"))
        assert [("would be written to the log" in message) for _, _, message in found] == [True], found

    @pytest.mark.parametrize(
        "written",
        [
            "tool: {kind: playbook, path: p, input: {x: '{{ keychain.b.token }}'}}",
            "tool: {kind: playbook, path: p, payload: {x: '{{ keychain.b.token }}'}}",
            "tool: {kind: playbook, path: p}\n  input: {x: '{{ keychain.b.token }}'}",
            "tool: {kind: workbook, name: w, input: {x: '{{ keychain.b.token }}'}}",
            "tool: [{kind: noop}, {kind: playbook, path: p}]\n  input: {x: '{{ keychain.b.token }}'}",
        ],
    )
    def test_nor_does_what_a_sub_playbook_is_given(self, written: str) -> None:
        workbook = "workbook:\n  - {name: w, tool: {kind: playbook, path: p}}\n"
        found = faults(ENTRIES + workbook, step(f"- step: a\n  {written}\n"))
        assert [("no sub-playbook" in message) for _, _, message in found] == [True], found

    @pytest.mark.parametrize(
        ("read", "message"),
        [
            ("keychain.tokk.access_token", "there is no keychain entry 'tokk'; did you mean 'tok'?"),
            ("keychain['tokk']['access_token']", "there is no keychain entry 'tokk'; did you mean 'tok'?"),
            ("keychain.zzzzz.x", "there is no keychain entry 'zzzzz'; declare it in 'keychain'"),
            ("keychain.b.tokn", "the keychain entry 'b' has no field 'tokn'; did you mean 'token'?"),
            ("keychain.b['zzz']", "the keychain entry 'b' has no field 'zzz'; its fields are access_token, token"),
            ("keychain.pair.zzz", "the keychain entry 'pair' has no field 'zzz'; its fields are pin, user"),
            ("keychain", "write the names of the entry and of its field: {{ keychain.name.field }}"),
            ("keychain[workload.url]", "write the names of the entry and of its field: {{ keychain.name.field }}"),
            ("(keychain | list)[0]", "write the names of the entry and of its field: {{ keychain.name.field }}"),
        ],
    )
    def test_a_name_that_does_not_exist_is_found_before_the_run(self, read: str, message: str) -> None:
        rest = step(f"- step: a\n  tool:\n    kind: http\n    url: |\n      x\n      {{{{ {read} }}}}\n")
        [(line, _, found)] = faults(ENTRIES, rest)
        assert (line, found) == (17, message)

    @pytest.mark.parametrize(
        "read", ["keychain.tok.anything", "keychain.pair", "keychain.pair.get('user')", "keychain.pair['pin'] | upper"]
    )
    def test_what_may_exist_passes(self, read: str) -> None:
        assert plan(ENTRIES, step(f'- step: a\n  tool: {{kind: http, url: "{{{{ {read} }}}}"}}\n')).steps["a"]

    def test_without_a_keychain_the_name_is_not_declared(self) -> None:
        [(_, code, message)] = faults("", step('- step: a\n  tool: {kind: http, url: "{{ keychain.x.y }}"}\n'))
        assert (code, message) == (
            "playbook.unknown_secret",
            "there is no keychain entry 'x'; declare it in 'keychain'",
        )


class TestLint:
    def warnings(self, keychain: str, rest: str = NOOP) -> list[tuple[str, int | None]]:
        found = lint(HEAD + keychain + rest)
        return [(finding.code, finding.line) for finding in found if finding.code.endswith("_secret")]

    def test_an_entry_that_nothing_uses_is_reported(self) -> None:
        uses = step('- step: a\n  tool: {kind: http, url: u, auth: tok, params: {a: "{{ keychain.pair.pin }}"}}\n')
        entries = ENTRIES.replace("user: ann, ", "")
        assert self.warnings(entries, uses) == []
        assert self.warnings(entries) == [("playbook.unused_secret", line) for line in (6, 7, 8)]
        named = step('- step: a\n  tool: {kind: http, url: u, auth: "{{ workload.cred }}"}\n')
        assert self.warnings(entries, named) == []

    @pytest.mark.parametrize("written", ["kind: bearer, token: abc", "kind: static, map: {n: 1, a: [{b: abc}]}"])
    def test_a_secret_in_the_text_is_reported(self, written: str) -> None:
        uses = step('- step: a\n  tool: {kind: http, url: u, params: {a: "{{ keychain.x }}"}}\n')
        assert self.warnings(entry(f"{{name: x, {written}}}"), uses) == [("playbook.literal_secret", 6)]


def test_the_example_of_the_page_registers_without_warnings() -> None:
    page = (Path(__file__).parents[3] / "playbooks" / "README.md").read_text()
    [example] = re.findall(r"## Keychain\n.*?```yaml\n(.*?)```", page, re.S)
    assert lint("apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: x}\n" + example) == []
