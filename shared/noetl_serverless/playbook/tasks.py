"""Compiles the tools of a step to its tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from . import grammar, model, python_libs
from .document import Path, plain_data
from .faults import did_you_mean
from .keychain_plan import keychain_names
from .layers import timeout_of
from .parser import message_of
from .plan import Accumulate, Rule, Task
from .python_code import CodeError, check_code, decode_code
from .python_names import CONTEXT, Keys, context_reads, keys_read
from .reads import Reads
from .scripts import FIELDS, SCRIPT_MISSING, Script, Source, digest
from .semantics import labels, own_rules, tool_path
from .template import Place, SqlTemplate, Template, TemplateError, Tree
from .trees import Trees, templates_in

if TYPE_CHECKING:
    from .called_tools import CalledTools, Define

N = TypeVar("N", int, float)
_SCRIPT_KEYS = (*Script.model_fields, *Source.model_fields)


class Tasks:
    def __init__(self, playbook: model.Playbook, trees: Trees, define: Define) -> None:
        self.playbook = playbook
        self.trees = trees
        self.workbook = {task.name: (task.tool, ("workbook", i)) for i, task in enumerate(playbook.workbook)}
        self.steps = {step.step for step in playbook.workflow}
        # Python code -> how it reads `context`, if it does
        self._context_keys: dict[str, frozenset[Keys] | None] = {}
        # location -> digest, of the scripts that tasks name, and of the definitions of tools that they call
        self.scripts: dict[str, str] = {}
        self._define = define
        self._called: CalledTools | None = None

    def of_step(self, step: model.Step, base: Path) -> tuple[Task, ...]:
        names = labels(step)
        return tuple(
            self._task(step, tool, tool_path(step, base, index), names, index) for index, tool in enumerate(step.tools)
        )

    def takes_secrets(self, tool: model.Tool) -> bool:
        """Whether its configuration and input may hold secrets: they do not go into the log."""
        kind = self.workbook[tool.name or ""][0].kind if self._is_inlined(tool) else tool.kind
        return kind not in grammar.LOGGED_KINDS

    def _is_inlined(self, tool: model.Tool) -> bool:
        return tool.kind == "workbook" and tool.name in self.workbook

    def check_workbook(self) -> None:
        """Check all workbook tasks, including those that no step uses."""
        for tool, base in self.workbook.values():
            self._config(tool, (*base, "tool"))
            self._rules(tool, (*base, "tool"), [tool.name or ""], 0, {})

    def _task(self, step: model.Step, tool: model.Tool, path: Path, names: list[str], index: int) -> Task:
        if self._is_inlined(tool):
            return self._inlined(step, tool, path, names, index)
        if tool.kind == grammar.CATALOG_TOOL:
            return self._of_catalog(step, tool, path, names, index)
        timeout = timeout_of(self.playbook, step, tool)
        config, limit = self._config(tool, path), self._timeout(timeout, path)
        return Task(
            name=names[index],
            kind=tool.kind,
            config=self._with_timeout(config, tool.kind, timeout, path),
            rules=self._rules(tool, path, names, index, {}),
            timeout=limit,
            output=self._output(tool),
            place=self.trees.place(path),
            accumulate=_accumulate(tool),
            expects=tuple(tool.contract.expects) if tool.contract else (),
            returns=tuple(tool.contract.returns) if tool.contract else (),
            max_bytes=self._max_bytes,
            context=self._context(config, tool.kind, step, names),
            secrets=keychain_names([config]),
            reads_input=_reads_input({**config, "timeout": limit}, step),
        )

    def _inlined(self, step: model.Step, use: model.Tool, path: Path, names: list[str], index: int) -> Task:
        """A workbook task; what the step specifies overrides the workbook."""
        tool, base = self.workbook[use.name or ""]
        at = (*base, "tool")
        config = self._config(tool, at)
        defaults = config.pop("input", None)
        input_tree = self.trees.tree(use.input, (*path, "input"), secrets=self.takes_secrets(tool))
        kept = {key: value for key, value in _mapping(defaults).items() if key not in step.input}
        config["input"] = {**kept, **_mapping(input_tree)}
        own_rules = use.spec is not None and use.spec.policy is not None and bool(use.spec.policy.rules)
        aliases = {use.name or "": names[index]}
        timeout = timeout_of(self.playbook, step, tool, use)
        limit = self._timeout(timeout, path)
        return Task(
            name=names[index],
            kind=tool.kind,
            config=self._with_timeout(config, tool.kind, timeout, path),
            rules=self._rules(use if own_rules else tool, path if own_rules else at, names, index, aliases),
            timeout=limit,
            output=self._output(use if use.output else tool),
            place=self.trees.place(path),
            accumulate=_accumulate(use) or _accumulate(tool),
            expects=tuple(name for one in (tool, use) if one.contract for name in one.contract.expects),
            returns=tuple(name for one in (tool, use) if one.contract for name in one.contract.returns),
            max_bytes=self._max_bytes,
            context=self._context(config, tool.kind, step, names),
            secrets=keychain_names([config]),
            reads_input=_reads_input({**config, "timeout": limit}, step),
        )

    def _of_catalog(self, step: model.Step, tool: model.Tool, path: Path, names: list[str], index: int) -> Task:
        """A tool of the catalog; what the step specifies overrides its definition."""
        # few playbooks call one
        from .called_tools import CalledTools

        self._called = self._called or CalledTools(self.trees, self.scripts, self._define)
        called = self._called.resolve(tool, step, path)
        if called is None:
            # never run: the call is a fault
            return Task(
                name=names[index],
                kind="noop",
                config={},
                rules=(),
                timeout=None,
                output={},
                place=self.trees.place(path),
            )
        defined, task = called.tool, called.task
        timeout = timeout_of(self.playbook, step, defined, tool)
        given = self.trees.tree(tool.input, (*path, "input"), secrets=True)
        # its own templates read its input alone
        bound = {key: called.config[key] for key in grammar.AUTH_FIELDS & called.config.keys()}
        return Task(
            name=names[index],
            kind=task.kind,
            config=self._with_timeout({**called.config, "input": given}, task.kind, timeout, path),
            rules=self._rules(tool, path, names, index, {}) if own_rules(tool) else called.rules,
            timeout=self._timeout(timeout, path),
            output=self._output(tool if tool.output else defined),
            place=self.trees.place(path),
            accumulate=_accumulate(tool) or _accumulate(defined),
            expects=tuple(name for one in (defined, tool) if one.contract for name in one.contract.expects),
            returns=tuple(name for one in (defined, tool) if one.contract for name in one.contract.returns),
            max_bytes=self._max_bytes,
            secrets=keychain_names([given, bound]),
            reads_input=True,
            interface=called.interface,
        )

    @property
    def _max_bytes(self) -> int | None:
        policy = self.playbook.executor_spec.policy
        return policy.limits.max_payload_bytes if policy and policy.limits else None

    def _output(self, tool: model.Tool) -> dict[str, Any]:
        """What is written of {"select": [{"path", "as"}], "inline_max_bytes", "kind", "ttl", "compression", "scope",
        "preview_max_bytes"}."""
        policy, written = self.playbook.executor_spec.policy, tool.output or model.Output()
        found: dict[str, Any] = {}
        if written.select:
            found["select"] = [plain_data(item.model_dump(by_alias=True)) for item in written.select]
        store = written.store or model.Store()
        if written.inline_max_bytes is not None:
            found["inline_max_bytes"] = written.inline_max_bytes
        elif store.kind != "auto" or (policy and policy.results and policy.results.reference_first):
            found["inline_max_bytes"] = 0
        if store.kind != "auto":
            found["kind"] = str(store.kind)
        if store.ttl is not None and store.ttl != "forever":
            found["ttl"] = float(store.ttl)
        if store.compression != "none":
            found["compression"] = str(store.compression)
        if written.scope is not None:
            found["scope"] = str(written.scope)
        if written.preview_max_bytes is not None:
            found["preview_max_bytes"] = written.preview_max_bytes
        return found

    def _context(self, config: Mapping[str, Tree], kind: str, step: model.Step, names: list[str]) -> Reads | None:
        """See `Task.context`."""
        keys = self._context_keys.get(str(config.get("code"))) if kind == "python" else None
        bound = {*step.input, *_mapping(config.get("input")), *_mapping(config.get("libs"))}
        if keys is None or CONTEXT in bound:
            return None
        return context_reads(keys, self.steps, names)

    # -- configs

    def _config(self, tool: model.Tool, path: Path) -> dict[str, Tree]:
        config: dict[str, Tree] = {}
        for key, value in tool.config.items():
            here = (*path, key)
            if (
                key == "script"
                and tool.kind in FIELDS
                and not (tool.kind in grammar.SQL_KINDS and isinstance(value, str))
            ):
                self._script(config, tool, value, here)
            elif tool.kind in grammar.SQL_KINDS and key in grammar.SQL_FIELDS:
                config[key] = self.trees.sql(value, here, secrets=True)
            elif tool.kind == "python" and key in ("code", "code_b64"):
                self._code(config, key, value, here)
            elif tool.kind == "python" and key == "libs":
                config[key] = self._libs(value, here)
            elif hint := grammar.REFUSED_CONFIG.get(tool.kind, {}).get(key):
                self.trees.faults.add(f"'{key}' of {tool.kind}: {hint}", here, key=True)
            else:
                config[key] = self.trees.tree(value, here, secrets=self.takes_secrets(tool))
        if tool.input:
            config["input"] = self.trees.tree(tool.input, (*path, "input"), secrets=self.takes_secrets(tool))
        return config

    def _script(self, config: dict[str, Tree], tool: model.Tool, value: Any, path: Path) -> None:
        """The content of a script, in the place of the code or SQL that the task would have."""
        try:
            script = Script.model_validate(plain_data(value))
        except ValidationError as error:
            for fault in error.errors(include_url=False):
                here = (*path, *fault["loc"])
                self.trees.faults.add(_sentence(fault), here, key=fault["type"] == "extra_forbidden")
            return
        content = self.trees.faults.document.scripts.get(script.location)
        if content is None:
            self.trees.faults.add(_missing(script), (*path, "uri"), SCRIPT_MISSING)
            return
        found = self.scripts[script.location] = digest(content)
        if script.sha256 not in (None, found):
            self.trees.faults.add(f"the script has another sha256: {found}", (*path, "sha256"), "playbook.script")
        content = content.removeprefix("\ufeff")
        if tool.kind == "python":
            self._code(config, "script", content, path, script=script.location)
            return
        try:
            SqlTemplate(content, Place(1, 1))
        except TemplateError as error:
            where = f" (line {error.line} of {script.location})" if error.line is not None else ""
            self.trees.faults.add(f"template: {error.message}{where}", path, "playbook.template")
        else:
            config[FIELDS[tool.kind]] = self.trees.sql(content, path)

    def _code(self, config: dict[str, Tree], key: str, value: Any, path: Path, *, script: str | None = None) -> None:
        if not isinstance(value, str):
            self.trees.faults.add(f"'{key}' must be a string", path)
            return
        if "code" in config:
            self.trees.faults.add("give only one of code, code_b64 and script", path)
        try:
            code = decode_code(value) if key == "code_b64" else value
            module = check_code(code)
            self._context_keys[code] = keys_read(code, module, CONTEXT)
        except CodeError as error:
            self._code_fault(error, path, inside=key == "code", script=script)
            code = ""
        config["code"] = code

    def _libs(self, value: Any, path: Path) -> Tree:
        faults = list(python_libs.faults_of(value))
        for place, message in faults:
            self.trees.faults.add(message, (*path, *place))
        return {} if faults else plain_data(value)

    def _code_fault(self, error: CodeError, path: Path, *, inside: bool, script: str | None) -> None:
        place = self.trees.place(path, content=True)
        in_place = inside and error.line is not None and place.line != self.trees.place(path).line
        line = place.line + (error.line or 1) - 1 if in_place else place.line
        where = f" (line {error.line} of {script or 'the code'})" if error.line is not None and not in_place else ""
        self.trees.faults.add_at(f"{error.message}{where}", path, line, place.column, "playbook.python_syntax")

    def _timeout(self, timeout: float | str | dict[str, Any] | None, path: Path) -> float | Template | None:
        if isinstance(timeout, str):
            return self._number(timeout, path, "a timeout")
        return timeout if isinstance(timeout, float) else None

    def _number(self, value: N | str, path: Path, what: str) -> N | Template:
        """A number, or one expression that gives it when it is needed."""
        if not isinstance(value, str):
            return value
        template = self.trees.template(value, path)
        if template is not None and not template.is_expression:
            self.trees.faults.add(f"{what} is a number or one {{{{ expression }}}} that gives it", path)
        # never run: a template that does not compile is a fault
        return template or Template("{{ 1 }}")

    def _with_timeout(
        self, config: dict[str, Tree], kind: str, timeout: float | str | dict[str, Any] | None, path: Path
    ) -> dict[str, Tree]:
        if not isinstance(timeout, dict):
            return config
        if kind != "http":
            self.trees.faults.add(f"a timeout of {kind} is a number of seconds; its parts are for http", path)
        elif "timeout" in config:
            self.trees.faults.add("the timeout is given here and in a spec; give it only once", (*path, "timeout"))
        return {**config, "timeout": timeout}

    # -- rules

    def _rules(
        self, tool: model.Tool, path: Path, names: list[str], index: int, aliases: Mapping[str, str]
    ) -> tuple[Rule, ...]:
        policy = tool.spec.policy if tool.spec else None
        rules = policy.rules if policy else []
        here = (*path, "spec", "policy", "rules")
        return tuple(self._rule(rule, (*here, i), names, index, aliases) for i, rule in enumerate(rules))

    def _rule(self, rule: model.Rule, path: Path, names: list[str], index: int, aliases: Mapping[str, str]) -> Rule:
        then = rule.otherwise.then if rule.otherwise else rule.then or model.Then(do="continue")
        base = (*path, "else", "then") if rule.otherwise else (*path, "then")
        when = None if rule.otherwise else self.trees.condition(rule.when, (*path, "when"))
        to = names[max(index - 1, 0)] if then.to in grammar.PREVIOUS else then.to
        return Rule(
            when=when,
            do=then.do,
            set=self.trees.assignments(then.set, (*base, "set")),
            to=aliases.get(to, to) if to is not None else None,
            attempts=3 if then.attempts is None else self._number(then.attempts, (*base, "attempts"), "attempts"),
            # a delay without a backoff means the same delay each time
            backoff=then.backoff or ("none" if then.delay is None else "fixed"),
            delay=1.0 if then.delay is None else self._number(then.delay, (*base, "delay"), "a delay"),
            max_delay=None if then.max_delay is None else self._number(then.max_delay, (*base, "max_delay"), "a delay"),
        )


def _reads_input(config: Mapping[str, Tree], step: model.Step) -> bool:
    """Whether its templates read the input of the step, or, outside of `input`, that of the task."""
    own = _mapping(config.get("input"))
    return any(
        not template.reads.keys().isdisjoint(step.input if key == "input" else {**step.input, **own})
        for key, tree in config.items()
        for template in templates_in(tree)
    )


def _accumulate(tool: model.Tool) -> Accumulate | None:
    written = tool.output.accumulate if tool.output else None
    if written is None or not written.enabled:
        return None
    return Accumulate(
        name=written.manifest_as,
        strategy=written.strategy,
        path=written.merge_path,
        on_success=written.on_success,
        on_error=written.on_error,
        max_items=written.max_items,
    )


def _sentence(fault: ErrorDetails) -> str:
    """About a fault in a script's fields."""
    kind, place = fault["type"], fault["loc"]
    if kind == "extra_forbidden":
        return f"unknown key '{place[-1]}'{did_you_mean(str(place[-1]), _SCRIPT_KEYS)}"
    if kind == "missing":
        return f"'{place[-1]}' is required"
    if kind in ("model_type", "dict_type") and not place:
        return "a script is an object, {uri: lib/load.py}; code itself belongs in 'code'"
    where = ".".join(("script", *(str(part) for part in place)))
    return f"{where}: {message_of(fault, fault['input'])}"


def _missing(script: Script) -> str:
    if script.type == "file":
        return (
            f"the script '{script.location}' was not sent with the playbook: register it with "
            "'noetls register FILE', which sends the files beside it"
        )
    return f"the script '{script.location}' is read when the playbook is registered"


def _mapping(tree: Tree) -> dict[str, Tree]:
    return tree if isinstance(tree, dict) else {}
