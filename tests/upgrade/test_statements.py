"""Every statement of the older release means something to a migrated store."""

from __future__ import annotations

import json
from pathlib import Path

from .rebuilding import REFUSED
from .release import HERE, Release, new_release, old_release

# what cannot be had, and is told in README.md
NOT_UNDERSTOOD = {"replay.sql: update": REFUSED}


def not_understood(release: Release, database_url: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(release.run(HERE / "by_release" / "statements.py", database_url))
    return found


def test_a_migrated_store_understands_the_release_before_but_for_what_is_told(
    postgres_url: str, tmp_path: Path
) -> None:
    old, new = old_release(tmp_path), new_release(tmp_path)
    old.migrate(postgres_url)
    assert not_understood(old, postgres_url) == {}
    new.migrate(postgres_url)
    assert not_understood(old, postgres_url) == NOT_UNDERSTOOD
    assert not_understood(new, postgres_url) == {}
