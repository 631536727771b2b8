"""The config of a task of kind http."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ..playbook.numbers import LONGEST_TIMEOUT, no_boolean
from .config import ToolConfig
from .http_auth import HttpAuth

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


DEFAULT_TIMEOUT_SECONDS = 60.0
# of `as`: what has rows
ROWS = frozenset({"csv", "ndjson", "parquet", "arrow"})


class HttpData(BaseModel):
    """Query parameters and the body. Anything else than an object of these two is the body itself."""

    model_config = ConfigDict(extra="forbid")

    query: dict[str, Any] = Field(default_factory=dict, description="Same as `params`.")
    body: Any = Field(default=None, description="Same as `body`.")

    @model_validator(mode="before")
    @classmethod
    def _body_alone(cls, value: Any) -> Any:
        return {"body": value} if _is_body(value) else value


def _is_body(data: Any) -> bool:
    return not isinstance(data, Mapping) or (bool(data) and not data.keys() & {"query", "body"})


_Seconds = Annotated[float, Field(gt=0, le=LONGEST_TIMEOUT), BeforeValidator(no_boolean)]


class HttpTimeout(BaseModel):
    """Seconds for making the connection, for each wait for data, and for the whole request."""

    model_config = ConfigDict(extra="forbid")

    connect: _Seconds | None = Field(default=None, description="Seconds to connect.")
    read: _Seconds | None = Field(default=None, description="Seconds of each wait for data.")
    total: _Seconds = Field(default=DEFAULT_TIMEOUT_SECONDS, description="Seconds of the whole request.")


class HttpConfig(ToolConfig):
    """One HTTP request.

    Result: {"status_code", "headers" (names in lower case), "url", "elapsed" (seconds), "data"}; data is the
    parsed JSON, else text, else base64 with "encoding": "base64". A status of 400 or more is an error with
    the same data; 408, 429 and 5xx are retryable. POST and PATCH carry an Idempotency-Key unless they have
    one. Link-local and metadata addresses are always refused, private ones unless the worker allows them. At
    most 100 MiB and 10 redirects.

    With `as: csv`, ndjson, parquet or arrow, data has the rows (objects), and "row_count" and "columns" are beside it.
    Rows of more than 64 KiB of JSON go as a table. The columns of CSV have the types of their values, text where these
    differ. A table that is sent as JSON is the list of its rows, of at most 1,000,000 rows and 100 MiB.
    """

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["url"]}, {"required": ["endpoint"]}]})

    method: Method = Field(default="GET", description="HTTP method.")
    url: str | None = Field(
        default=None, description="URL of the request, http or https; required unless `endpoint` is given."
    )
    endpoint: str | None = Field(default=None, description="Another name for `url`.")
    headers: dict[str, str | int | float | bool | None] = Field(default_factory=dict, description="Request headers.")
    params: dict[str, Any] = Field(
        default_factory=dict, description="Query parameters; a list repeats its key, null omits it."
    )
    data: HttpData | None = Field(default=None, description="Query parameters and body in one object.")
    body: Any = Field(
        default=None,
        description="Request body: a string is sent as it is, anything else as JSON or, by content type, as a form.",
    )
    payload: Any = Field(default=None, description="Another name for `body`.")
    json_: Any = Field(
        default=None, alias="json", description="Request body that is sent as JSON, even if it is a string."
    )
    form: dict[str, Any] | None = Field(
        default=None, description="Request body that is sent as a form; a list repeats its key, null omits it."
    )
    auth: str | HttpAuth | None = Field(
        default=None, description="Name of a credential, or an object that says how to use it."
    )
    timeout: _Seconds | HttpTimeout = Field(
        default=DEFAULT_TIMEOUT_SECONDS,
        description=(
            "Seconds of the whole request, or its parts. If a spec has a timeout as well, the shorter one counts, "
            "or the spec's, if no `total` is given here."
        ),
    )
    as_: Literal["json", "text", "csv", "ndjson", "parquet", "arrow"] | None = Field(
        default=None,
        alias="as",
        description=(
            "What the response is, whatever its content type says; an error if it is not. csv, ndjson (lines of JSON), "
            "parquet and arrow have rows, and may have 10 GiB."
        ),
    )
    verify_ssl: bool = Field(default=True, description="Whether to verify the server's certificate.")
    follow_redirects: bool = Field(default=True, description="Whether to follow redirects.")

    @classmethod
    def missing(cls, config: Mapping[str, Any]) -> Iterable[str]:
        if ("url" in config) == ("endpoint" in config):
            yield "the field 'url' is required (or 'endpoint', not both)"
        data = config.get("data")
        bodies = [name for name in ("body", "payload", "json", "form") if name in config]
        if "data" in config and (_is_body(data) or "body" in config["data"]):
            bodies.append("data")
        if len(bodies) > 1:
            yield f"only one body can be sent, not {' and '.join(bodies)}"

    def limits(self, call_timeout: float | None) -> HttpTimeout:
        timeout = self.timeout if isinstance(self.timeout, HttpTimeout) else HttpTimeout(total=self.timeout)
        if call_timeout is None:
            return timeout
        given = "timeout" in self.model_fields_set and "total" in timeout.model_fields_set
        return timeout.model_copy(update={"total": min(timeout.total, call_timeout) if given else call_timeout})
