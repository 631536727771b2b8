"""functions.yaml: what is deployed, on every host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field


class Trigger(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["http", "queue", "schedule", "event"]
    public: bool = False
    every_s: float | None = None


class FunctionSpec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    source: str
    entry_point: str
    role: str
    memory_mb: int = Field(ge=128)
    timeout_s: int = Field(ge=1, le=3600)
    concurrency: int = Field(ge=1)
    triggers: Sequence[Trigger]
    pool: str | None = None
    orchestrator: Mapping[str, Literal["remote", "direct"]] = {}
    hosts: Sequence[str] = ()
    max_instances: int | None = None
    extras: Sequence[str] = ()
    package_mb: int = Field(default=250, ge=1, le=250)
    secrets: Sequence[str] = ()
    settings: Sequence[str] = ()

    @property
    def every(self) -> float | None:
        """Seconds between two ticks of its schedule."""
        return next((trigger.every_s for trigger in self.triggers if trigger.kind == "schedule"), None)

    def with_more(self, secrets: Sequence[str], settings: Sequence[str]) -> Self:
        """The function with these beside its own."""
        return self.model_copy(update={"secrets": [*self.secrets, *secrets], "settings": [*self.settings, *settings]})


def functions_folder() -> Path:
    """The folder `functions` beside the library's. FileNotFoundError if only the library is installed."""
    folder = Path(__file__).resolve().parents[3] / "functions"
    if not (folder / "functions.yaml").is_file():
        raise FileNotFoundError(f"there is no {folder / 'functions.yaml'}: install the project in editable mode")
    return folder


def load_functions(folder: Path, host: str = "local") -> list[FunctionSpec]:
    """The functions of that host. ValueError if the table has a mistake."""
    specs = [FunctionSpec(name=name, **row) for name, row in _document(folder)["functions"].items()]
    return [spec for spec in specs if not spec.hosts or host in spec.hosts]


def load_pools(folder: Path) -> dict[str, str]:
    """Tool kind -> pool, for the kinds that do not run in `shared`."""
    return {kind: pool for pool, kinds in (_document(folder).get("pools") or {}).items() for kind in kinds}


def directly(spec: FunctionSpec, folder: Path) -> FunctionSpec:
    """The function with what it needs if its orchestrator is direct."""
    return spec.with_more(**_document(folder)["direct"])


def _document(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((folder / "functions.yaml").read_text(encoding="utf-8"))
    return document
