"""kind: playbook. Requests a sub-playbook; the engine starts it and continues when it ends."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from ..playbook.catalog_path import catalog_path
from ..protocol import PATH_LENGTH, STEP_LENGTH, ChildRequest
from .config import ToolConfig
from .port import ToolCall, ToolContext, ToolFailure, ToolOutcome


class PlaybookConfig(ToolConfig):
    """A playbook of the catalog to run as a child. `input` and `payload` (which wins) become its payload."""

    path: str = Field(min_length=1, max_length=PATH_LENGTH, description="Path of the playbook in the catalog.")
    version: int | None = Field(
        default=None, ge=1, lt=1 << 31, description="Version of the playbook; by default, the newest."
    )
    payload: dict[str, Any] = Field(default_factory=dict, description="Values merged into the sub-playbook's workload.")
    return_step: str | None = Field(
        default=None,
        min_length=1,
        max_length=STEP_LENGTH,
        description="Step whose result is the result of this task; by default, the sub-playbook's last step.",
    )


class SubPlaybook:
    config: ClassVar[type[PlaybookConfig]] = PlaybookConfig

    async def run(self, call: ToolCall, context: ToolContext) -> ToolOutcome:
        try:
            config = PlaybookConfig.of(call)
        except ToolFailure as failure:
            return failure.outcome()
        child = ChildRequest(
            path=catalog_path(config.path),
            version=config.version,
            payload={**call.input, **config.payload},
            return_step=config.return_step,
            timeout=call.timeout,
        )
        return ToolOutcome("ok", child=child)

    async def close(self) -> None:
        return None
