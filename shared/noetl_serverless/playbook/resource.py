"""The grammar of the catalog's documents that are no playbooks: tools, MCP servers, descriptions of credentials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, StringConstraints

from .model import CatalogPath, Metadata, Tool
from .part import Name, Part

Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
# of a stored credential
CredentialName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$", max_length=200)]
Schema = dict[str, Any]

_NO_SECRETS: Final = "the catalog holds no secrets: store them with 'noetls credential set', under this name"


class Resource(Part):
    """What all documents of the catalog have."""

    api_version: Literal["noetl.io/v2"] = Field(alias="apiVersion", description="Version of the language")
    metadata: Metadata = Field(description="Name, path, and whatever else describes it")

    @property
    def path(self) -> str:
        return self.metadata.path or self.metadata.name


class NeededCredential(Part):
    """A credential that a tool needs. The caller binds one by name; otherwise it is the stored one named `default`."""

    type: Text = Field(description="Type of credential, such as api_key or postgres")
    default: CredentialName | None = Field(
        None, description="Name of the stored credential if the caller binds none. Default: the name used here"
    )
    description: Text | None = Field(None, description="What it is for")


class ToolDefinition(Resource):
    """A tool of the catalog: one call of a tool, with the schemas of its input and output. Steps call it with
    kind: tool."""

    legacy: ClassVar[Mapping[str, str]] = {
        "workflow": "a document of kind Tool has one 'tool'; steps belong in a playbook",
        "workload": "declare what it reads in 'input', a JSON Schema",
        "spec": "write 'input', 'output', 'credentials' and 'tool' at the top",
    }

    kind: Literal["Tool"] = Field(description="Always Tool")
    input: Schema | None = Field(
        None,
        description=(
            "JSON Schema (2020-12) of the input, an object. Templates of the tool read its properties by name, and "
            "nothing else. Default: it takes no input"
        ),
    )
    output: Schema | None = Field(None, description="JSON Schema (2020-12) of the result. Default: any")
    credentials: dict[Name, NeededCredential] = Field(
        {}, description="Credentials that it needs, by the names that `auth` of the tool uses"
    )
    tool: Tool = Field(
        description="The call itself, as in a step, with its timeout and its retries, but without a name and an input",
        json_schema_extra={"not": {"anyOf": [{"required": ["name"]}, {"required": ["input"]}]}},
    )


class McpTool(Part):
    """A tool that an MCP server offers."""

    name: Text
    title: Text | None = None
    description: str | None = None
    input_schema: Schema | None = Field(None, alias="inputSchema", description="JSON Schema of its arguments")
    output_schema: Schema | None = Field(None, alias="outputSchema", description="JSON Schema of its result")


class McpLifecycle(Part):
    """Paths of playbooks that manage the server, by what they do."""

    deploy: CatalogPath | None = None
    undeploy: CatalogPath | None = None
    redeploy: CatalogPath | None = None
    restart: CatalogPath | None = None
    status: CatalogPath | None = None
    discover: CatalogPath | None = None


class McpDiscovery(Part):
    """Where the tools of the running server are found."""

    initialize_url: Text | None = None
    tools_list_url: Text | None = None
    refresh_via: CatalogPath | None = Field(None, description="Path of the playbook that reads them again")


class McpRuntime(Part):
    """What calls the server's tools."""

    agent: CatalogPath | None = Field(None, description="Path of an agent")


class McpSpec(Part):
    """How the server is reached, and what it offers."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s{}]+$", max_length=2000)] | None = Field(
        None, description="URL of the server"
    )
    protocol: Text = Field("mcp/1.0", description="Version of the protocol")
    transport: Literal["streamable-http", "sse"] = Field("streamable-http", description="How messages are carried")
    auth: CredentialName | None = Field(None, description="Name of a stored credential")
    provider: Text | None = Field(None, description="Who runs it")
    managed: bool | None = Field(None, description="Whether a lifecycle playbook may deploy and remove it")
    tools: list[Text | McpTool] = Field([], description="Its tools, by name or with their schemas")
    lifecycle: McpLifecycle | None = None
    discovery: McpDiscovery | None = None
    runtime: McpRuntime | None = None
    deployment: dict[str, Any] = Field({}, description="Values for the lifecycle playbooks, of any form")


class McpServer(Resource):
    """An MCP server. It can be registered and read; no kind of tool calls it yet."""

    kind: Literal["Mcp"] = Field(description="Always Mcp")
    spec: McpSpec


class CredentialField(Part):
    """A field of a credential."""

    description: Text | None = None
    required: bool = True


class CredentialDescription(Resource):
    """What a stored credential is, without any of its values. Its path is the credential's name."""

    legacy: ClassVar[Mapping[str, str]] = {"data": _NO_SECRETS, "secret": _NO_SECRETS, "values": _NO_SECRETS}

    kind: Literal["Credential"] = Field(description="Always Credential")
    type: Text = Field(description="Its type, such as postgres or bearer")
    fields: dict[str, CredentialField] = Field({}, description="Its fields, by name")
    kinds: list[str] = Field(
        [], description="Kinds of tools that may use it; playbooks that name it elsewhere are refused. Default: all"
    )


MODELS: Final[Mapping[str, type[Resource]]] = {
    "Tool": ToolDefinition,
    "Mcp": McpServer,
    "Credential": CredentialDescription,
}
