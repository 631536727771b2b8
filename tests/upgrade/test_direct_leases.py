"""Leases that stand in the rows of executions, of which the release before knows nothing: it takes them over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from noetl_serverless.hosts.local.ports import free_port

from . import checks
from .bed import Bed, Function, Ticks, bed, stop
from .playbooks import CHAIN, PIPELINED
from .release import HERE, OLD, Release, new_release, old_release
from .store import Manifest, Starts, await_, heads, running

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

DIRECT = "SELECT execution_id::text FROM noetl.execution WHERE direct_command LIKE 'wait%'"
GATE = "later"


@contextmanager
def alone(made: Bed, release: Release) -> Iterator[list[Function]]:
    port = free_port()
    (plane,) = made.control_planes(release, worker_url=f"http://127.0.0.1:{port}")
    functions = [plane]
    try:
        functions += made.workers((release, plane.url, port))
        functions += made.reconcilers((release, plane.url, f"http://127.0.0.1:{port}"))
        with Ticks(made, functions):
            yield functions
    finally:
        stop([function for function in functions if function.process.alive])


def kill(functions: Sequence[Function]) -> None:
    for function in functions:
        function.process.kill()


def test_after_a_rollback_the_release_before_goes_on_with_what_was_leased_directly() -> None:
    with bed() as made:
        old, new = old_release(made.home), new_release(made.home)
        new.run(HERE / "by_release" / "make_secrets.py", str(made.secrets_file))
        old.migrate(made.database_url)
        new.migrate(made.database_url)
        # nobody of the release before has been there for long
        made.query("UPDATE noetl.older_release SET seen_at = now() - interval '1 day' RETURNING 1")
        starts = Starts(made, 1)
        with alone(made, new) as functions:
            url = functions[0].url
            made.register(url, [*CHAIN.texts, *PIPELINED.texts])
            ids = [starts(url, kind, GATE).execution_id for kind in (CHAIN, CHAIN, PIPELINED)]
            await_(lambda: {id for (id,) in made.query(DIRECT)} == set(ids), lambda: heads(made, ids))
            kill(functions)
        made.effects.open.add(GATE)
        with alone(made, old):
            await_(lambda: not running(made, ids), lambda: heads(made, running(made, ids)))
        given, manifest = starts.given, Manifest(OLD, "")
        findings = [*checks.ends(made, "", given, manifest), *checks.effects(made, given), *checks.exceptions(made)]
        assert not findings, "\n".join(map(str, findings))
