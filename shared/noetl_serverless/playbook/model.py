"""The grammar of a playbook, as pydantic models; the JSON Schema is made from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    WithJsonSchema,
)

from ..limits import DEFAULT_MAX_TURNS, IN_FLIGHT, INLINE_BYTES, MAX_LIMIT, MAX_WEIGHT, WEIGHT
from . import grammar
from .json_paths import check_path
from .keychain import MAX_ENTRIES, AnyEntry
from .numbers import LONGEST_TIMEOUT, seconds, whole
from .part import Name, Part
from .plan import POOL_PATTERN
from .template import has_markers
from .triggers import MAX_TRIGGERS, AnyTrigger

MAX_STEPS = 10_000
MAX_TASKS = 100
# of an execution, in seconds: a year
MAX_TIMEOUT = 366 * 86_400
# of a result, in seconds: a hundred years
MAX_TTL = 100 * MAX_TIMEOUT
MAX_PREVIEW_BYTES = 1024

# text that is one {{ expression }}, as `schema` describes it
Expression = Annotated[str, WithJsonSchema({"type": "string", "format": "expression"})]
Condition = bool | Expression
Assignments = dict[str, Any]


def _written(read: Callable[[Any], float]) -> BeforeValidator:
    """Numbers given as text; a template stays what it is."""

    def number(value: Any) -> Any:
        return read(value) if isinstance(value, str) and not has_markers(value) else value

    return BeforeValidator(number)


def _number_tag(value: Any) -> str:
    return "template" if isinstance(value, str) else "parts" if isinstance(value, (dict, HttpTimeout)) else "number"


def _ttl(value: Any) -> float | str:
    if value == "forever":
        return "forever"
    try:
        found = seconds(value)
    except ValueError as error:
        raise ValueError(f"{error}, or forever") from None
    if not 1 <= found <= MAX_TTL:
        raise ValueError(f"a result is kept from 1 second to {MAX_TTL / 86_400:.0f} days, or forever")
    return found


_Template = Annotated[Expression, Tag("template")]
_Tag = Discriminator(_number_tag)
PositiveSeconds = Annotated[float, Field(gt=0, le=LONGEST_TIMEOUT), _written(seconds)]
Delay = Annotated[Annotated[float, Field(ge=0, le=86_400), Tag("number")] | _Template, _Tag, _written(seconds)]
Ttl = Annotated[
    float | Literal["forever"],
    BeforeValidator(_ttl),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 1}, {"type": "string"}]}),
]
Attempts = Annotated[Annotated[int, Field(ge=1, le=1000), Tag("number")] | _Template, _Tag, _written(whole)]


class HttpTimeout(Part):
    """Seconds to connect and between two reads; only http distinguishes them."""

    connect: PositiveSeconds | None = None
    read: PositiveSeconds | None = None


Timeout = Annotated[
    Annotated[float, Field(gt=0, le=LONGEST_TIMEOUT), Tag("number")] | Annotated[HttpTimeout, Tag("parts")] | _Template,
    _Tag,
    _written(seconds),
]


class Then(Part):
    """What a task rule does."""

    do: Literal["continue", "retry", "jump", "break", "fail"] = "continue"
    to: str | None = Field(
        None,
        description=(
            "For jump: name of the task to continue with; previous, prev, _previous or @previous is the one before. "
            "Required then"
        ),
    )
    attempts: Attempts | None = Field(
        None, description="For retry: how often the task is called at most, the first call included. Default: 3"
    )
    backoff: Literal["none", "fixed", "linear", "exponential"] | None = Field(
        None,
        description=(
            "For retry: how long each wait is. none: nothing. fixed: delay. linear: delay times the number of the "
            "attempt. exponential: twice as long each time, a day at most. Default: fixed with a delay, else none"
        ),
    )
    delay: Delay | None = Field(
        None, description="For retry: seconds of the first wait. Default: 1 with backoff, else 0"
    )
    max_delay: Delay | None = Field(None, description="For retry: seconds of the longest wait")
    set: Assignments = {}


class Else(Part):
    legacy = grammar.RULE_LEGACY

    then: Then


class Rule(Part):
    """`{when, then}`, or `{else: {then}}` as the last one."""

    legacy = grammar.RULE_LEGACY

    when: Condition | None = None
    then: Then | None = None
    otherwise: Else | None = Field(None, alias="else")


class TaskPolicy(Part):
    later = frozenset({"before", "after", "finally", "on_unmatched", "mode"})

    rules: list[Rule] = []


class TaskSpec(Part):
    legacy = grammar.SPEC_LEGACY

    timeout: Timeout | None = None
    policy: TaskPolicy | None = None


JsonPath = Annotated[str, StringConstraints(pattern=r"^\$", max_length=500), AfterValidator(check_path)]


class Select(Part):
    path: JsonPath
    name: Name = Field(alias="as")


class Accumulate(Part):
    """The results of all runs of a task in one run of its step, collected under one name."""

    enabled: bool = True
    strategy: Literal["append", "replace", "merge", "concat"] = Field(
        "append",
        description=(
            "append: a list of the results. concat: their lists, joined. merge: their objects, as one. replace: the "
            "last result"
        ),
    )
    merge_path: JsonPath | None = Field(
        None, description="Path of the part of each result that is collected. Default: all of it"
    )
    manifest_as: Name = Field("accumulated", description="Its name in templates, and in the result of the step")
    on_success: bool = True
    on_error: bool = False
    max_items: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        None, description="The step fails with value.too_large when there are more"
    )


class Store(Part):
    """Where a result goes."""

    later = grammar.STORE_LATER

    kind: Literal["auto", "kv", "postgres", "db", "disk", "object", "s3", "gcs"] = Field(
        "auto",
        description=(
            "auto: with the step's outcome, or by reference if it is larger than inline_max_bytes, to where the "
            "deployment puts it. Any other: by reference, unless inline_max_bytes says otherwise. kv: NATS, up to 1 "
            "MiB. postgres or db: the database of the engine. disk, object, s3, gcs: the object store of the "
            "deployment, whichever that is. What a store cannot take, or a deployment lacks, goes to where auto puts it"
        ),
    )
    ttl: Ttl | None = Field(
        None,
        description=(
            "How long the result is kept from when it is stored, whether its execution runs or not: 30m, 2d, a number "
            "of seconds, or forever. Default: as long as `scope` says"
        ),
    )
    compression: Literal["none", "gzip", "zstd"] = Field("none", description="Of what is stored by reference")


class Output(Part):
    """Where a result goes, and which of its fields can be read without it."""

    later = grammar.OUTPUT_LATER

    store: Store | None = None
    select: list[Select] = Field(
        [],
        description=(
            "Fields that arcs and `set` read without fetching the result. With it the result is by reference, whatever "
            "its size"
        ),
    )
    inline_max_bytes: Annotated[int, Field(ge=0, le=INLINE_BYTES)] | None = Field(
        None,
        description=(
            "A result with more bytes of JSON is stored by reference. Of a list of tools, the smallest one counts. "
            "Default: 65536"
        ),
    )
    preview_max_bytes: Annotated[int, Field(ge=0, le=MAX_PREVIEW_BYTES)] | None = Field(
        None, description="The most bytes of what is shown of a result by reference without fetching it. Default: 1024"
    )
    scope: Literal["step", "execution", "workflow", "permanent"] | None = Field(
        None,
        description=(
            "How long a result by reference is kept. step: until the execution has ended. execution, the default: as "
            "long as the deployment keeps results after that. workflow: the same, from the end of the topmost one. "
            "permanent: until it expires or is deleted"
        ),
    )
    accumulate: Accumulate | None = None


class Contract(Part):
    """Names that the input of a task has to have, and that its result has to have; a.b is b of a."""

    expects: list[str] = []
    returns: list[str] = []


class Tool(Part):
    """One tool call; which further keys it takes depends on its kind."""

    model_config = ConfigDict(extra="allow")
    legacy = grammar.TOOL_LEGACY
    later = frozenset({"output_select"})

    kind: str
    name: str | None = None
    input: dict[str, Any] = {}
    spec: TaskSpec | None = None
    output: Output | None = None
    contract: Contract | None = Field(None, alias="assert")

    @property
    def config(self) -> dict[str, Any]:
        """The keys that are specific to its kind."""
        return dict(self.model_extra or {})


def _tool_tag(value: Any) -> str:
    return "pipeline" if isinstance(value, list) else "single"


Pipeline = Annotated[list[Tool], Field(min_length=1, max_length=MAX_TASKS)]
Tools = Annotated[Annotated[Tool, Tag("single")] | Annotated[Pipeline, Tag("pipeline")], Discriminator(_tool_tag)]


class Failure(Part):
    mode: Literal["fail_fast", "best_effort"] = "fail_fast"


class LoopPolicy(Part):
    legacy = grammar.STEP_POLICY_LEGACY

    exec: Literal["distributed", "local"] | None = Field(
        None,
        description=(
            "distributed: a command for each item, which any worker may run. local: commands of up to 1000 items, one "
            "at a time, each in one worker. Default: commands of as many items as take about a quarter of a second"
        ),
    )
    failure: Failure | None = Field(
        None, description="The same as spec.policy.failure of the step; only one of the two may be given"
    )


class FramePolicy(Part):
    """How the rows of a cursor are claimed and processed. A frame is what one claim returns."""

    later = frozenset({"verify_ipc"})

    max_rows: Annotated[int, Field(ge=1, le=10_000), _written(whole)] = Field(
        1, description="Rows of one claim: `__frame_max_rows` in the claim's SQL. More rows fail the frame"
    )
    max_bytes: Annotated[int, Field(ge=1, le=1 << 30), _written(whole)] = Field(
        64 << 20, description="Bytes of the rows of one claim. More fail the frame, and nothing is claimed"
    )
    max_seconds: PositiveSeconds = Field(
        30.0, description="Seconds after which a frame begins no further row; it goes on as a new command"
    )
    lease_seconds: Annotated[float, Field(gt=0, le=3600), _written(seconds)] | None = Field(
        None,
        description=(
            "Seconds after which another worker takes over the frame of one that is lost, if that is longer than the "
            "worker's own lease (30 on a laptop)"
        ),
    )
    heartbeat_seconds: Annotated[PositiveSeconds, Field(ge=1)] | None = Field(
        None, description="How often the lease is extended, in seconds. Default: three times in its time"
    )
    row_concurrency: Annotated[int, Field(ge=1, le=1000), _written(whole)] = Field(
        1, description="How many rows of a frame are processed at once"
    )
    process: Literal["row", "frame"] = Field(
        "row",
        description="row: the tasks run for each row. frame: once, for the list of all rows, which counts as one item",
    )
    retry_mode: Literal["whole_frame", "failed_rows"] = Field(
        "whole_frame", description="What is processed again after a row has failed with a retryable error"
    )
    max_attempts: Annotated[int, Field(ge=1, le=100), _written(whole)] = Field(
        3, description="How often a frame is processed at most because of retryable errors"
    )


class CursorOptions(Part):
    """How many claims there are, at once and in all."""

    pool_size: Annotated[int, Field(ge=1, le=IN_FLIGHT), _written(whole)] | None = Field(
        None,
        description="How many frames are under way at once; the smaller one of this and max_in_flight. Default: 8",
    )
    max_iterations: Annotated[int, Field(ge=1, le=1_000_000), _written(whole)] = Field(
        100_000, description="How many claims there are at most; the loop fails if there are still rows then"
    )


class Cursor(Part):
    """Items that are claimed while the loop runs, until there are none."""

    kind: Literal["postgres"]
    auth: str = Field(description="Name of a stored credential of type postgres, or a template that gives it")
    claim: str = Field(
        description=(
            "SQL that marks rows as taken and returns them, in a transaction of its own. What its templates give is "
            "bound; they may read workload, ctx, steps and __frame_max_rows"
        )
    )
    options: CursorOptions | None = None


class LoopSpec(Part):
    mode: Literal["sequential", "parallel", "cursor"] = "sequential"
    frame: FramePolicy | None = Field(None, description="How rows are claimed and processed, for mode: cursor")
    max_in_flight: Annotated[int | Expression, _written(whole)] | None = Field(
        None,
        description=(
            "For parallel and cursor: how many items, or frames, run at once, from 1 to 10,000. An expression that "
            "gives anything else fails the step with loop.invalid. Default: 16, and 8 for a cursor"
        ),
    )
    timeout: Timeout | None = None
    policy: LoopPolicy | None = None


class Loop(Part):
    legacy: ClassVar[Mapping[str, str]] = {
        "collection": "use 'in'",
        "element": "use 'iterator'",
        "mode": "it belongs in 'spec'",
        "max_in_flight": "it belongs in 'spec'",
        "until": "use an arc back to the step",
    }

    items: Expression | list[Any] | None = Field(None, alias="in")
    cursor: Cursor | None = Field(None, description="In place of `in`, for mode: cursor")
    iterator: Name
    spec: LoopSpec | None = None


class Allow(Part):
    allow: bool


class AdmitElse(Part):
    then: Allow


class AdmitRule(Part):
    when: Condition | None = None
    then: Allow | None = None
    otherwise: AdmitElse | None = Field(None, alias="else")


class Admit(Part):
    """Whether the step runs at all, decided when it is reached."""

    mode: Literal["exclusive"] = "exclusive"
    rules: list[AdmitRule] = Field(min_length=1)


class Lifecycle(Part):
    """How long a step may take in all."""

    timeout: Annotated[float, Field(gt=0, le=MAX_TIMEOUT), _written(seconds)] = Field(
        description=(
            "How long one run of the step may take, in seconds, from its beginning on: with the time that its commands "
            "wait for a worker, its retries, its items and its sub-playbooks. It then fails with step.timeout"
        )
    )


class StepPolicy(Part):
    later = frozenset({"emit"})
    legacy = grammar.STEP_POLICY_LEGACY

    admit: Admit | None = None
    lifecycle: Lifecycle | None = None
    failure: Failure | None = None


LimitKey = Annotated[str, StringConstraints(min_length=1)]
LimitCount = Annotated[int, Field(ge=1, le=MAX_LIMIT)]


class Concurrency(Part):
    """How many may be under way at once."""

    key: LimitKey | None = None
    limit: LimitCount


class Rate(Part):
    """How many may begin in a time: in any window of that length, wherever it begins."""

    key: LimitKey | None = None
    per: PositiveSeconds = Field(description="Length of the window, in seconds; a day at most")
    limit: LimitCount


class StepSpec(Part):
    legacy = grammar.SPEC_LEGACY

    timeout: Timeout | None = None
    policy: StepPolicy | None = None
    concurrency: Concurrency | None = Field(
        None,
        description=(
            "How many commands of the key workers run at once, in the whole deployment; the others wait. A loop then "
            "has a command for each item"
        ),
    )
    rate: Rate | None = Field(
        None,
        description=(
            "How many commands of the key begin in the time `per`, in the whole deployment; the others wait. A loop "
            "then has a command for each item, and each retry is a command of its own"
        ),
    )


class Arc(Part):
    legacy = grammar.ARC_LEGACY
    later = frozenset({"spec"})

    step: str
    when: Condition | None = None
    set: Assignments = {}


class RouterSpec(Part):
    later = frozenset({"policy"})

    mode: Literal["exclusive", "inclusive"] = "exclusive"
    on_no_match: Literal["complete", "quiet"] = "complete"


class Router(Part):
    legacy: ClassVar[Mapping[str, str]] = {
        "step": "use arcs: next: {arcs: [{step: ...}]}",
        "when": "use arcs: next: {arcs: [{step: ..., when: ...}]}",
        "mode": "it belongs in 'spec'",
        "next_mode": "use spec: {mode: ...}",
    }

    spec: RouterSpec | None = None
    arcs: list[Arc] = Field(min_length=1)


# as in functions.yaml and in Terraform's `pools`
PoolName = Annotated[str, StringConstraints(pattern=POOL_PATTERN)]


class Compensation(Part):
    """How to undo a step. It may read the result of the run that it undoes, as STEP.field."""

    input: dict[str, Any] = {}
    tool: Tools
    loop: Loop | None = None
    spec: StepSpec | None = None


def _compensation_tag(value: Any) -> str:
    return "none" if isinstance(value, str) else "steps"


class Step(Part):
    legacy = grammar.STEP_LEGACY

    step: Name
    desc: str | None = None
    pool: PoolName | None = None
    input: dict[str, Any] = {}
    tool: Tools = Tool(kind="noop")
    loop: Loop | None = None
    set: Assignments = {}
    next: Router | None = None
    compensate: (
        Annotated[
            Annotated[Literal["none"], Tag("none")] | Annotated[Compensation, Tag("steps")],
            Discriminator(_compensation_tag),
        ]
        | None
    ) = Field(
        None,
        description=(
            "How to undo the step when the execution fails: before it does, all that has been done is undone, the "
            "latest first. none: there is nothing to undo"
        ),
    )
    spec: StepSpec | None = None

    @property
    def undo(self) -> Step | None:
        """Its compensation, as a step of its own."""
        if not isinstance(self.compensate, Compensation):
            return None
        parts = {name: getattr(self.compensate, name) for name in self.compensate.model_fields_set}
        name = f"{self.step}.compensate"
        return Step.model_construct({"step", *parts}, step=name, pool=self.pool, **parts)

    @property
    def tools(self) -> list[Tool]:
        return self.tool if isinstance(self.tool, list) else [self.tool]


class WorkbookTask(Part):
    """A tool call by name, for steps to use with `kind: workbook`."""

    name: Name
    desc: str | None = None
    tool: Tool


class Requires(Part):
    tools: list[str] = []
    features: list[str] = []


class Defaults(Part):
    timeout: Timeout | None = None


class ResultPolicy(Part):
    reference_first: bool = Field(False, description="Store every result by reference, however small")


class LimitPolicy(Part):
    max_payload_bytes: Annotated[int, Field(ge=1)] | None = Field(
        None, description="The most bytes of JSON that a result of a task may have; it fails with value.too_large"
    )


class ExecutorPolicy(Part):
    defaults: Defaults | None = None
    results: ResultPolicy | None = None
    limits: LimitPolicy | None = None


class Budget(Part):
    """The execution fails with the code budget.exceeded before the command that would exceed one of these limits.
    Reported commands count with what they used, open commands with the mean of their step so far."""

    max_invocations: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Maximum number of commands that workers run."
    )
    max_billed_seconds: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Maximum worker time in seconds."
    )
    max_cost_usd: Annotated[float, Field(gt=0)] | None = Field(None, description="Maximum cost in USD.")
    prices: Literal[grammar.PRICES] = grammar.DEFAULT_PRICES  # type: ignore[valid-type]


class ExecutorSpec(Part):
    entry_step: str | None = None
    final_step: str | None = None
    no_next_is_error: bool = False
    timeout: Annotated[float, Field(gt=0, le=MAX_TIMEOUT), _written(seconds)] | None = Field(
        None,
        description=(
            "How long the whole execution may take, in seconds, with its waits and its sub-playbooks. It then fails "
            "with execution.timeout"
        ),
    )
    max_turns: int = Field(
        DEFAULT_MAX_TURNS,
        ge=1,
        le=100_000,
        description="Maximum number of times that a step may begin. On the next time it fails with turns.exceeded.",
    )
    weight: int = Field(
        WEIGHT,
        ge=1,
        le=MAX_WEIGHT,
        description=(
            "Weight of executions of this playbook when more commands wait for a pool than its workers can run: they "
            "share the workers in proportion to their weights. Sub-playbooks have their own weight"
        ),
    )
    concurrency: Concurrency | None = Field(
        None,
        description=(
            "How many executions of the key are under way at once, in the whole deployment, from their first command "
            "to their end; the first commands of the others wait"
        ),
    )
    rate: Rate | None = Field(
        None,
        description=(
            "How many executions of the key begin in the time `per`, in the whole deployment; the first commands of "
            "the others wait"
        ),
    )
    budget: Budget | None = None
    durability: Literal["step", "pipelined"] = Field(
        "step",
        description=(
            "step: each step's outcome is durable before the next step begins. pipelined: where one step follows "
            "another, the worker continues at once and the outcomes become durable afterwards, in order; so do results "
            "that go to a result store, each before the outcome that names it. If the worker is lost, the steps of "
            "about the last second, 64 at most, run again instead of one step. Use it for chains of short steps whose "
            "effects may be repeated"
        ),
    )
    policy: ExecutorPolicy | None = None


class Executor(Part):
    """How executions run."""

    profile: Literal["auto", "distributed", "local"] = Field(
        "auto",
        description=(
            "local: the playbook is for a stack on one machine, and is refused by one in a cloud. auto and "
            "distributed: any worker may run any step"
        ),
    )
    version: Literal["noetl-runtime/1"] = "noetl-runtime/1"
    requires: Requires | None = None
    spec: ExecutorSpec | None = None


CatalogPath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$", max_length=500)]


class Metadata(Part):
    """Keys other than these are allowed, too."""

    model_config = ConfigDict(extra="allow")

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    path: CatalogPath | None = None
    agent: bool | None = Field(
        None, description="Whether it is an agent, which lists of agents have. One of kind Agent is in any case"
    )
    capabilities: list[str] = Field([], description="What it can do, by which agents are found")


class Schemas(Part):
    """JSON Schemas (draft 2020-12) of what an execution is started with and of what it returns. `$ref` names places in
    the same schema, patterns are those of RE2, and `format` only describes."""

    input: dict[str, Any] | None = Field(
        None,
        description=(
            "Schema of the workload with the payload merged into it. A start that does not fit is refused with "
            "input.invalid. Defaults belong in the workload. Values of properties with writeOnly or x-secret are not "
            "repeated in errors"
        ),
    )
    result: dict[str, Any] | None = Field(
        None,
        description="Schema of the result of the last step. An execution whose result does not fit fails with "
        "result.invalid",
    )


class Playbook(Part):
    legacy = grammar.ROOT_LEGACY

    api_version: Literal["noetl.io/v2", "noetl.io/v10"] = Field(alias="apiVersion")
    kind: Literal["Playbook", "Agent"]
    metadata: Metadata
    executor: Executor | None = None
    keychain: list[AnyEntry] = Field([], max_length=MAX_ENTRIES)
    triggers: list[AnyTrigger] = Field([], max_length=MAX_TRIGGERS)
    workload: dict[str, Any] = {}
    schemas: Schemas | None = None
    workbook: list[WorkbookTask] = []
    workflow: list[Step] = Field(min_length=1, max_length=MAX_STEPS)

    @property
    def executor_spec(self) -> ExecutorSpec:
        return (self.executor and self.executor.spec) or ExecutorSpec()
