"""kind: python. Runs code in a prestarted process of its own, which a timeout kills."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from ..playbook import python_libs
from ..playbook.code_size import CodeTooLarge, check_compiles
from ..playbook.scripts import Script
from .config import NOT_SUPPORTED, Refusal, ToolConfig
from .port import ToolCall, ToolContext, ToolFailure, ToolOutcome

# fields that hold no template, and were checked when the playbook was compiled; and the input
_CHECKED = {"code", "libs", "input"}


class PythonConfig(ToolConfig):
    """Python code. The keys of `input` are its globals; the result is what it returns with a `return` outside
    functions, else what it leaves in the variable `result`, else what `main(**input)` returns if it defines main (which
    may be async). The code may `await` outside functions, too.

    `input_data` (or `args`) is the whole input as a dict, `context` the execution: `workload`, `ctx`, `iter`,
    `execution_id` and the results of steps, each under its name, as in `context["ctx"]["x"]` and
    `context.get("step_name")`; it cannot be changed. A key of the input with one of these names is meant instead.
    What code reads of `context` must be written as constants, as here, or all of it is loaded.

    A table in the input (the rows of an earlier step that are too many for JSON) is a list of dicts to code, as few
    rows are. Where `main` declares a parameter as `pyarrow.Table`, `pyarrow.RecordBatchReader`, `pandas.DataFrame`,
    `polars.DataFrame` or `polars.LazyFrame` (or `... | None`), it gets that instead, without a copy where the library
    allows it, and made of few rows as well as of many; outside `main` such an input is a sequence of rows. `tables`
    says the same for all inputs that are not declared.

    The result, or one field of an object that is the result, may be a table: of pyarrow (a Table, RecordBatch or
    RecordBatchReader), a frame of pandas or polars (a LazyFrame is collected), or anything else that exports an Arrow
    stream. Up to 64 KiB of JSON it becomes a list of objects; a larger one goes by reference, as an Arrow stream that
    is written batch by batch. A file that code writes has at most 8 GiB, and so has a table.

    The result must be JSON: dates become ISO 8601, Decimal a number or text. NaN and the infinities (a missing
    value of pandas is null), bytes, ints beyond 64 bits and texts with NUL are refused, with their place.
    Installed packages can be imported. The working folder is empty and private, and is emptied after the call.
    Printed output is kept in meta.stdout (8 KiB). The process sees none of the engine's environment. What code leaves
    in its memory, say in a module, no other execution meets; a later step of the same execution may meet it or not.
    On Linux it cannot open the files of a local stack, nor create any directly in a folder that contains the stack's.
    """

    code: str | None = Field(default=None, min_length=1, description="Code to run; templates in it are not rendered.")
    code_b64: str | None = Field(default=None, min_length=1, description="Code in base64, instead of `code`.")
    script: Script | None = Field(default=None, description="Where the code is kept, instead of `code`.")
    libs: dict[str, str] | list[str] = Field(
        default_factory=dict,
        description=(
            "Modules that are imported before the code runs: {np: numpy}, or [json, os.path]. A list may also name "
            "distributions that have to be installed, such as psycopg2-binary."
        ),
    )

    tables: Literal["rows", "arrow", "pandas", "polars"] = Field(
        default="rows",
        description=(
            "What code finds for tables, and for inputs that are lists of objects, or of nothing: a list of dicts, a "
            "pyarrow.Table, a pandas.DataFrame or a polars.DataFrame. What `main` declares takes precedence."
        ),
    )

    @classmethod
    def missing(cls, config: Mapping[str, Any]) -> Iterable[str]:
        if sum(name in config for name in ("code", "code_b64", "script")) != 1:
            yield "the field 'code' is required (or 'code_b64' or 'script'; only one of them)"

    @classmethod
    def refusal(cls, name: str) -> Refusal | None:
        return Refusal(f"the field {name!r} is not supported yet", NOT_SUPPORTED) if name == "deps" else None

    @field_validator("code")
    @classmethod
    def _compiles(cls, code: str | None) -> str | None:
        return code if code is None else _checked(code)

    @field_validator("code_b64")
    @classmethod
    def _decodes(cls, text: str | None) -> str | None:
        if text is not None:
            _checked(_decoded(text))
        return text

    @field_validator("libs", mode="before")
    @classmethod
    def _names_modules(cls, libs: Any) -> Any:
        for _, message in python_libs.faults_of(libs):
            raise ValueError(message)
        return libs

    @property
    def source(self) -> str:
        return self.code if self.code is not None else _decoded(self.code_b64 or "")


def _checked(code: str) -> str:
    try:
        check_compiles(code)
    except CodeTooLarge:
        raise
    except (SyntaxError, ValueError) as error:
        line = f" (line {error.lineno} of the code)" if isinstance(error, SyntaxError) else ""
        raise ValueError(f"not valid Python: {error.args[0]}{line}") from None
    return code


def _decoded(text: str) -> str:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode()
    except ValueError:
        raise ValueError("not base64-encoded UTF-8 text") from None


class Python:
    config: ClassVar[type[PythonConfig]] = PythonConfig
    takes_tables: ClassVar[bool] = True

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        # not validated again: compiling the code here would cost more than running it
        code, libs, tables = call.config.get("code"), call.config.get("libs", ()), None
        if not isinstance(code, str) or not call.config.keys() <= _CHECKED:
            try:
                config = PythonConfig.of(call)
            except ToolFailure as failure:
                return failure.outcome()
            code, libs = config.source, config.libs
            tables = None if config.tables == "rows" else config.tables
        reply = await context.python.run(
            code,
            call.input,
            call.timeout,
            context.waiting,
            context.share,
            context.execution_id,
            libs=libs,
            context=call.context,
            tables=tables,
            files=context.files,
            inline_bytes=context.inline_bytes,
            texts=call.texts,
        )
        meta = {"stdout": reply["stdout"]} if reply["stdout"] else {}
        if reply["status"] == "ok":
            return ToolOutcome(
                "ok", data=reply["data"], meta=meta, stored=reply["stored"], written=reply.get("written")
            )
        extra = {"py": reply["py"]} if "py" in reply else {}
        return ToolOutcome("error", error=reply["error"], extra=extra, meta=meta)

    async def close(self) -> None:
        return None
