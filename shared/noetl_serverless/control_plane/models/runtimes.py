from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import AliasChoices, Field, field_validator

from ...protocol import Kind, StorableText, WorkerId
from ...store.runtimes import Runtime
from . import AnswerModel, Id, RequestModel

Status = Literal["ready", "busy", "idle"]
State = Literal["ready", "busy", "idle", "dead"]


class NamedRuntime(RequestModel):
    name: WorkerId
    kind: Kind | None = Field(
        default=None,
        validation_alias=AliasChoices("kind", "component_type"),
        description="Needed only if components of several kinds have this name.",
    )


class RegisterRuntime(RequestModel):
    name: WorkerId
    kind: Kind = Field(default="worker_pool", validation_alias=AliasChoices("kind", "component_type"))
    runtime: StorableText | None = Field(default=None, max_length=100, examples=["python"])
    uri: StorableText | None = Field(default=None, max_length=500, validation_alias=AliasChoices("uri", "base_url"))
    status: Status = Field(default="ready", description="idle: it may send no heartbeats for a while, and is not dead.")
    capacity: int | None = Field(default=None, ge=0, lt=1 << 31, description="Commands that it runs at once.")
    running: int | None = Field(default=None, ge=0, lt=1 << 31)
    labels: dict[str, Any] | list[StorableText] | None = None
    pid: int | None = Field(default=None, ge=0, lt=1 << 63)
    hostname: StorableText | None = Field(default=None, max_length=300)
    meta: dict[str, Any] | None = None
    pool: StorableText | None = Field(
        default=None, max_length=100, description="The pool whose commands it runs, of a worker."
    )
    version: StorableText | None = Field(default=None, max_length=100)


class RuntimeHeartbeat(NamedRuntime):
    status: Status | None = None
    running: int | None = Field(default=None, ge=0, lt=1 << 31)
    registration: RegisterRuntime | None = Field(
        default=None, description="Registers it again if it is not known any more."
    )


class RegisteredRuntime(AnswerModel):
    status: Literal["ok", "recreated"]
    name: str
    runtime_id: str
    kind: Kind
    runtime: str | None


class Deregistered(AnswerModel):
    status: Literal["ok"] = "ok"
    name: str
    kind: Kind


class ListRuntimes(RequestModel):
    kind: Kind | None = None
    pool: StorableText | None = None
    runtime: StorableText | None = None
    state: State | None = Field(default=None, validation_alias=AliasChoices("state", "status"))
    after: Id = Field(default="0", description="List only components with a higher runtime_id.")
    limit: int = Field(default=100, ge=1, le=1000)


class RuntimeEntry(AnswerModel):
    runtime_id: str
    kind: str
    name: str
    pool: str | None
    runtime: str | None
    uri: str | None
    status: Status = Field(description="As it said last.")
    state: State = Field(description="dead: neither idle nor heard of for a minute.")
    capacity: int | None
    running: int | None = Field(description="Commands that it ran at its last heartbeat.")
    labels: dict[str, Any] | list[str] | None
    version: str | None
    pid: int | None
    hostname: str | None
    meta: dict[str, Any] | None
    heartbeat: datetime
    created_at: datetime
    updated_at: datetime

    @field_validator("runtime_id", mode="before")
    @classmethod
    def _decimal(cls, value: int | str) -> str:
        return str(value)

    @classmethod
    def of(cls, runtime: Runtime) -> RuntimeEntry:
        return cls(**{name: getattr(runtime, name) for name in cls.model_fields})


class PoolEntry(AnswerModel):
    pool: str
    deployed: bool | None = Field(description="Whether the deployment has it; null if it does not know its pools.")
    instances: int = Field(description="Without those that are dead.")
    dead: int
    versions: list[str]
    capacity: int = Field(description="Commands that the instances run at once, all together.")
    running: int
    heartbeat: datetime | None = Field(description="The latest of its instances; null if there is none.")
    state: State | Literal["unused"] = Field(description="unused: no instance has been heard of for an hour.")
    labels: dict[str, str]
    accelerator: str | None


class RuntimeEntries(AnswerModel):
    items: list[RuntimeEntry]
    next: str | None
    pools: list[PoolEntry] = Field(description="The same on each page, whatever is selected.")
