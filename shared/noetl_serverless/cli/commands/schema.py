"""schema: the JSON Schema of a document of the catalog, of tests, or of a tool's config."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ...playbook.grammar import EXECUTABLE, RESOURCES
from ..failure import WrongUse
from ..output import command, print_json

# no kind of tool has this name
TESTS = "test"

KindArgument = Annotated[
    str | None, typer.Argument(help="Tool kind, such as http, or test, for a file of tests. Default: a playbook.")
]


DocumentOption = Annotated[
    str | None,
    typer.Option("--kind", help=f"Kind of document: {', '.join(RESOURCES)}. Default: Playbook.", show_default=False),
]


@command
def schema(kind: KindArgument = None, document: DocumentOption = None) -> None:
    """Print the JSON Schema of a playbook or another document of the catalog, of a file of tests, or of a tool's
    config: for an editor, or to check files elsewhere.

    To let an editor with yaml-language-server check and complete a playbook, save the schema and name it in the first
    line of the playbook:

    \b
      noetls schema > playbook.schema.json
      # yaml-language-server: $schema=playbook.schema.json

    A control plane serves the same schema at /schema/playbook.json.
    """
    from ...testing.case_file import schema_of_tests
    from ...tools import registry

    if kind is not None and document is not None:
        raise WrongUse("give a kind of tool or --kind, not both")
    if kind is None:
        print_json(_of_document(document or RESOURCES[0]))
        return
    if kind == TESTS:
        print_json(schema_of_tests())
        return
    try:
        print_json(registry.schema(kind))
    except registry.UnknownKind as error:
        raise WrongUse(str(error)) from error


def _of_document(name: str) -> Any:
    from ...tools import registry

    kind = next((kind for kind in RESOURCES if kind.casefold() == name.casefold()), None)
    if kind is None:
        raise WrongUse(f"there is no kind {name!r} of documents; the kinds are {', '.join(RESOURCES)}")
    return registry.playbook_schema() if kind in EXECUTABLE else registry.resource_schema(kind)
