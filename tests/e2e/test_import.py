"""The import: files that arrive start it, once each; it keeps to its rate, and goes on after it was mended."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from tests.e2e.faults import eventually
from tests.e2e.stack import PLAYBOOKS, Stack

IMPORT = PLAYBOOKS / "import.yaml"
SAMPLE = PLAYBOOKS / "data" / "payments.csv"
HEAD = "id,customer,paid_on,amount"
PATH = "tests/import"
TRIGGER = f"{PATH}/arrived"
# of the copy that is tested: rows in a batch; batches that begin in so many seconds
BATCH, BATCHES, SECONDS = 10, 2, 2
# how far the clock of a worker may be behind the one that limits
LATE = 0.5
SQL = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {{name: sql, path: tests/import_sql}}
workflow:
  - step: ask
    tool:
      kind: postgres
      auth: workspace
      command: |
        {sql}
"""


class Imports:
    """The playbook, whose trigger looks at `folder`."""

    def __init__(self, stack: Stack, folder: Path, files: Path) -> None:
        self.stack, self.folder = stack, folder
        self._files = files
        text = IMPORT.read_text()
        for old, new in (
            ("path: examples/import\n", f"path: {PATH}\n"),
            ('url: "file:///tmp/noetl-import/"', f'url: "{folder.as_uri()}/"'),
            ("batch_rows: 500", f"batch_rows: {BATCH}"),
            ("per: 1s, limit: 10", f"per: {SECONDS}s, limit: {BATCHES}"),
        ):
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        self.text = text

    def register(self, text: str) -> None:
        file = self._files / "import.yaml"
        file.write_text(text)
        self.stack.ask("register", str(file))

    def sql(self, sql: str) -> list[dict[str, Any]]:
        file = self._files / "sql.yaml"
        file.write_text(SQL.format(sql=sql))
        rows: list[dict[str, Any]] = self.stack.run(file)["result"]["rows"]
        return rows

    def write(self, name: str, lines: list[str]) -> Path:
        """It appears at once and as a whole."""
        whole = self.folder / f".{name}"
        whole.write_text("\n".join([HEAD, *lines]) + "\n")
        return whole.rename(self.folder / name)

    def events(self) -> dict[str, dict[str, Any]]:
        """By the names of their files, those that have started an execution."""
        listed = self.stack.ask("trigger", "events", TRIGGER)
        started = [one for one in listed if one["status"] == "started"]
        return {one["event_id"].rpartition("/")[2]: one for one in started}

    def started(self, name: str, count: int = 1) -> str:
        """The execution that the latest of `count` events of this file has started."""

        def found() -> list[dict[str, Any]]:
            of_file = [one for key, one in self.events().items() if key.startswith(f"{name}:")]
            return of_file if len(of_file) >= count else []

        latest = max(eventually(found, pause=0.3), key=lambda one: str(one["received_at"]))
        return str(latest["execution_id"])

    def ended(self, execution_id: str) -> dict[str, Any]:
        self.stack.events(execution_id, follow=True)
        entry: dict[str, Any] = self.stack.ask("show", execution_id)
        return entry

    def rows(self, name: str) -> list[dict[str, Any]]:
        object = (self.folder / name).as_uri()
        return self.sql(
            "SELECT line, id, customer, paid_on::text, amount::text, imported_at::text FROM payments "
            f"WHERE object = '{object}' ORDER BY line"
        )


def payments(count: int, amount: str = "12.50") -> list[str]:
    return [f"P-{number},Abel,2026-01-02,{amount}" for number in range(count)]


def when(instant: str) -> datetime:
    return datetime.fromisoformat(instant)


@pytest.fixture(scope="module")
def imports(stack: Stack) -> Iterator[Imports]:
    with (
        tempfile.TemporaryDirectory(prefix="noetl-import-") as folder,
        tempfile.TemporaryDirectory(prefix="noetl-import-") as files,
    ):
        imports = Imports(stack, Path(folder), Path(files))
        imports.register(imports.text)
        yield imports


def test_a_file_that_arrives_is_imported(imports: Imports) -> None:
    lines = SAMPLE.read_text().splitlines()[1:]
    file = imports.write("sample.csv", lines)
    entry = imports.ended(imports.started("sample.csv"))

    rows = imports.rows("sample.csv")
    total = sum(Decimal(row["amount"]) for row in rows)
    assert entry["status"] == "COMPLETED", entry["error"]
    assert entry["result"]["data"] == {
        "object": file.as_uri(),
        "rows": len(lines),
        "batches": -(-len(lines) // BATCH),
        "total": str(total),
    }
    assert [row["line"] for row in rows] == list(range(2, len(lines) + 2))
    assert [line.split(",")[0] for line in lines] == [row["id"] for row in rows]
    assert [line.rpartition(",")[2] for line in lines] == [row["amount"] for row in rows]


def test_a_file_that_is_delivered_again_starts_nothing(imports: Imports) -> None:
    file = imports.write("again.csv", payments(1))
    first = imports.started("again.csv")
    # the folder has it anew, with the content that it had
    file.chmod(0o640)
    file.chmod(0o644)
    imports.write("behind.csv", payments(1))
    imports.started("behind.csv")
    data = {"url": file.as_uri(), "bytes": file.stat().st_size}
    (id,) = [one["event_id"] for key, one in imports.events().items() if key.startswith("again.csv:")]
    fired = imports.stack.ask("trigger", "fire", TRIGGER, "--id", id, *(f"--set={k}={v}" for k, v in data.items()))

    assert fired["execution_id"] == first
    assert len([key for key in imports.events() if key.startswith("again.csv:")]) == 1
    executions = imports.stack.ask("executions", "--playbook", PATH)
    assert len(executions) == len(imports.events()), "an event has started two"


def test_a_newer_file_of_the_name_replaces_its_rows(imports: Imports) -> None:
    imports.write("newer.csv", payments(15))
    imports.ended(imports.started("newer.csv"))
    imports.write("newer.csv", payments(3, "7"))
    entry = imports.ended(imports.started("newer.csv", 2))

    assert entry["status"] == "COMPLETED", entry["error"]
    assert [row["amount"] for row in imports.rows("newer.csv")] == ["7.00"] * 3


def test_no_more_batches_begin_than_its_rate_lets(imports: Imports) -> None:
    names = ["first.csv", "second.csv"]
    for name in names:
        imports.write(name, payments(4 * BATCH))
    ids = [imports.started(name) for name in names]
    entries = [imports.ended(id) for id in ids]

    assert [entry["status"] for entry in entries] == ["COMPLETED"] * 2
    frames = [one for id in ids for one in imports.stack.events(id) if one["event_type"] == "frame.committed"]
    assert len(frames) == 8
    metas = [frame["payload"]["meta"] for frame in frames]
    times = sorted((when(meta["started_at"]), when(meta["ended_at"])) for meta in metas)
    for (one, _), (later, _) in zip(times, times[BATCHES:], strict=False):
        assert (later - one).total_seconds() > SECONDS - LATE
    assert max(sum(began <= at < ended for began, ended in times) for at, _ in times) <= 2, "more than two at once"


def test_a_bad_file_fails_and_goes_on_with_a_mended_playbook(imports: Imports, tmp_path: Path) -> None:
    file = imports.write("bad.csv", [*payments(12), 'P-12,Birch,2026-01-02,"7,25"'])
    old = imports.started("bad.csv")
    entry = imports.ended(old)
    assert entry["status"] == "FAILED"
    assert entry["error"]["step"] == "check"
    assert entry["error"]["message"] == "ValueError: bad.csv: line 14: '7,25' is no number"
    assert imports.rows("bad.csv") == [], "a part of the file is imported"

    # what has been read is not read again
    file.unlink()
    mended = imports.text.replace('Decimal(row["amount"])\n', 'Decimal(row["amount"].replace(",", "."))\n', 1)
    assert mended != imports.text
    imports.register(mended)
    outcome = imports.stack.ask("restart", old, "--version", "latest")
    new = outcome["execution_id"]

    assert outcome["status"] == "COMPLETED", outcome
    assert (outcome["result"]["rows"], outcome["result"]["batches"]) == (13, 2)
    assert imports.stack.steps_that_ran(new) == ["check", "prepare", "load", "imported"]
    assert imports.stack.ask("diff", new)["empty"]
    assert [row["amount"] for row in imports.rows("bad.csv")] == [*["12.50"] * 12, "7.25"]
    # the trigger starts what is mended
    imports.write("later.csv", ['P-1,Birch,2026-01-02,"7,25"'])
    assert imports.ended(imports.started("later.csv"))["result"]["data"]["total"] == "7.25"


def test_only_batches_that_the_database_has_refused_are_imported_again(imports: Imports) -> None:
    count = 4 * BATCH
    imports.sql("ALTER TABLE payments ADD CONSTRAINT refused CHECK (customer <> 'Refused')")
    imports.write("refused.csv", [*payments(count - 1), f"P-{count},Refused,2026-01-02,5"])
    old = imports.started("refused.csv")
    entry = imports.ended(old)
    assert (entry["error"]["step"], entry["error"]["code"]) == ("load", "loop.item_failed")
    before = {row["line"]: row["imported_at"] for row in imports.rows("refused.csv")}
    assert 0 < len(before) < count

    imports.sql("ALTER TABLE payments DROP CONSTRAINT refused")
    outcome = imports.stack.ask("restart", old)

    assert (outcome["status"], outcome["result"]["rows"]) == ("COMPLETED", count)
    assert outcome["restart"]["items_reused"] == {"load": len(before) // BATCH}
    after = {row["line"]: row["imported_at"] for row in imports.rows("refused.csv")}
    assert len(after) == count
    assert before.items() <= after.items(), "a batch that was imported has been imported again"
    assert imports.stack.ask("replay", outcome["execution_id"], "--validate")["valid"]


def test_an_object_of_a_bucket_is_read_with_keys_of_its_own(imports: Imports, tmp_path: Path) -> None:
    # a trigger of a bucket is refused on a laptop, which nobody tells of its objects: it is started by hand
    keys = {"access_key_id": "reader", "secret_access_key": "secret of the reader", "region": "eu-central-1"}
    value = tmp_path / "keys.json"
    value.write_text(json.dumps(keys))
    imports.stack.ask("credential", "set", "import_aws", "--type", "aws", "--value", f"@{value}")
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        named = {"aws_access_key_id": "reader", "aws_secret_access_key": "s", "region_name": keys["region"]}
        s3 = boto3.client("s3", endpoint_url=endpoint, **named)
        s3.create_bucket(Bucket="shop", CreateBucketConfiguration={"LocationConstraint": keys["region"]})
        s3.put_object(Bucket="shop", Key="in/may payments.csv", Body="\n".join([HEAD, *payments(3)]).encode())
        object = "s3://shop/in/may payments.csv"
        outcome = imports.stack.run(IMPORT, {"object": object, "s3_endpoint": endpoint})
    finally:
        server.stop()
        imports.stack.ask("credential", "delete", "import_aws")

    assert outcome["result"] == {"object": object, "rows": 3, "batches": 1, "total": "37.50"}
    assert keys["secret_access_key"] not in json.dumps(imports.stack.events(outcome["execution_id"]))
