"""schema: the JSON Schema of a playbook, of its tests, or of a tool's config."""

from __future__ import annotations

from typing import Annotated

import typer

from ..failure import WrongUse
from ..output import command, print_json

# no kind of tool has this name
TESTS = "test"

KindArgument = Annotated[
    str | None, typer.Argument(help="Tool kind, such as http, or test, for a file of tests. Default: a playbook.")
]


@command
def schema(kind: KindArgument = None) -> None:
    """Print the JSON Schema of a playbook, of a file of tests, or of a tool's config: for an editor, or to check
    files elsewhere.

    To let an editor with yaml-language-server check and complete a playbook, save the schema and name it in the first
    line of the playbook:

    \b
      noetls schema > playbook.schema.json
      # yaml-language-server: $schema=playbook.schema.json

    A control plane serves the same schema at /schema/playbook.json.
    """
    from ...testing.case_file import schema_of_tests
    from ...tools import registry

    if kind is None:
        print_json(registry.playbook_schema())
        return
    if kind == TESTS:
        print_json(schema_of_tests())
        return
    try:
        print_json(registry.schema(kind))
    except registry.UnknownKind as error:
        raise WrongUse(str(error)) from error
