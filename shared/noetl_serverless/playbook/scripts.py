"""Code and SQL of tasks that is kept elsewhere: `script: {uri, source, sha256}` instead of `code` or `command`.

A script is read once, when its playbook is registered, and becomes a part of the playbook's text, behind the document.
So what runs, is replayed or resumed is always what was read then.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal
from urllib.parse import urljoin, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from ..limits import SCRIPT_BYTES, SCRIPTS_BYTES
from .numbers import no_boolean
from .task_places import tasks_of

Type = Literal["file", "http", "s3", "gcs"]

# the kinds whose tasks may have one, and the field whose place it takes
FIELDS: Final[Mapping[str, str]] = {"python": "code", "postgres": "command", "duckdb": "command"}
# that reading one may take
READ_SECONDS: Final = 20.0
# the code of the fault of a script whose content is not known yet
SCRIPT_MISSING: Final = "playbook.script_missing"
# ends the playbook's document, in YAML too; one JSON object follows
_MARK: Final = "--- # scripts, as they were when the playbook was registered\n"
_SCHEMES: Final[Mapping[str, Type]] = {"": "file", "http": "http", "https": "http", "s3": "s3", "gs": "gcs"}
_EXAMPLES: Final[Mapping[Type, str]] = {
    "file": "dir/load.py",
    "http": "https://host/load.py",
    "s3": "s3://bucket/load.py",
    "gcs": "gs://bucket/load.py",
}
_SHA256 = re.compile(r"[0-9a-f]{64}")
# in one spelling, so that two URLs of a bucket are not taken for two buckets
_OBJECT = re.compile(r"(s3|gs)://[a-z0-9](?:[a-z0-9._-]{0,220}[a-z0-9])?(/(?!\.{1,2}(/|$))[^/?#]+)+")
_HOST = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?/?")


class Source(BaseModel):
    """Where a script is."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    type: Type | None = Field(default=None, description="By default, what the scheme of the URI says.")
    endpoint: str | None = Field(
        default=None,
        description="For http: the URL that the URI is relative to, or that ends with it. For s3 with auth: that of a "
        "store like S3.",
    )
    auth: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="For s3 and gcs: the stored credential, of type aws or service_account, whose keys read it. By "
        "default scripts are read with the identity of the control plane.",
    )
    region: str | None = Field(
        default=None, min_length=1, max_length=50, description="For s3 with auth; by default, that of the credential."
    )
    method: Literal["GET"] = Field(default="GET", description="For http: how it is read.")
    timeout: Annotated[float, Field(gt=0, le=READ_SECONDS), BeforeValidator(no_boolean)] | None = Field(
        default=None,
        description="Seconds that reading may take. Default: 20, which is the most.",
    )

    @model_validator(mode="before")
    @classmethod
    def _no_credentials(cls, value: Any) -> Any:
        for name in ("credential", "headers"):
            if isinstance(value, Mapping) and name in value:
                raise ValueError(
                    f"'{name}' is not supported: write 'auth', for s3 and gcs, or keep the script beside the playbook "
                    "instead, as a file"
                )
        return value


class Script(BaseModel):
    """Code or SQL that is kept elsewhere. It is read once, when the playbook is registered."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    uri: str = Field(
        min_length=1,
        max_length=1000,
        description=(
            "A path relative to the folder of the playbook's file, or else to the one in which it is registered; or a "
            "URL: https://..., s3://bucket/key, gs://bucket/key."
        ),
    )
    source: Source = Field(default_factory=Source, description="Where it is read from, where the URI does not say it.")
    sha256: str | None = Field(default=None, description="What its content must be, in hexadecimal.")

    @field_validator("uri")
    @classmethod
    def _no_template(cls, uri: str) -> str:
        if _is_template(uri):
            raise ValueError("it cannot be a template: a script is read when the playbook is registered")
        return uri

    @field_validator("sha256")
    @classmethod
    def _hexadecimal(cls, digest: str | None) -> str | None:
        if digest is not None and not _SHA256.fullmatch(digest.lower()):
            raise ValueError("it must be 64 hexadecimal digits")
        return digest if digest is None else digest.lower()

    @model_validator(mode="after")
    def _known_place(self, info: ValidationInfo) -> Script:
        parts = urlsplit(self.location)
        scheme = parts.scheme
        if parts.username is not None or parts.password is not None:
            raise ValueError("a user and a password do not belong into a playbook; keep the script beside it as a file")
        if scheme not in _SCHEMES:
            raise ValueError(f"there is no source for {scheme}://; write a path, or a URL of https, s3 or gs")
        source, is_object = self.source, self.type in ("s3", "gcs")
        if source.endpoint is not None and self.type != "http" and not (self.type == "s3" and source.auth):
            raise ValueError("'endpoint' requires type: http, or s3 with auth")
        if source.auth is not None and not is_object:
            raise ValueError("'auth' is for s3 and gcs; keep the script beside the playbook instead, as a file")
        if source.region is not None and not (self.type == "s3" and source.auth):
            raise ValueError("'region' requires type: s3, with auth")
        if self.type == "s3" and source.endpoint is not None and not _HOST.fullmatch(source.endpoint):
            raise ValueError("'endpoint' of s3 is the URL of a host alone, such as https://store.example")
        if any(_is_template(text) for text in (source.auth, source.region) if text):
            raise ValueError(
                "'auth' and 'region' cannot be templates: a script is read when the playbook is registered"
            )
        if _SCHEMES[scheme] != self.type or (is_object and not _OBJECT.fullmatch(self.uri)):
            raise ValueError(f"a uri of type {self.type} is like {_EXAMPLES[self.type]}")
        return self

    @property
    def type(self) -> Type:
        return self.source.type or _SCHEMES.get(urlsplit(self.uri).scheme, "file")

    @property
    def location(self) -> str:
        """What tells it from all others: its path or its URL."""
        endpoint = self.source.endpoint
        if not endpoint or self.type != "http":
            return self.uri
        # it is the file's own URL
        if "." in self.uri and urlsplit(endpoint).path.endswith(f"/{self.uri}"):
            return endpoint
        return urljoin(f"{endpoint.rstrip('/')}/", self.uri)


def _is_template(text: str) -> bool:
    return "{{" in text or "{%" in text


class InvalidScripts(ValueError):
    """What follows the playbook's document is not what `with_scripts` writes."""


def split(text: str) -> tuple[str, dict[str, str]]:
    """The playbook's document, and its scripts by location; raises InvalidScripts."""
    document, mark, section = text.rpartition(f"\n{_MARK}")
    if not mark:
        return text, {}
    try:
        entries = json.loads(section)
        scripts = {location: as_content(location, entry["content"].encode()) for location, entry in entries.items()}
        for location, entry in entries.items():
            if digest(entry["content"]) != entry["sha256"]:
                raise InvalidScripts(f"the script '{location}' is not the one that its sha256 is of")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        if isinstance(error, InvalidScripts):
            raise
        raise InvalidScripts("the scripts of a playbook are a JSON object of {location: {sha256, content}}") from None
    if sum(len(content.encode()) for content in scripts.values()) > SCRIPTS_BYTES:
        raise InvalidScripts(f"the scripts of the playbook have more than {SCRIPTS_BYTES} bytes together")
    return f"{document}\n", scripts


def with_scripts(text: str, scripts: Mapping[str, str]) -> str:
    """The text with these scripts in place of those that it has, if any; raises InvalidScripts."""
    document, _ = split(text)
    if not scripts:
        return document
    entries = {
        location: {"sha256": digest(content), "content": content} for location, content in sorted(scripts.items())
    }
    break_ = "" if document.endswith("\n") else "\n"
    return f"{document}{break_}{_MARK}{json.dumps(entries, ensure_ascii=False, indent=1)}\n"


def as_content(location: str, data: bytes) -> str:
    """The content of a script that was read; raises InvalidScripts if it cannot be one."""
    if len(data) > SCRIPT_BYTES:
        raise InvalidScripts(f"the script '{location}' has more than {SCRIPT_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise InvalidScripts(f"the script '{location}' is not UTF-8 text") from None
    if "\0" in text:
        raise InvalidScripts(f"the script '{location}' contains a NUL character")
    return text


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def scripts_of(root: Any) -> Iterator[tuple[tuple[str | int, ...], Script]]:
    """The valid scripts that a playbook's document names, each with its place."""
    for path, tool in tasks_of(root):
        given = tool.get("script")
        if tool.get("kind") in FIELDS and isinstance(given, Mapping):
            try:
                yield (*path, "script"), Script.model_validate(given)
            except ValueError:
                # the compiler reports it
                continue
