from __future__ import annotations

import pytest

from noetl_serverless.errors import Unsupported
from noetl_serverless.store.view_queries import ViewQueries, _with_views


@pytest.mark.parametrize(
    ("asked", "run"),
    [
        ("SELECT * FROM noetl.event", "SELECT * FROM noetl_query.event"),
        ("SELECT * FROM NOETL . event e, noetl.command", "SELECT * FROM noetl_query. event e, noetl_query.command"),
        (
            "SELECT 'noetl.event', $$noetl.event$$ -- noetl.event",
            "SELECT 'noetl.event', $$noetl.event$$ -- noetl.event",
        ),
        ('SELECT "noetl.x", a.noetl.b, mynoetl.c FROM event', 'SELECT "noetl.x", a.noetl.b, mynoetl.c FROM event'),
        ("SELECT 'never closed noetl.event", "SELECT 'never closed noetl.event"),
    ],
)
def test_the_schema_of_the_original_is_that_of_the_views(asked: str, run: str) -> None:
    assert _with_views(asked) == run


async def test_a_deployment_without_the_role_says_what_to_use_instead() -> None:
    with pytest.raises(Unsupported, match="GET /api/executions") as refused:
        await ViewQueries("").table("SELECT 1")
    assert refused.value.status == 501
