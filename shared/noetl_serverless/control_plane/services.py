"""What the operations work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from ..ledger.ledger import Ledger
from ..ports import ResultStore
from ..store.catalog import Catalog
from ..store.credentials import Credentials
from ..store.executions import Executions
from ..store.replays import Replays
from ..store.schedules import Schedules
from .tokens import Verifier
from .wakeups import Wakeups


@dataclass(frozen=True, slots=True)
class Services:
    ledger: Ledger
    catalog: Catalog
    credentials: Credentials
    schedules: Schedules
    executions: Executions
    replays: Replays
    # made when a result is first asked for
    results: Callable[[], ResultStore]
    verifier: Verifier
    wakeups: Wakeups
    now: Callable[[], datetime]
