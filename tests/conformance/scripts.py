"""The scripts that playbooks name: files beside them, objects in buckets, and texts at the mock API; and the tools of
the catalog that they call."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import fsspec
from tests.conformance.case import called
from tests.mock_api.secret_stores import AWS_KEYS

from noetl_serverless.control_plane.scripts import ScriptReader
from noetl_serverless.errors import InvalidPlaybook
from noetl_serverless.playbook.load import read_playbook
from noetl_serverless.playbook.scripts import scripts_of, with_scripts
from noetl_serverless.playbook.tool_calls import calls_of, parts_of
from noetl_serverless.ports import ResultStore
from noetl_serverless.results.store import FsspecResultStore
from noetl_serverless.tools.resources import kind_of

# how a playbook writes the address of the mock API where no template can stand
MOCK_API: Final = "http://mock.api"
# what each holds, wherever it is kept
CONTENTS: Final = {
    "square.py": "result = {'v': n * n}\n",
    "square.sql": "SELECT {{ workload.n }}::int * {{ workload.n }}::int AS v\n",
}
BUCKET: Final = "conformance"


def registered(text: str, api: str) -> str:
    """The text as it is sent to a stack: with the files that it names, as by `noetls register`; with the address `api`
    of the mock API; and with what it names in buckets, which the stack cannot read without a credential."""
    text = text.replace(MOCK_API, api)
    try:
        root = read_playbook(text).root
    except InvalidPlaybook:
        return text
    named = [script for _, script in scripts_of(root)]
    files = {one.location: CONTENTS[one.location] for one in named if one.location in CONTENTS}
    files |= _tools_called(root)
    text = with_scripts(text, files) if files else text
    return completed(text) if any(one.type in ("s3", "gcs") and not one.source.auth for one in named) else text


def _tools_called(root: Any) -> dict[str, str]:
    """As the stack has them, where each is registered once."""
    tools = {read_playbook(one).value(("metadata", "path")): one for one in called() if kind_of(one) == "Tool"}
    calls = [call for _, call in calls_of(root) if call.path in tools]
    return {place: part for call in calls for place, part in parts_of(call, 1, tools[call.path]).items()}


def completed(text: str) -> str:
    """The text as the control plane completes it. It reads buckets in memory, since a laptop has none. Raises
    InvalidPlaybook."""
    for name, content in CONTENTS.items():
        fsspec.filesystem("memory").pipe(f"/{BUCKET}/{name}", content.encode())
    return asyncio.run(ScriptReader(_in_memory, allow_private_http=True, credential=_aws).complete(text))


async def _aws(name: str) -> Mapping[str, str]:
    return AWS_KEYS


def _in_memory(url: str) -> ResultStore:
    return FsspecResultStore(f"memory://{url.partition('://')[2]}")
