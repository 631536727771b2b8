"""What the operations work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from ..archive.history import History
from ..archive.replays import ArchivedReplays
from ..archive.results import ResultHistory
from ..orchestrator.orchestrator import Orchestrator
from ..orchestrator.triggers import TriggerStarts
from ..playbook.pools import Pools
from ..results.stores import ResultStores
from ..store.archives import Archives
from ..store.catalog import PostgresCatalog
from ..store.credentials import Credentials
from ..store.keychain import Keychain
from ..store.result_objects import WorkerResultStore
from ..store.runtimes import Runtimes
from ..store.schedules import Schedules
from ..store.triggers import Triggers
from ..store.variables import StoredVariables
from ..store.view_queries import ViewQueries
from .callback_tokens import CallbackTokens
from .scripts import ScriptReader
from .tokens import Verifier
from .watchers import Watchers


@dataclass(kw_only=True, frozen=True, slots=True)
class Services:
    # a stack on one machine
    is_local: bool
    pools: Pools
    # whether requests to servers may go to private addresses
    allow_private_http: bool
    orchestrator: Orchestrator
    catalog: PostgresCatalog
    scripts: ScriptReader
    credentials: Credentials
    keychain: Keychain
    schedules: Schedules
    runtimes: Runtimes
    triggers: Triggers
    trigger_starts: TriggerStarts
    # what triggers of messages and objects may listen to: nats, s3, ...
    trigger_sources: frozenset[str]
    executions: History
    variables: StoredVariables
    replays: ArchivedReplays
    archives: Archives
    # created when a result is first needed
    results: Callable[[], ResultStores]
    # of a worker, with the size of its chunks: those in PostgreSQL, as far as it may write and read them
    worker_results: Callable[[str, int], WorkerResultStore]
    stored_results: ResultHistory
    # after the end of an execution, its results are kept so many days; 0: as long as itself
    result_ttl_days: float
    # of one result that is put
    max_result_bytes: int
    # where what is put waits until all of it has come; empty for the folder of the system
    scratch: str
    # whether this host passes an answer on while it is made; AWS Lambda takes it as a whole
    streams_answers: bool
    view_queries: ViewQueries
    verifier: Verifier
    callback_tokens: CallbackTokens
    # where everybody reaches the gateway, without a slash at the end; empty if it is not known
    public_url: str
    watchers: Watchers
    now: Callable[[], datetime]
    archive_after_days: float
    # invokes a worker to write the batches that wait for their files
    request_archive: Callable[[], Awaitable[None]]
