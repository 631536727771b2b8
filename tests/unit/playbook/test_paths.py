"""Which values an expression looks at."""

from __future__ import annotations

import pytest

from noetl_serverless.playbook.paths import paths_in


@pytest.mark.parametrize(
    ("source", "paths"),
    [
        ("{{ ctx.a >= workload.b }}", ["ctx.a", "workload.b"]),
        ("{{ output.data.rows[-1].x > 3 and error.code == 'x' }}", ["output.data.rows[-1].x", "error.code"]),
        ("{{ ctx.a + ctx.a }}", ["ctx.a"]),
        ("{{ ctx.get('n', other.n) }}", ["ctx", "other.n"]),
        ("{{ rows | map(attribute='x') | sum > range(3) | length }}", ["rows"]),
        ("{{ a['b'][0].c is defined }}", ["a['b'][0].c"]),
        ("{{ rows[n].x }}", ["rows", "n"]),
        ("{% for row in rows %}{{ row.x }}{{ k[row.b] }}{% endfor %}", ["rows", "k"]),
        ("{{ 1 + 1 }}", []),
        ("text", []),
    ],
)
def test_the_longest_paths_are_found_in_their_order(source: str, paths: list[str]) -> None:
    assert paths_in(source) == paths
