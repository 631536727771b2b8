"""Commands whose tools use secrets: when these are resolved, and that nothing of them is reported."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from tests.unit.worker.builders import FakeTool, claimed

from noetl_serverless.errors import Problem, Unavailable, Unsupported
from noetl_serverless.playbook.load import load_plan
from noetl_serverless.protocol import (
    CallbackRequest,
    CallbackUrl,
    FetchedSecret,
    Frame,
    Outcome,
    SecretAnswer,
    SecretRequest,
)
from noetl_serverless.protocol import SecretStored as Stored
from noetl_serverless.results.files import ResultFiles
from noetl_serverless.results.reader import Resolver
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.results.stores import ResultStores
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.stream import in_field, write_table
from noetl_serverless.tables.value import read_value
from noetl_serverless.telemetry.masking import masking
from noetl_serverless.telemetry.secret_texts import MAX_SECRETS
from noetl_serverless.tools.port import Credential, ToolCall, ToolContext, ToolFailure, ToolOutcome
from noetl_serverless.worker.execution import keychain
from noetl_serverless.worker.execution.executor import Executor
from noetl_serverless.worker.execution.time_budget import TimeBudget
from noetl_serverless.worker.execution.toolbox import Toolbox

HEAD = """\
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: x}
keychain:
  - {name: api, kind: oauth2, endpoint: "http://x/token", auth: client}
  - {name: key, kind: credential, credential: stored}
  - {name: made, kind: static, map: {text: "{{ keychain.key.value }}/{{ keychain.api.access_token }}"}}
workflow:
"""
TOKEN, VALUE = "t0ken-of-api", "v..lue of the key"


class Cache:
    """Gives a token that somebody fetched; the next so many calls fail."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failures = 0
        self.token = TOKEN
        # of callback URLs
        self.refusal: Problem | None = None

    async def acquire_secret(self, request: SecretRequest) -> SecretAnswer:
        self.asked.append(request.name)
        if self.failures:
            self.failures -= 1
            return SecretAnswer(fetch="f")
        return SecretAnswer(data={"access_token": self.token}, seconds_left=100)

    async def store_secret(self, request: FetchedSecret) -> Stored:
        return Stored(stored=request.data is not None)

    async def callback_url(self, request: CallbackRequest) -> CallbackUrl:
        self.asked.append(request.name)
        if self.refusal is not None:
            raise self.refusal
        token = f"head.{request.command_id}-{len(self.asked)}.signature"
        return CallbackUrl(url=f"https://gw.test/callbacks/{token}", token=token, expires_at="2027-01-01T00:00:00Z")


class Bench:
    def __init__(self, scratch: Path) -> None:
        self.cache = Cache()
        self.scratch = scratch
        # the fields of every credential
        self.stored: dict[str, Any] = {"value": VALUE}
        self.tools = {"http": FakeTool(refuse), "python": FakeTool(), "postgres": FakeTool()}
        stores = ResultStores(FsspecResultStore(f"memory://{scratch.name}"))
        load: Any = self.tools.__getitem__

        async def credential(name: str) -> Credential:
            return Credential(name, "any", self.stored)

        self.toolbox = Toolbox(
            load_tool=load,
            python=cast(Any, None),
            credential=credential,
            stores=stores,
            resolver=Resolver(stores),
            scratch=scratch,
            secrets=self.cache,
        )

    async def run(self, step: str, **more: Any) -> Outcome:
        return await Executor(self.toolbox, "w").run(claimed(**more), load_plan(HEAD + step), TimeBudget(60.0))


def refuse(call: ToolCall, context: ToolContext) -> ToolOutcome:
    """The token endpoint."""
    return ToolFailure("http", "http.status", f"answered 403 to {call.config}").outcome()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


STEP = """\
  - step: a
    input: {made: "{{ keychain.made.text }}", n: 1}
    tool: {kind: python, code: "result = 1", input: {token: "{{ keychain.api.access_token }}"}}
"""


def without_secrets(outcome: Outcome) -> str:
    text = outcome.model_dump_json()
    assert TOKEN not in text and VALUE not in text, text
    return text


async def test_a_tool_gets_the_values_and_its_outcome_is_reported_without_them(bench: Bench) -> None:
    bench.tools["python"] = FakeTool(
        lambda call, context: ToolOutcome(
            "ok",
            data={"seen": [call.input["token"]], call.input["made"]: f"x{VALUE}x"},
            extra={"http": {"headers": {"a": TOKEN}}},
            meta={"stdout": f"printed {TOKEN}\n"},
        )
    )
    outcome = await bench.run(STEP)
    assert bench.tools["python"].calls[0].input == {"n": 1, "made": f"{VALUE}/{TOKEN}", "token": TOKEN}
    assert outcome.data == {"seen": ["***"], "***": "x***x"}
    assert json.loads(without_secrets(outcome))["meta"]["stdout"] == "printed ***\n"


async def test_of_a_table_nothing_is_stored_that_was_left_out_of_its_rows(bench: Bench) -> None:
    import pyarrow
    import pyarrow.compute as compute

    files = ResultFiles(bench.scratch)
    bench.toolbox = replace(bench.toolbox, files=files)

    def redacted(call: ToolCall, context: ToolContext) -> ToolOutcome:
        texts = pyarrow.array([*["x" * 70] * 5_000, call.input["token"]])
        rows = pyarrow.table({"text": compute.if_else(compute.equal(texts, TOKEN), None, texts)})
        descriptor = files.open(0)
        size = write_table(descriptor, rows, in_field("rows", {"note": TOKEN})).bytes
        written = MappedFile(descriptor, size)
        assert bytes(written.view).count(TOKEN.encode()) == 2, "nothing is left out"
        return ToolOutcome("ok", data=read_value(written))

    bench.tools["python"] = FakeTool(redacted)
    outcome = await bench.run(STEP)
    assert outcome.ref is not None, without_secrets(outcome)
    content = await bench.toolbox.stores.named(outcome.ref["store"]).get(outcome.ref["key"])
    assert TOKEN.encode() not in content
    assert b'"note":"***"' in content


async def test_templates_read_secrets_of_the_input_by_name_and_its_rules_do_not(bench: Bench) -> None:
    bench.tools["http"] = FakeTool(lambda call, context: ToolOutcome("ok", data={"seen": call.config["headers"]}))
    step = """\
  - step: a
    input: {made: "{{ keychain.made.text }}"}
    tool:
      kind: http
      input: {token: "{{ keychain.api.access_token }}", both: "{{ made }} and more"}
      url: "http://x"
      headers: {a: "Bearer {{ token }}", b: "{{ both }}", c: "{{ made }}"}
      spec: {policy: {rules: [{else: {then: {do: continue, set: {ctx.x: "{{ token | default('unseen') }}"}}}}]}}
"""
    outcome = await bench.run(step)
    sent = bench.tools["http"].calls[0].config["headers"]
    made = f"{VALUE}/{TOKEN}"
    assert sent == {"a": f"Bearer {TOKEN}", "b": f"{made} and more", "c": made}
    without_secrets(outcome)
    assert outcome.set == {"x": "unseen"}


async def test_a_large_result_is_masked_too(bench: Bench) -> None:
    rows = [{"n": n, "text": f"x{TOKEN}" if n % 10_000 == 9_999 else "x"} for n in range(20_000)]
    bench.tools["python"] = FakeTool(ToolOutcome("ok", data={"rows": rows}))
    outcome = await bench.run(STEP)
    assert outcome.ref is not None
    stored = await bench.toolbox.resolver.load(outcome.ref)
    assert [row["n"] for row in stored["rows"] if row["text"] != "x"] == [9_999, 19_999]
    assert stored["rows"][9_999]["text"] == "x***"


async def test_a_failure_is_reported_without_them(bench: Bench) -> None:
    bench.tools["python"] = FakeTool(
        lambda call, context: ToolOutcome("error", data={"t": TOKEN}, error={"message": f"no {VALUE}", "code": "x.y"})
    )
    outcome = await bench.run(STEP)
    assert outcome.error is not None and outcome.error["message"] == "no ***"
    without_secrets(outcome)


async def test_an_exception_of_the_tool_is_reported_and_logged_without_them(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.tools["python"] = FakeTool(ValueError(f"with {TOKEN}"))
    without_secrets(await bench.run(STEP))
    assert caplog.records, "nothing was logged"
    # what is written to the log goes through the masking of the process
    assert masking.text(TOKEN) == masking.text(VALUE) == "***"


async def test_an_error_of_a_template_shows_no_value(bench: Bench) -> None:
    outcome = await bench.run(
        '  - step: a\n    tool: {kind: postgres, auth: x, query: "SELECT {{ keychain.key.value | identifier }}"}\n'
    )
    assert outcome.error is not None and "*** is not a valid SQL identifier" in outcome.error["message"].replace(
        "'", ""
    )
    without_secrets(outcome)


async def test_an_error_names_the_fields_that_there_are(bench: Bench) -> None:
    outcome = await bench.run('  - step: a\n    tool: {kind: http, url: "{{ keychain.api.tokn }}"}\n')
    assert outcome.error is not None
    assert outcome.error["message"] == "the keychain entry 'api' has no 'tokn' (available: access_token)"


async def test_a_step_that_uses_no_secret_asks_for_none(bench: Bench) -> None:
    await bench.run("  - step: a\n    tool: {kind: python, code: 'result = 1'}\n")
    assert bench.cache.asked == []


async def test_a_secret_is_asked_for_once_by_all_items_and_tasks_of_a_command(bench: Bench) -> None:
    loop = STEP.replace("    tool:", "    loop: {in: [1, 2, 3], iterator: i}\n    tool:")
    frame = Frame(index=0, start=0, end=3, concurrency=3)
    await bench.run(loop, kind="frame", frame=frame, count=3, items=[1, 2, 3])
    assert (bench.cache.asked, len(bench.tools["python"].calls)) == (["api"], 3)


RETRY = """\
      spec: {policy: {rules: [{when: "{{ output.error.retryable }}", then: {do: retry, delay: DELAY}}]}}
"""


def with_retry(delay: float) -> str:
    return STEP.replace("tool: {", "tool:\n      ").replace('", input:', '"\n      input:').replace(
        "}}\n", "}\n"
    ).replace("kind: python, code", "kind: python\n      code") + RETRY.replace("DELAY", str(delay))


async def test_a_suspended_step_keeps_no_secret_and_continues_with_the_current_one(bench: Bench) -> None:
    bench.tools["python"] = FakeTool(
        ToolOutcome("error", error={"message": f"{TOKEN}", "retryable": True}), ToolOutcome("ok", data=1)
    )
    suspended = await bench.run(with_retry(600))
    assert suspended.status == "deferred" and suspended.resume is not None
    assert suspended.resume["locals"]["data"]["input"] == {"n": 1}
    without_secrets(suspended)
    bench.cache.token = "n3w-token"
    resumed = await bench.run(with_retry(600), resume=suspended.resume)
    assert resumed.status == "done"
    assert bench.tools["python"].calls[1].input == {"n": 1, "made": f"{VALUE}/n3w-token", "token": "n3w-token"}


async def test_rules_see_that_a_secret_is_unavailable_and_retry(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    failing: list[Callable[..., Any]] = [
        lambda call, context: ToolFailure("http", "http.connect", "lost", retryable=True).outcome()
    ]
    monkeypatch.setattr("noetl_serverless.worker.execution.secret_sources.MAX_ATTEMPTS", 1)
    bench.tools["http"] = FakeTool(*failing)
    bench.cache.failures = 1
    outcome = await bench.run(with_retry(0.01))
    assert outcome.status == "done", outcome
    assert outcome.meta["attempts"][0]["error"]["code"] == "keychain.unavailable"


async def test_a_denied_secret_fails_the_step_before_its_tool_is_called(bench: Bench) -> None:
    bench.cache.failures = 1
    outcome = await bench.run(STEP)
    assert outcome.error is not None
    assert (outcome.error["code"], outcome.error["at"]) == ("keychain.denied", 11)
    assert bench.tools["python"].calls == []
    without_secrets(outcome)


class TestStoredCredentials:
    """Named by `auth`, in a playbook without a keychain."""

    @pytest.fixture
    def plain(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
        head, _, rest = HEAD.partition("keychain:")
        monkeypatch.setattr(f"{__name__}.HEAD", f"{head}workflow:{rest.partition('workflow:')[2]}")
        return bench

    async def test_what_a_server_sends_back_of_it_is_masked_in_a_success(self, plain: Bench) -> None:
        async def answer(call: ToolCall, context: ToolContext) -> ToolOutcome:
            sent = (await context.credential("stored")).data["value"]
            return ToolOutcome("ok", data={"echo": sent}, extra={"http": {"headers": {"x": f"got {sent}"}}})

        plain.tools["http"] = FakeTool(answer)
        outcome = await plain.run("  - step: a\n    tool: {kind: http, url: 'http://x', auth: stored}\n")
        assert outcome.data == {"echo": "***"}
        assert outcome.extra["http"]["headers"]["x"] == "got ***"
        without_secrets(outcome)

    async def test_it_is_masked_in_what_later_tasks_print_and_return(self, plain: Bench) -> None:
        async def answer(call: ToolCall, context: ToolContext) -> ToolOutcome:
            await context.credential("stored")
            return ToolOutcome("ok", data=1)

        plain.tools["http"] = FakeTool(answer)
        plain.tools["python"] = FakeTool(ToolOutcome("ok", data=[VALUE], meta={"stdout": f"is {VALUE}\n"}))
        outcome = await plain.run(
            "  - step: a\n    tool:\n      - {name: one, kind: http, url: 'http://x', auth: stored}\n"
            "      - {name: two, kind: python, code: 'result = 1'}\n"
        )
        assert outcome.data["results"]["two"] == ["***"]
        assert json.loads(without_secrets(outcome))["meta"]["stdout"] == "is ***\n"

    async def test_the_rows_of_a_database_are_not_searched_for_its_password(self, plain: Bench) -> None:
        async def answer(call: ToolCall, context: ToolContext) -> ToolOutcome:
            await context.credential("db")
            return ToolOutcome("ok", data={"rows": [{"text": VALUE}]})

        plain.tools["postgres"] = FakeTool(answer)
        outcome = await plain.run("  - step: a\n    tool: {kind: postgres, auth: db, query: 'SELECT 1'}\n")
        assert outcome.data == {"rows": [{"text": VALUE}]}

    async def test_one_with_too_many_texts_cannot_be_used(self, plain: Bench) -> None:
        plain.stored = {"texts": [f"secret-{n}" for n in range(MAX_SECRETS + 1)]}

        async def answer(call: ToolCall, context: ToolContext) -> ToolOutcome:
            await context.credential("stored")
            return ToolOutcome("ok")

        plain.tools["http"] = FakeTool(answer)
        outcome = await plain.run("  - step: a\n    tool: {kind: http, url: 'http://x', auth: stored}\n")
        assert outcome.error is not None
        assert outcome.error["code"] == "credential.unfit"
        assert "credential 'stored': more than 1000 secret values" in outcome.error["message"]


async def test_numbers_are_masked_as_numbers_and_as_text(bench: Bench) -> None:
    bench.stored = {"pin": 98765432}
    bench.tools["python"] = FakeTool(
        ToolOutcome("ok", data={"n": 98765432, "text": "98765432", "next": 98765433}, meta={"stdout": "98765432\n"})
    )
    outcome = await bench.run(
        "  - step: a\n    tool: {kind: python, code: 'result = 1', input: {n: '{{ keychain.key.pin }}'}}\n"
    )
    assert bench.tools["python"].calls[0].input == {"n": 98765432}
    assert (outcome.data, outcome.meta["stdout"]) == ({"n": "***", "text": "***", "next": 98765433}, "***\n")


@pytest.mark.parametrize("count", [300, MAX_SECRETS - 1])
async def test_many_secrets_are_all_masked(bench: Bench, count: int) -> None:
    values = [f"secret-{n:04}-ü" for n in range(count)]
    bench.stored = {"values": values}
    bench.tools["python"] = FakeTool(ToolOutcome("ok", data=values))
    outcome = await bench.run(
        "  - step: a\n    tool: {kind: python, code: 'result = 1', input: {n: '{{ keychain.key.values }}'}}\n"
    )
    assert outcome.data == ["***"] * count


async def test_more_secrets_than_can_be_masked_are_denied(bench: Bench) -> None:
    bench.stored = {"values": [f"secret-{n:04}" for n in range(MAX_SECRETS + 1)]}
    outcome = await bench.run(
        "  - step: a\n    tool: {kind: python, code: 'result = 1', input: {n: '{{ keychain.key.values }}'}}\n"
    )
    assert outcome.error is not None and outcome.error["code"] == "keychain.denied"
    message = "the keychain entry 'key': more than 1000 secret values cannot be masked in one command"
    assert outcome.error["message"] == message
    assert bench.tools["python"].calls == []


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        ({"meta": {"stdout": "x" * 7985 + VALUE[:12]}}, "x***"),
        ({"meta": {"stdout": "x" * 7990 + VALUE}}, "x***…"),
        ({"error": {"message": "y" * 7990 + VALUE}}, "y"),
        ({"error": {"message": "z" * 1990 + VALUE[:10]}}, "z***"),
        ({"extra": {"py": {"traceback": "t" * 7990 + VALUE}}}, "t***…"),
    ],
)
async def test_a_secret_that_was_cut_off_at_the_end_of_a_text_is_masked(
    bench: Bench, part: dict[str, Any], shown: str
) -> None:
    bench.tools["python"] = FakeTool(ToolOutcome("error", **{"error": {"message": "bad"}, **part}))
    outcome = await bench.run(STEP)
    assert shown in outcome.model_dump_json(), "the text is not shown as far as it may be"
    assert VALUE[:6] not in outcome.model_dump_json()


async def test_a_playbook_that_uses_no_secret_gets_its_result_as_it_is(bench: Bench) -> None:
    data = {"rows": [{"n": 1}]}
    bench.tools["python"] = FakeTool(ToolOutcome("ok", data=data, stored=True))
    outcome = await bench.run("  - step: a\n    tool: {kind: python, code: 'result = 1'}\n")
    assert outcome.data is data


async def test_a_source_that_refused_is_not_asked_by_each_item(bench: Bench) -> None:
    bench.cache.failures = 100
    outcomes = [await bench.run(STEP) for _ in range(20)]
    assert {outcome.error["code"] for outcome in outcomes if outcome.error} == {"keychain.denied"}
    assert len({outcome.error["message"] for outcome in outcomes if outcome.error}) == 1
    assert len(bench.tools["http"].calls) == 1
    await bench.run(STEP, execution_id="43")
    assert len(bench.tools["http"].calls) == 2, "another execution may have another credential"


async def test_the_items_of_a_command_do_not_ask_a_source_again_that_refused(bench: Bench) -> None:
    bench.cache.failures = 100
    loop = STEP.replace(
        "    tool:", "    loop: {in: [1, 2, 3], iterator: i, spec: {policy: {failure: {mode: best_effort}}}}\n    tool:"
    )
    frame = Frame(index=0, start=0, end=3, concurrency=3)
    await bench.run(loop, kind="frame", frame=frame, count=3, items=[1, 2, 3])
    assert (len(bench.tools["http"].calls), bench.tools["python"].calls) == (1, [])


@pytest.mark.parametrize("word", ["data", "status", "error", "meta", "python", "exception", "code"])
async def test_a_secret_that_is_a_word_of_the_envelope_changes_no_envelope(bench: Bench, word: str) -> None:
    bench.stored = {"value": word}
    error = {"kind": "python", "code": "python.exception", "message": f"no {word}", "retryable": False}
    for ended in (ToolOutcome("ok", data={"n": 1}), ToolOutcome("error", error=error)):
        bench.tools["python"] = FakeTool(ended)
        outcome = await bench.run(STEP)
        assert outcome.status == ("done" if ended.status == "ok" else "error"), outcome.error
        if outcome.error is None:
            assert outcome.data == {"n": 1}
        else:
            assert (outcome.error["code"], outcome.error["kind"]) == ("python.exception", "python")
            assert outcome.error["message"] == "no ***"


def test_the_digest_of_an_entry_takes_that_of_each_other_once(monkeypatch: pytest.MonkeyPatch) -> None:
    many = 40
    reads = ["".join(f"{{{{ keychain.e{before}.v }}}}" for before in range(n)) for n in range(many)]
    entries = "".join(f'  - {{name: e{n}, kind: static, map: {{v: "x{reads[n]}"}}}}\n' for n in range(many))
    text = HEAD.replace("workflow:\n", entries + "workflow:\n") + "  - {step: a, tool: {kind: noop}}\n"
    plan = load_plan(text)
    digests = 0

    class Counted:
        @staticmethod
        def sha256(content: bytes) -> Any:
            nonlocal digests
            digests += 1
            assert digests <= many, "it takes those of the entries that it needs again and again"
            return hashlib.sha256(content)

    monkeypatch.setattr(keychain, "hashlib", Counted)
    keychain.digest_of(plan.keychain[f"e{many - 1}"], plan.keychain, claimed())
    assert digests == many


class TestCallbacks:
    HEAD = (
        "apiVersion: noetl.io/v2\nkind: Playbook\nmetadata: {name: x}\n"
        "keychain: [{name: boss, kind: callback, approval: manager}]\nworkflow:\n"
    )
    STEP = """\
  - step: a
    tool: {kind: http, url: "http://x", body: {url: "{{ keychain.boss.url }}", until: "{{ keychain.boss.expires_at }}"}}
"""

    async def run(self, bench: Bench, step: str = STEP) -> Outcome:
        return await Executor(bench.toolbox, "w").run(claimed(), load_plan(self.HEAD + step), TimeBudget(60.0))

    async def test_the_tool_that_reads_it_has_the_url_and_its_outcome_does_not(self, bench: Bench) -> None:
        bench.tools["http"] = FakeTool(
            lambda call, context: ToolOutcome(
                "ok",
                data={"sent": call.config["body"], "path": call.config["body"]["url"].removeprefix("https://gw.test")},
            )
        )
        outcome = await self.run(bench)
        url = bench.tools["http"].calls[0].config["body"]["url"]
        assert url.startswith("https://gw.test/callbacks/head.") and bench.cache.asked == ["boss"]
        assert outcome.data == {"sent": {"url": "***", "until": "2027-01-01T00:00:00Z"}, "path": "/callbacks/***"}
        assert url.rpartition("/")[2] not in outcome.model_dump_json()
        # in the logs of the process, too
        assert masking.text(f"GET {url}") == "GET ***"

    async def test_a_command_asks_once_for_it(self, bench: Bench) -> None:
        bench.tools["http"] = FakeTool(ToolOutcome("ok", data=1))
        call = '{kind: http, url: "{{ keychain.boss.url }}"}'
        await self.run(bench, f"  - step: a\n    tool: [{call}, {call}]\n")
        assert len(bench.tools["http"].calls) == 2 and bench.cache.asked == ["boss"]

    @pytest.mark.parametrize(
        ("refusal", "code", "retryable"),
        [
            (Unsupported("set NOETL_PUBLIC_URL"), "keychain.denied", False),
            (Unavailable("later"), "keychain.unavailable", True),
        ],
    )
    async def test_where_there_is_none_the_step_fails(
        self, bench: Bench, refusal: Problem, code: str, retryable: bool
    ) -> None:
        bench.cache.refusal = refusal
        outcome = await self.run(bench)
        assert outcome.error is not None
        assert (outcome.error["code"], outcome.error["retryable"]) == (code, retryable)
        assert outcome.error["message"] == f"the keychain entry 'boss': {refusal.detail}"

    async def test_it_is_no_credential_of_a_request(self, bench: Bench) -> None:
        bench.tools["http"] = FakeTool(ToolOutcome("ok", data=1))
        outcome = await self.run(bench, '  - step: a\n    tool: {kind: http, url: "http://x", auth: boss}\n')
        assert outcome.status == "done"
        context = bench.tools["http"].contexts[0]
        assert (await context.credential("boss")).type == "callback"
