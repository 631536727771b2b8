"""This engine, as `noetls up` starts it, through REST: one request starts an execution and waits for its end."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import aiohttp

from .http_engine import post, session
from .measure import CHAINS, Cpu, check, measure, median, report
from .workloads import Awaited, measure_all

NOETLS = os.environ["PEERS_NOETLS"]
DATA = Path(os.environ["PEERS_DIR"]) / "ours"
FIB = "def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\nresult = {'v': fib(%d)}"
BLOB = "import base64, os\nresult = base64.b64encode(os.urandom(mb * 750000)).decode()"


def playbook(name: str, workflow: list[dict[str, Any]], durability: str = "step", **workload: Any) -> str:
    return json.dumps(
        {
            "apiVersion": "noetl.io/v2",
            "kind": "Playbook",
            "metadata": {"name": name, "path": f"peers/{name}"},
            "executor": {"spec": {"durability": durability}},
            "workload": workload,
            "workflow": workflow,
        }
    )


def python(code: str, **input: Any) -> dict[str, Any]:
    return {"kind": "python", "code": code, **({"input": input} if input else {})}


def chain(name: str, length: int, durability: str = "step", code: str = "result = {'i': i}") -> str:
    steps: list[dict[str, Any]] = [{"step": f"s{i}", "tool": python(code, i=i)} for i in range(length)]
    for i in range(length - 1):
        steps[i]["next"] = {"arcs": [{"step": f"s{i + 1}"}]}
    return playbook(name, steps, durability)


PLAYBOOKS = [
    *(chain(f"chain{length}", length) for length in (1, 5, 100)),
    chain("pipelined100", 100, "pipelined"),
    chain("fib10", 40, code=FIB % 10),
    chain("fib33", 10, code=FIB % 33),
    playbook(
        "fan_out",
        [
            {
                "step": "each",
                "loop": {
                    "in": "{{ range(workload.n) | list }}",
                    "iterator": "x",
                    "spec": {"mode": "parallel", "max_in_flight": 500},
                },
                "tool": python("result = {'i': x}", x="{{ iter.x }}"),
                "next": {"arcs": [{"step": "sum"}]},
            },
            {"step": "sum", "tool": python("result = sum(r['i'] for r in rs)", rs="{{ each.results }}")},
        ],
        n=1000,
    ),
    playbook(
        "payload",
        [
            {"step": "make", "tool": python(BLOB, mb="{{ workload.mb }}"), "next": {"arcs": [{"step": "use"}]}},
            {"step": "use", "tool": python("result = len(b)", b="{{ make }}")},
        ],
        mb=10,
    ),
    playbook(
        "history",
        [
            {
                "step": "tick",
                "tool": python("result = {'n': n + 1}", n="{{ ctx.n | default(0) }}"),
                "set": {"ctx.n": "{{ output.data.n }}"},
                "next": {"arcs": [{"step": "tick", "when": "{{ ctx.n < workload.n }}"}]},
            }
        ],
        n=2000,
    ),
]


class Ours:
    def __init__(self, url: str, client: aiohttp.ClientSession) -> None:
        self._url = url
        self._client = client

    async def register(self, text: str) -> None:
        await post(self._client, f"{self._url}/api/catalog/register", {"content": text, "resource_type": "Playbook"})

    async def run(self, name: str, **payload: Any) -> Any:
        """The result of an execution that has completed."""
        body = {"path": f"peers/{name}", "payload": payload}
        answer = await post(self._client, f"{self._url}/api/execute?wait=60", body)
        if answer["status"] != "COMPLETED":
            raise RuntimeError(f"{name}: {answer['status']} {str(answer['error'])[:400]}")
        return answer["result"]["data"]

    async def chain(self, length: int) -> None:
        check(await self.run(f"chain{length}"), {"i": length - 1})

    async def pipelined(self) -> None:
        check(await self.run("pipelined100"), {"i": 99})

    async def fibs(self, n: int, count: int) -> None:
        await self.run(f"fib{n}")

    async def fan_out(self, count: int) -> None:
        check(await self.run("fan_out", n=count), count * (count - 1) // 2)

    async def history(self, length: int) -> None:
        check(await self.run("history", n=length), {"n": length})

    async def payload(self, mb: int) -> None:
        check(await self.run("payload", mb=mb), mb * 1_000_000)


def main() -> None:
    up = [NOETLS, "up", "--detach", "--json", "--data", str(DATA)]
    run = json.loads(subprocess.run(up, check=True, capture_output=True, text=True).stdout)
    token = json.loads((DATA / "secrets.json").read_text())["operator_token"]
    loop = asyncio.new_event_loop()
    try:
        client = loop.run_until_complete(_session(token))
        engine = Ours(run["control_plane_url"], client)
        for text in PLAYBOOKS:
            loop.run_until_complete(engine.register(text))
        for _ in range(10):
            loop.run_until_complete(engine.chain(5))
            loop.run_until_complete(engine.pipelined())
        measure_all(Awaited(engine, loop))
        measure({"chain100_pipelined": lambda: _pipelined(engine, loop)})
        loop.run_until_complete(client.close())
    finally:
        subprocess.run([NOETLS, "down", "--data", str(DATA)], check=False, stdout=subprocess.DEVNULL)


def _pipelined(engine: Ours, loop: asyncio.AbstractEventLoop) -> None:
    times = []
    with Cpu() as cpu:
        for _ in range(CHAINS):
            started = loop.time()
            loop.run_until_complete(engine.pipelined())
            times.append(loop.time() - started)
    report("chain100_pipelined", 10 * median(times), "ms/step", cpu_ms=cpu.ms_per(100 * CHAINS))


async def _session(token: str) -> aiohttp.ClientSession:
    return session({"Authorization": f"Bearer {token}"})


if __name__ == "__main__":
    main()
