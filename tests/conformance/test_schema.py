"""The JSON Schema of the language takes what the engine takes, so that an editor marks nothing that is right."""

from __future__ import annotations

import pytest
from jsonschema import Draft202012Validator
from tests.conformance.case import Case, cases

from noetl_serverless.playbook.document import plain_data, read_document
from noetl_serverless.tools import registry

VALIDATOR = Draft202012Validator(registry.playbook_schema())
# the schema describes today's form of the language only
ACCEPTED = [
    case for case in cases() if not case.is_to_come and not case.expected.refused and not case.name.startswith("older/")
]


# not named `case`, since those are run
@pytest.mark.parametrize("accepted", ACCEPTED, ids=lambda case: case.name)
def test_a_playbook_that_is_accepted_fits_the_schema(accepted: Case) -> None:
    error = next(VALIDATOR.iter_errors(plain_data(read_document(accepted.playbook).root)), None)
    assert error is None, f"{error.json_path}: {error.message[:500]}"
