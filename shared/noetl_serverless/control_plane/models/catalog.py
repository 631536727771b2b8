from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from ...playbook.grammar import RESOURCES
from ...protocol import StorableText
from ...store.catalog import CatalogVersion
from ...store.credentials import Credential
from . import AnswerModel, Id, PathPrefix, RequestModel, VersionOrLatest

# the kind of the entries that are credentials, which are kept elsewhere
CREDENTIAL = "Credential"


Version = Annotated[int, Field(ge=1, lt=1 << 31)]


def _known_type(value: str) -> str:
    """The kind in the spelling of documents."""
    kind = next((kind for kind in RESOURCES if kind.casefold() == value.casefold()), None)
    if kind is None:
        raise ValueError(f"there is no such kind; the kinds are {', '.join(RESOURCES)}")
    return kind


# in any case, as in the original
ResourceType = Annotated[StorableText, AfterValidator(_known_type)]


class Register(RequestModel):
    content: str = Field(
        min_length=1,
        description="Playbook, or another document of the catalog, as YAML, in plain text or base64.",
    )
    resource_type: ResourceType | None = Field(
        default=None,
        description="Kind of the document, which says it itself: another one is refused, except Playbook, which may "
        "be given for any.",
    )
    strict: bool = Field(default=False, description="Refuse older forms of the language instead of warning about them.")


class FormQuery(RequestModel):
    version: VersionOrLatest = Field(default="latest", description="Version of the playbook.")


class FormEntry(AnswerModel):
    """One value that a start may give."""

    name: str = Field(description="Key of the workload, or of the object that the field is in.")
    kind: Literal["string", "integer", "number", "boolean", "object", "array", "null", "enum", "any"]
    default: Any = Field(default=None, description="Value of the playbook's workload; null for a secret.")
    description: str | None = None
    required: bool = Field(default=False, description="Whether a start has to give it.")
    secret: bool = Field(default=False, description="Whether its schema has writeOnly or x-secret.")
    credential_glob: str | None = Field(
        default=None, description="It is the name of a credential that fits this, as `x-credential` of its schema says."
    )
    options: list[Any] | None = Field(default=None, description="What it may be, for kind enum.")
    children: list[FormEntry] | None = Field(default=None, description="The fields of an object.")


class Form(AnswerModel):
    """A form for starting a playbook."""

    path: str
    version: int
    kind: str
    title: str | None = Field(default=None, description="Name of the playbook.")
    description_markdown: str | None = Field(default=None, description="`metadata.description` of the playbook.")
    exposed_in_ui: bool = Field(default=False, description="`metadata.exposed_in_ui` of the playbook.")
    fields: list[FormEntry] = Field(description="From the schema of the input, then from the workload.")
    input_schema: dict[str, Any] | None = Field(default=None, description="`schemas.input` of the playbook.")
    result_schema: dict[str, Any] | None = Field(default=None, description="`schemas.result` of the playbook.")


class Warning(AnswerModel):
    """Something in the document that is accepted and should be written differently. Line and column count from 1."""

    code: str
    message: str
    pointer: str = ""
    line: int | None = None
    column: int | None = None


class Registered(AnswerModel):
    status: Literal["success"] = "success"
    message: str
    path: str
    version: int
    catalog_id: str
    kind: str
    warnings: list[Warning] = Field(default_factory=list)


class RegisterBatch(RequestModel):
    items: list[Register] = Field(min_length=1, max_length=100)


class BatchResult(AnswerModel):
    index: int = Field(description="Position of the playbook in `items`, from 0.")
    status: Literal["registered", "failed"]
    message: str
    path: str | None = None
    version: int | None = None
    catalog_id: str | None = None
    error: str | None = Field(default=None, description="Why it was not registered: its first fault.")
    warnings: list[Warning] = Field(default_factory=list)


class RegisteredBatch(AnswerModel):
    results: list[BatchResult]
    registered: int
    failed: int


class ListAgents(RequestModel):
    capability: StorableText | None = Field(
        default=None, min_length=1, max_length=200, description="List only what has it."
    )
    capabilities: list[StorableText] = Field(
        default_factory=list, max_length=50, description="List only what has all of them."
    )
    path: PathPrefix | None = None
    include_deleted: bool = Field(default=False, description="List what is deleted, too.")
    limit: int = Field(default=1000, ge=1, le=1000)
    offset: int = Field(default=0, ge=0)


class ListCatalog(ListAgents):
    resource_type: StorableText | None = Field(
        default=None,
        description="List only this kind. `Credential` lists the descriptions of credentials and, unless a path is "
        "given, then the stored credentials, without their data.",
    )
    agent_only: bool = Field(
        default=False, description="List only agents: what is of kind Agent, or says `metadata.agent: true`."
    )
    every_version: bool = Field(default=False, description="List every version, not only the newest of each path.")


class CatalogEntry(AnswerModel):
    catalog_id: str
    path: str
    version: int
    kind: str
    hash: str | None = Field(description="Hash of the compiled plan, or of the document; null for a stored credential.")
    meta: dict[str, Any]
    payload: dict[str, Any] = Field(
        description="Of a playbook its workload: its inputs and their defaults; of others what their kind is about."
    )
    created_at: datetime
    deleted_at: datetime | None = Field(default=None, description="When it was deleted, if it is listed with those.")
    content: str | None = None

    @classmethod
    def of(cls, entry: CatalogVersion) -> CatalogEntry:
        return cls(
            catalog_id=str(entry.catalog_id),
            path=entry.path,
            version=entry.version,
            kind=entry.kind,
            hash=entry.hash,
            meta=entry.meta,
            payload=entry.payload,
            created_at=entry.created_at,
            deleted_at=entry.deleted_at,
            content=entry.content or None,
        )

    @classmethod
    def of_credential(cls, credential: Credential) -> CatalogEntry:
        """A credential has one version, and its name is its path."""
        return cls(
            catalog_id=str(credential.credential_id),
            path=credential.name,
            version=1,
            kind=CREDENTIAL,
            hash=None,
            meta={**credential.meta, "type": credential.type, "tags": credential.tags},
            payload={},
            created_at=credential.created_at,
        )


class CatalogEntries(AnswerModel):
    entries: list[CatalogEntry]
    next: int | None = Field(default=None, description="Value of `offset` for the next page; null on the last page.")


class Resource(RequestModel):
    catalog_id: Id | None = None
    path: StorableText | None = None
    version: VersionOrLatest = "latest"


class PlanText(AnswerModel):
    hash: str
    content: str
