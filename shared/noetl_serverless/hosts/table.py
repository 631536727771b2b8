"""functions.yaml: what is deployed, on every host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field

from ..playbook.plan import POOL_PATTERN
from ..playbook.pools import PoolTraits

# of memory, for each of which Lambda gives an instance one CPU
MEGABYTES_PER_LAMBDA_CPU = 1769


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
    pool: str | None = Field(default=None, pattern=POOL_PATTERN)
    labels: Mapping[str, str] = {}
    max_in_flight: int | None = Field(default=None, ge=1)
    cpu: int | None = Field(default=None, ge=1)
    accelerator: str | None = Field(default=None, pattern="^nvidia-[a-z0-9-]+$")
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
    """The functions of that host. ValueError if the table has a mistake, or describes what the host does not have."""
    specs = [FunctionSpec(name=name, **row) for name, row in _document(folder)["functions"].items()]
    found = [spec for spec in specs if not spec.hosts or host in spec.hosts]
    for spec in found:
        if (reason := _not_there(spec, host)) is not None:
            raise ValueError(f"functions.yaml: functions.{spec.name}: {reason}")
    return found


def deployable_pools(folder: Path, host: str | None = None) -> dict[str, PoolTraits]:
    """The pools that functions.yaml describes, on whatever host, or those of one."""
    rows = [
        row
        for row in _document(folder)["functions"].values()
        if row.get("pool") and (host is None or host in (row.get("hosts") or [host]))
    ]
    return {row["pool"]: PoolTraits(extras=frozenset(row["extras"])) for row in rows}


def load_pools(folder: Path) -> dict[str, str]:
    """Tool kind -> pool, for the kinds that do not run in `shared`."""
    return {kind: pool for pool, kinds in (_document(folder).get("pools") or {}).items() for kind in kinds}


def worker_pools(specs: Sequence[FunctionSpec], is_direct: Callable[[FunctionSpec], bool]) -> dict[str, dict[str, Any]]:
    """The setting of this name: pool -> what its workers have, as `playbook.pools.PoolTraits` reads it."""
    return {
        spec.pool: {
            "labels": dict(spec.labels),
            "accelerator": spec.accelerator,
            "extras": list(spec.extras),
            "direct": is_direct(spec),
        }
        for spec in specs
        if spec.pool is not None
    }


def directly(spec: FunctionSpec, folder: Path) -> FunctionSpec:
    """The function with what it needs if its orchestrator is direct."""
    return spec.with_more(**_document(folder)["direct"])


def _not_there(spec: FunctionSpec, host: str) -> str | None:
    """What of the function the host does not have, as Terraform says it, too."""
    if spec.pool is None and (spec.labels or spec.accelerator or spec.max_in_flight):
        return "labels, max_in_flight and accelerator are for workers, which have a pool"
    if host != "aws":
        return None
    if spec.accelerator is not None:
        return (
            f"AWS Lambda has no GPUs: let the pool {spec.pool} run on Google Cloud (hosts: [gcp]), or leave out its "
            "accelerator"
        )
    if spec.cpu is not None and spec.memory_mb < spec.cpu * MEGABYTES_PER_LAMBDA_CPU:
        return (
            f"AWS Lambda gives one CPU for each {MEGABYTES_PER_LAMBDA_CPU} MB: {spec.cpu} CPUs need a memory_mb of "
            f"{spec.cpu * MEGABYTES_PER_LAMBDA_CPU}"
        )
    return None


def _document(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((folder / "functions.yaml").read_text(encoding="utf-8"))
    return document
