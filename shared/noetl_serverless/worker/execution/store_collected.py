"""Storing a result of which something was accumulated in parts: these stay where they are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...engine.canonical import checksum
from ...engine.digest import without_volatile
from ...playbook.views import COLLECTED
from ...results.accumulated import MANIFEST_TYPE, base_of
from ...results.extract import extract
from ...results.offload import PREVIEW_ROWS, dump
from ...results.reference import preview
from ...tables.media_types import MANIFEST_WITH_TABLES
from ...tables.stream import MEDIA_TYPE
from ...tables.value import described, without_tables
from .collected import Collected
from .job import Job
from .output import output_of
from .store_result import store_result


async def store_collected(job: Job, rest: Mapping[str, Any], collected: Mapping[str, Collected]) -> dict[str, Any]:
    """{"ref"} to a result with the fields of `rest` and what was collected. Its digest does not depend on how that is
    divided into objects."""
    manifests = {name: await it.finish(job) for name, it in collected.items()}
    fields = {name: value for name, value in rest.items() if name not in collected}
    document = {"rest": fields, COLLECTED: manifests}
    output = output_of(job.step)
    stored = await store_result(document, job.command, job.toolbox, output=replace(output, select=(), inline_bytes=-1))
    ref = stored["ref"]
    job.toolbox.resolver.put(base_of(ref), document)
    meta = ref["meta"]
    meta["content_type"] = MANIFEST_WITH_TABLES if meta["content_type"] == MEDIA_TYPE else MANIFEST_TYPE
    for name in ("row_count", "schema_digest"):
        # of a table that is beside what was accumulated
        meta.pop(name, None)
    digests = {name: manifest["meta"]["digest"] for name, manifest in manifests.items()}
    plain = await asyncio.to_thread(described, fields)
    ref["meta"]["digest"] = checksum({"rest": without_volatile(plain), COLLECTED: digests})
    ref["preview"] = await asyncio.to_thread(_shown, fields, output.preview_bytes)
    ref["extracted"] = await asyncio.to_thread(extract, fields, output.select)
    ref[COLLECTED] = manifests
    return {"ref": ref}


def _shown(fields: Mapping[str, Any], limit: int) -> str:
    return preview(dump(without_tables(fields, lambda table: table.beginning(PREVIEW_ROWS, limit))), limit)
