"""The keys of a batch's files in the result store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

# the Parquet tables
EVENTS, EXECUTIONS, RESULTS = "events", "executions", "results"
# what single executions are read from
LOG = "log"

_ENDINGS = {EVENTS: "parquet", EXECUTIONS: "parquet", RESULTS: "parquet", LOG: "jsonl.gz"}


def keys_of(month: date, first_id: int, last_id: int, executions: int) -> Mapping[str, str]:
    """`archive/<table>/year=YYYY/month=MM/<first id>-<last id>-<how many>.parquet`, by table.

    Determined by the batch alone: writing a batch again writes the same files again.
    """
    name = f"year={month.year}/month={month.month:02}/{first_id}-{last_id}-{executions}"
    return {table: f"archive/{table}/{name}.{ending}" for table, ending in _ENDINGS.items()}
