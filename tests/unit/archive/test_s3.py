"""A batch in S3, where a key is written once and a part of an object is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.unit.archive.test_write import Pages, batch
from tests.unit.hosts.aws.conftest import *  # noqa: F403

from noetl_serverless.archive.log_file import events_of, spans
from noetl_serverless.archive.write import write_batch
from noetl_serverless.hosts.aws.api import Api
from noetl_serverless.hosts.aws.results import S3ResultStore


async def test_a_batch_is_written_again_and_read_in_parts(
    api: Api, client: Callable[[str], Any], tmp_path: Path
) -> None:
    boto = client("s3")
    boto.create_bucket(Bucket="results", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    store = S3ResultStore(api, "s3://results/results")
    counts = {"5": 3, "6": 400}
    first = await write_batch(batch(counts), Pages(counts, 7), store, tmp_path)
    assert await write_batch(batch(counts), Pages(counts, 50), store, tmp_path) == first
    boto.put_object(Bucket="results", Key=f"results/{first.files['events'].key}", Body=b"of another version")
    assert await write_batch(batch(counts), Pages(counts, 50), store, tmp_path) == first
    [_, found] = first.executions
    content = await store.get_range(first.files["log"].key, *spans(found.blocks, 390, 400)[0])
    assert [event.seq for event in events_of(6, content)][-1] == 400
    assert [key async for key in store.list("archive/")] == sorted(file.key for file in first.files.values())
