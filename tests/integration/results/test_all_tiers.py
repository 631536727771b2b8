"""No result is lost, and nothing is left of one, on its way through all tiers: as workers write and read it, users put,
list and delete it, and the reconciler collects it, while stores fail and clocks differ."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from tests.integration.results.conftest import Servers
from tests.integration.results.tier_deployment import deployed
from tests.integration.results.tier_story import Story
from tests.integration.results.tiers import object_tier

from noetl_serverless.hosts.aws import results as s3
from noetl_serverless.hosts.cloud import objects, transport
from noetl_serverless.hosts.gcp import results as gcs
from noetl_serverless.limits import KIB, MIB
from noetl_serverless.reconciler import collection
from noetl_serverless.results import retry

# what a driver of PostgreSQL could not send any more over a connection that is lost
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
# of each object store: how large its parts are, as small as a server takes them
PARTS = {"disk": 512 * KIB, "s3": 5 * MIB, "gcs": 512 * KIB}


@pytest.fixture(autouse=True)
def impatient(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is waited for as it is outside of tests, but not for as long; and parts are small."""
    for module in (transport, gcs):
        monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.001)
    for module in (objects, s3, gcs):
        monkeypatch.setattr(module, "PART_BYTES", PARTS[kind])
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(retry, "MAX_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(collection, "STORE_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(collection, "STORE_TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(collection, "MAX_KEYS", 3)
    monkeypatch.setattr(collection, "MAX_SEARCHED", 7)


async def tell(
    kind: str, seed: int, operations: int, servers: Servers, postgres_url: str, nats_url: str, unique: str, home: Path
) -> None:
    objects = object_tier(kind, servers, home / "results", unique)
    async with deployed(objects, postgres_url, nats_url, f"t{unique}", Random(seed), home, PARTS[kind]) as deployment:
        story = Story(deployment)
        try:
            await story.tell(operations)
        except Exception as error:
            last = "\n".join(story.happened[-15:])
            raise AssertionError(
                f"{kind}, seed {seed}, after {len(story.happened)} operations: {error!r}\n{last}"
            ) from error


@pytest.mark.parametrize(("kind", "seed"), [("disk", 1), ("s3", 2), ("gcs", 3)])
async def test_nothing_is_lost_and_nothing_is_left(
    kind: str, seed: int, servers: Servers, postgres_url: str, nats_url: str, unique: str, tmp_path: Path
) -> None:
    await tell(kind, seed, 30, servers, postgres_url, nats_url, unique, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 104))
@pytest.mark.parametrize("kind", [*PARTS])
async def test_nothing_is_lost_and_nothing_is_left_in_long_stories(
    kind: str, seed: int, servers: Servers, postgres_url: str, nats_url: str, unique: str, tmp_path: Path
) -> None:
    await tell(kind, seed, 150, servers, postgres_url, nats_url, unique, tmp_path)
