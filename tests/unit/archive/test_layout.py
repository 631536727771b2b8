from __future__ import annotations

from datetime import date

from noetl_serverless.archive.layout import keys_of


def test_keys_are_partitioned_by_month_and_fixed_by_the_batch() -> None:
    keys = keys_of(date(2026, 3, 1), 10, 99, 7)
    assert keys == {
        "events": "archive/events/year=2026/month=03/10-99-7.parquet",
        "executions": "archive/executions/year=2026/month=03/10-99-7.parquet",
        "results": "archive/results/year=2026/month=03/10-99-7.parquet",
        "log": "archive/log/year=2026/month=03/10-99-7.jsonl.gz",
    }
