"""Random sequences of puts, lists, reads and deletions over REST, held against a model of what they should give."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from tests.integration.control_plane.conftest import Client
from tests.integration.control_plane.test_put_results import objects

from noetl_serverless.uri import ResultUri

NAMES = ["load", "a/b", "%2F", "..", "list", "名", "a_b", "x" * 150]
TYPES = ["text/csv", "application/octet-stream", "application/vnd.apache.arrow.stream"]
SCOPES = ["step", "execution", "workflow", "permanent"]
STORES = ["auto", "disk", "s3", "object"]


@dataclass
class Kept:
    name: str
    step: str
    scope: str
    content_type: str
    content: bytes
    # what happened last has the highest
    order: int


@dataclass
class Model:
    """What there is, by URI."""

    results: dict[str, Kept] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    clock: int = 0

    def put(self, ref: str, kept: Kept) -> None:
        self.clock += 1
        kept.order = self.clock
        self.results[ref] = kept

    def same(self, kept: Kept) -> str | None:
        for ref, it in self.results.items():
            if (it.name, it.content, it.content_type) == (kept.name, kept.content, kept.content_type):
                return ref
        return None

    def delete(self, refs: list[str]) -> None:
        for ref in refs:
            del self.results[ref]
            self.gone.add(ref)


@dataclass
class Run:
    user: Client
    id: str
    draw: random.Random
    model: Model = field(default_factory=Model)

    async def step(self) -> None:
        await self.draw.choices(
            [self.put, self.resolve, self.newest, self.list, self.delete, self.delete_many], [6, 4, 2, 2, 2, 1]
        )[0]()

    async def put(self) -> None:
        draw = self.draw
        name = draw.choice(NAMES)
        size = draw.choice([0, 1, 20, 5_000, 1_200_000])
        # few contents, so that some come again
        content = bytes([draw.randrange(3)]) * size
        query: dict[str, Any] = {"scope": draw.choice(SCOPES), "store": draw.choice(STORES)}
        if draw.random() < 0.5:
            query["source_step"] = draw.choice(["one", "two"])
        if draw.random() < 0.3:
            query["compress"] = draw.choice([True, "gzip", "zstd"])
        if draw.random() < 0.3:
            content_type = "application/json"
            value = content.decode("latin-1")
            content = orjson.dumps(value)
            body = {"name": name, "data": value, **query}
            folder = draw.choice(["result", "temp"])
            answer = await self.user.call("PUT", f"/api/{folder}/{self.id}", orjson.dumps(body))
        else:
            content_type = draw.choice(TYPES)
            pieces = [content[at : at + 100_000] for at in range(0, max(1, len(content)), 100_000)]
            answer = await self.user.call(
                "PUT",
                f"/api/result/{self.id}",
                pieces,
                query={"name": name, **query},
                headers={"content-type": content_type},
            )
        assert answer.status == 200, answer.body
        kept = Kept(name, query.get("source_step", name), query["scope"], content_type, content, 0)
        before = self.model.same(kept)
        found = answer.json
        assert (found["status"], found["bytes"]) == ("stored" if before is None else "same", len(content))
        assert found["sha256"] == hashlib.sha256(content).hexdigest()
        assert ResultUri.parse(found["ref"]).step == name
        if before is not None:
            assert found["ref"] == before
        else:
            assert found["ref"] not in self.model.results and found["ref"] not in self.model.gone
        self.model.put(found["ref"], kept)

    async def resolve(self) -> None:
        refs = [*self.model.results, *sorted(self.model.gone)]
        if not refs:
            return
        ref = self.draw.choice(refs)
        kept = self.model.results.get(ref)
        if kept is None:
            answer = await self.user.get("/api/result/resolve", ref=ref)
            assert (answer.status, answer.json["code"]) == (404, "REFERENCE_NOT_AVAILABLE")
            return
        start = self.draw.randrange(len(kept.content)) if kept.content and self.draw.random() < 0.5 else 0
        headers = {"range": f"bytes={start}-"} if start else {}
        answer = await self.user.call("GET", "/api/temp/resolve", query={"ref": ref}, headers=headers)
        assert (answer.status, answer.headers["content-type"]) == (206 if start else 200, kept.content_type)
        assert answer.body == kept.content[start:]

    async def newest(self) -> None:
        step = self.draw.choice([*NAMES, "one", "two"])
        found = [(kept.order, ref) for ref, kept in self.model.results.items() if kept.step == step]
        if step == "list":
            # the path of the list; the list finds it
            return
        answer = await self.user.get(f"/api/result/{self.id}/{step}")
        assert answer.status == (200 if found else 404)
        if found:
            assert answer.json["ref"] == max(found)[1]

    async def list(self) -> None:
        wanted: dict[str, str] = {}
        for name, values in (("step", [*NAMES, "one"]), ("name", NAMES), ("scope", SCOPES)):
            if self.draw.random() < 0.3:
                wanted[name] = self.draw.choice(values)
        after: str | None = ""
        listed: list[str] = []
        while after is not None:
            answer = await self.user.get(f"/api/result/{self.id}/list", after=after, limit=3, **wanted)
            assert answer.status == 200, answer.body
            listed += [row["ref"] for row in answer.json["results"]]
            after = answer.json["next"]
        assert len(listed) == len(set(listed))
        assert set(listed) == {
            ref
            for ref, kept in self.model.results.items()
            if all(getattr(kept, name) == value for name, value in wanted.items())
        }

    async def delete(self) -> None:
        refs = [*self.model.results, *sorted(self.model.gone)]
        if not refs:
            return
        ref = self.draw.choice(refs)
        answer = await self.user.call("DELETE", "/api/result", query={"ref": ref})
        assert answer.json["deleted_count"] == int(ref in self.model.results)
        if ref in self.model.results:
            self.model.delete([ref])

    async def delete_many(self) -> None:
        scope = self.draw.choice([None, *SCOPES])
        step = self.draw.choice([None, "one", "load"])
        path = f"/api/result/{self.id}" + ("" if step is None else f"/step/{step}")
        answer = await self.user.call("DELETE", path, query={} if scope is None else {"scope": scope})
        chosen = [
            ref
            for ref, kept in self.model.results.items()
            if (kept.scope == scope if scope is not None else kept.scope != "permanent") and step in (None, kept.step)
        ]
        assert answer.json["deleted_count"] == len(chosen)
        self.model.delete(chosen)


@pytest.mark.parametrize("seed", [1, 2])
async def test_rest_gives_what_the_model_says(user: Client, started: str, results_url: str, seed: int) -> None:
    run = Run(user, started, random.Random(seed))
    for number in range(80):
        try:
            await run.step()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, operation {number}: {error}") from error
    stats = (await user.get("/api/result/stats", execution_id=started)).json
    assert (stats["results"], stats["bytes"]) == (
        len(run.model.results),
        sum(len(kept.content) for kept in run.model.results.values()),
    )
    # and no more objects than results
    assert len(objects(results_url)) == len(run.model.results)
