"""Books whose playbooks share limits: what becomes of an execution is the same, only when."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

from noetl_serverless.testing.rows import CommandRow

# the keys that all playbooks of a book share
SLOTS, CALLS = "slots", "calls"
# seconds
WINDOW = 3


def limited(texts: Mapping[str, str], rng: random.Random) -> dict[str, str]:
    """The same playbooks with limits; those with a time in which they have to end stay as they are."""
    return {path: text if '"timeout"' in text else _limited(text, rng) for path, text in texts.items()}


def _limited(text: str, rng: random.Random) -> str:
    try:
        document: dict[str, Any] = json.loads(text)
    except ValueError:
        # one that hurts
        return text
    for step in document["workflow"]:
        spec = dict(step.get("spec") or {})
        # whose rows may be processed several at once
        claims = "cursor" in (step.get("loop") or {})
        if rng.random() < 0.5 and not claims:
            spec["concurrency"] = {"key": SLOTS, "limit": rng.randint(1, 3)}
        if rng.random() < 0.3 and not claims:
            spec["rate"] = {"key": CALLS, "per": WINDOW, "limit": rng.randint(2, 4)}
        if spec:
            step["spec"] = spec
    if rng.random() < 0.5:
        executor = document["executor"] = dict(document.get("executor") or {})
        # of its own key: those that it starts wait for others
        executor["spec"] = {**(executor.get("spec") or {}), "concurrency": {"limit": rng.randint(1, 2)}}
    return json.dumps(document)


class LimitWatch:
    """What has been claimed under limits, counted beside the store."""

    def __init__(self) -> None:
        self._starts: dict[str, list[float]] = {}

    def broken(self, key: tuple[str, str], commands: Mapping[tuple[str, str], CommandRow], now: float) -> str | None:
        """Why the command that has just been claimed must not have been; to be called in the order of fences, since
        those after it may have greater limits."""
        limits = commands[key].limits or {}
        if (slots := limits.get("concurrency")) is not None:
            held = [
                other
                for other, row in commands.items()
                if row.status == "claimed"
                and row.fence <= commands[key].fence
                and (row.limits or {}).get("concurrency", {}).get("key") == slots["key"]
            ]
            if len(held) > slots["limit"]:
                return f"{len(held)} commands run at once, {slots['limit']} may"
        if (rate := limits.get("rate")) is not None:
            starts = self._starts.setdefault(rate["key"], [])
            starts.append(now)
            within = [at for at in starts if at > now - rate["per"]]
            if len(within) > rate["limit"]:
                return f"{len(within)} commands have begun within {rate['per']} s, {rate['limit']} may"
        return None
