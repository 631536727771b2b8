"""The flagship on its real data, checked against the same numbers computed here from the CSV."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.file_server import FileServer, served
from tests.e2e.stack import PLAYBOOKS, Stack

FLAGSHIP = PLAYBOOKS / "flight_delays.yaml"
DATA = PLAYBOOKS / "data"
COUNT = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: count, path: tests/count_flights}
workflow:
  - step: count
    tool:
      kind: postgres
      auth: workspace
      command: SELECT count(*)::int AS flights, count(*) FILTER (WHERE cancelled)::int AS cancelled FROM flights
"""
LOADS = """
apiVersion: noetl.io/v2
kind: Playbook
metadata: {name: loads, path: tests/flight_loads}
workflow:
  - step: loads
    tool:
      kind: postgres
      auth: workspace
      command: SELECT xmin::text AS load, count(*)::int AS flights FROM flights GROUP BY 1
"""

Row = dict[str, str]


def read(name: str) -> list[Row]:
    with (DATA / name).open(newline="") as file:
        return list(csv.DictReader(file))


def is_cancelled(row: Row) -> bool:
    return row["dep_time"] == "NA"


def is_late(row: Row) -> bool:
    return row["arr_delay"] != "NA" and int(row["arr_delay"]) > 15


def summary(airline: str, rows: list[Row], alert_percent: float) -> dict[str, Any]:
    """One row of the table the flagship ends with, but for the roundings."""
    cancelled, late = sum(map(is_cancelled, rows)), sum(map(is_late, rows))
    delays = [int(row["arr_delay"]) for row in rows if row["arr_delay"] != "NA"]
    percent = 100 * (cancelled + late) / len(rows)
    return {
        "airline": airline,
        "flights": len(rows),
        "cancelled": cancelled,
        "late": late,
        "disrupted_percent": pytest.approx(percent, abs=0.051),
        "mean_delay": pytest.approx(sum(delays) / len(delays), abs=0.051),
        "verdict": "alert" if percent >= alert_percent else "calm",
    }


def expected_table(alert_percent: float = 25) -> list[dict[str, Any]]:
    """Worst airline first, all of them together last."""
    flights = read("flights.csv")
    names = {row["carrier"]: row["name"] for row in read("airlines.csv")}
    groups: dict[str, list[Row]] = {}
    for row in flights:
        groups.setdefault(names[row["carrier"]], []).append(row)

    def order(name: str) -> tuple[float, str]:
        rows = groups[name]
        return -sum(is_cancelled(row) or is_late(row) for row in rows) / len(rows), name

    table = [summary(name, groups[name], alert_percent) for name in sorted(groups, key=order)]
    return [*table, summary("All airlines", flights, alert_percent)]


@pytest.fixture(scope="module")
def files() -> Iterator[FileServer]:
    with served(DATA) as server:
        yield server


@pytest.fixture(scope="module")
def first_run(stack: Stack, files: FileServer) -> dict[str, Any]:
    return stack.run(FLAGSHIP, {"data_url": files.url})


@pytest.fixture
def count(stack: Stack, first_run: dict[str, Any], tmp_path: Path) -> Callable[[], dict[str, Any]]:
    """What the table `flights` holds, once it is there."""
    playbook = tmp_path / "count.yaml"
    playbook.write_text(COUNT)
    return lambda: dict(stack.run(playbook)["result"]["rows"][0])


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A copy of the data to spoil."""
    for name in ("flights.csv", "airlines.csv"):
        shutil.copy(DATA / name, tmp_path / name)
    return tmp_path


def test_the_table_says_what_the_csv_says(first_run: dict[str, Any]) -> None:
    assert first_run["status"] == "COMPLETED"
    result = first_run["result"]
    assert result["table"] == expected_table()
    assert result["rows_loaded"] == len(read("flights.csv"))
    assert set(result["columns"]) == set(result["table"][0])


def test_the_worst_day_is_the_one_of_the_blizzard(stack: Stack, first_run: dict[str, Any]) -> None:
    rows = read("flights.csv")
    days = {row["day"]: [other for other in rows if other["day"] == row["day"]] for row in rows}
    shares = {day: sum(is_cancelled(row) or is_late(row) for row in found) / len(found) for day, found in days.items()}
    worst = max(shares, key=lambda day: shares[day])
    disrupted = sum(is_cancelled(row) or is_late(row) for row in days[worst])

    assert first_run["result"]["verdict"] == "alert"
    assert f"{worst} February 2013, it was {disrupted} of {len(days[worst])}" in first_run["result"]["because"]
    assert stack.steps_that_ran(first_run["execution_id"]) == [
        *("fetch", "check", "load", "by_carrier", "compare", "alert", "report")
    ]


def test_the_loop_ran_once_for_each_airline(stack: Stack, first_run: dict[str, Any]) -> None:
    events = stack.events(first_run["execution_id"])
    (done,) = [event for event in events if event["event_type"] == "loop.done"]
    carriers = {row["carrier"] for row in read("flights.csv")}

    assert done["step"] == "by_carrier"
    assert done["payload"]["stats"] == {"total": len(carriers), "success": len(carriers), "failed": 0}


def test_the_rows_are_not_in_the_log(stack: Stack, first_run: dict[str, Any]) -> None:
    log = json.dumps(stack.events(first_run["execution_id"]))

    assert len(log) < (DATA / "flights.csv").stat().st_size / 4
    assert "N187JB" not in log


def test_another_run_doubles_nothing(
    stack: Stack, files: FileServer, first_run: dict[str, Any], count: Callable[[], dict[str, Any]]
) -> None:
    again = stack.run(FLAGSHIP, {"data_url": files.url})

    assert again["result"] == first_run["result"]
    rows = read("flights.csv")
    assert count() == {"flights": len(rows), "cancelled": sum(map(is_cancelled, rows))}


def test_runs_at_once_do_not_disturb_each_other(
    stack: Stack, files: FileServer, first_run: dict[str, Any], count: Callable[[], dict[str, Any]]
) -> None:
    ids = [stack.start("examples/flight_delays", {"data_url": files.url}) for _ in range(6)]
    ends = [stack.events(execution_id, follow=True)[-1] for execution_id in ids]
    entries = [stack.ask("show", execution_id) for execution_id in ids]

    assert {end["event_type"] for end in ends} == {"playbook.completed"}
    assert [entry["result"]["data"]["table"] for entry in entries] == [first_run["result"]["table"]] * len(ids)
    assert count()["flights"] == len(read("flights.csv"))


def test_below_the_threshold_it_takes_the_calm_branch(stack: Stack, files: FileServer) -> None:
    outcome = stack.run(FLAGSHIP, {"data_url": files.url, "alert_percent": 60})

    assert outcome["result"]["verdict"] == "calm"
    assert outcome["result"]["table"] == expected_table(60)
    ran = stack.steps_that_ran(outcome["execution_id"])
    assert "calm" in ran
    assert "alert" not in ran


def test_a_server_that_is_not_ready_is_asked_again(stack: Stack) -> None:
    with served(DATA, {"/flights.csv": 2, "/airlines.csv": 1}) as files:
        outcome = stack.run(FLAGSHIP, {"data_url": files.url})

    assert outcome["result"]["verdict"] == "alert"
    assert files.requests == {"/flights.csv": 3, "/airlines.csv": 2}


def test_a_server_that_stays_away_is_the_reason_for_the_rejection(stack: Stack) -> None:
    with served(DATA, {"/airlines.csv": 1000}) as files:
        outcome = stack.run(FLAGSHIP, {"data_url": files.url})

    assert outcome["status"] == "COMPLETED"
    assert outcome["result"]["verdict"] == "rejected"
    assert "503" in outcome["result"]["because"]
    assert files.requests["/airlines.csv"] == 5


def test_a_file_that_is_not_there_is_not_asked_for_again(stack: Stack, damaged: Path) -> None:
    (damaged / "flights.csv").unlink()
    with served(damaged) as files:
        outcome = stack.run(FLAGSHIP, {"data_url": files.url})

    assert outcome["result"]["verdict"] == "rejected"
    assert "404" in outcome["result"]["because"]
    assert files.requests == {"/flights.csv": 1}


class Mended:
    """A copy of the flagship that fails, because `part` of it is wrong, and whose next version is right."""

    def __init__(self, stack: Stack, folder: Path, name: str, part: str, wrong: str) -> None:
        text = FLAGSHIP.read_text()
        assert text.count(part) == 1
        whole = text.replace("path: examples/flight_delays", f"path: tests/{name}")
        self.stack, self.whole, self.broken = stack, folder / "whole.yaml", folder / "broken.yaml"
        self.whole.write_text(whole)
        self.broken.write_text(whole.replace(part, wrong))

    def fail(self, files: FileServer) -> str:
        """The execution."""
        outcome = self.stack.run(self.broken, {"data_url": files.url}, status=1)
        assert outcome["status"] == "FAILED"
        return str(outcome["execution_id"])

    def restart(self, old: str) -> dict[str, Any]:
        self.stack.ask("register", str(self.whole))
        outcome: dict[str, Any] = self.stack.ask("restart", old, "--version", "latest")
        return outcome

    def loads(self, tmp_path: Path) -> list[dict[str, Any]]:
        """The transactions that have written what is in the table."""
        playbook = tmp_path / "loads.yaml"
        playbook.write_text(LOADS)
        rows: list[dict[str, Any]] = self.stack.run(playbook)["result"]["rows"]
        return rows


def test_after_mending_the_playbook_it_goes_on_where_it_failed(
    stack: Stack, files: FileServer, first_run: dict[str, Any], tmp_path: Path
) -> None:
    mended = Mended(stack, tmp_path, "mended_delays", "FROM by_carrier JOIN airlines", "FROM by_carriers JOIN airlines")
    old = mended.fail(files)
    requests, loads = dict(files.requests), mended.loads(tmp_path)
    assert len(loads) == 1
    assert stack.steps_that_ran(old) == ["fetch", "check", "load", "by_carrier", "compare"]

    shown = stack.ask("restart", old, "--dry-run")
    assert (shown["execution_id"], shown["from"], shown["again"]) == (None, ["compare"], ["compare"])
    outcome = mended.restart(old)
    new = outcome["execution_id"]

    assert (outcome["status"], outcome["result"]) == ("COMPLETED", first_run["result"])
    assert outcome["restart"]["version"] == 2
    assert stack.steps_that_ran(new) == ["compare", "alert", "report"]
    assert files.requests == requests, "a step that was done has run again"
    assert mended.loads(tmp_path) == loads, "the rows were loaded again"
    assert stack.ask("replay", new, "--validate")["valid"]
    assert (stack.ask("show", new)["restarted_from"], stack.ask("show", old)["restarts"]) == (old, [new])
    steps = {step["step"]: step["why"] for step in stack.ask("explain", new)["steps"]}
    assert steps["load"] == f"execution {old} has done it, and its result is reused"
    # over other ids the same
    again = stack.ask("restart", old, "--version", "latest")["execution_id"]
    assert stack.ask("digest", again)["digest"] == stack.ask("digest", new)["digest"]
    assert stack("restart", old, "--from", "nowhere").status == 2


def test_the_difference_and_the_digest_of_both_executions_are_true(
    stack: Stack, files: FileServer, first_run: dict[str, Any], tmp_path: Path
) -> None:
    mended = Mended(stack, tmp_path, "compared_delays", "JOIN airlines USING (carrier)", "JOIN airlines USING (code)")
    old = mended.fail(files)
    before = stack.ask("digest", old)
    new = mended.restart(old)["execution_id"]

    # each decides the same again by its own version, and another way by that of the other, from what was mended on
    for id, version, other, status in ((old, 1, mended.whole, "failed"), (new, 2, mended.broken, "completed")):
        same = stack.ask("diff", id)
        assert (same["empty"], same["ending"]["recorded"]["status"]) == (True, status)
        assert stack.ask("diff", id, "--version", str(version))["empty"]
        differs = stack.ask("diff", id, "--playbook", str(other), status=1)
        assert differs["divergence"]["step"] == "compare"
        assert [changed["step"] for changed in differs["reparameterised"]] == ["compare"]
        assert (differs["added"], differs["removed"]) == ([], [])
    after = stack.ask("digest", new)
    assert stack.ask("digest", old) == before, "the restart has changed the log of the one before"
    assert after["digest"] not in (before["digest"], stack.ask("digest", first_run["execution_id"])["digest"])
    names = [entry["entry"] for entry in before["entries"]]
    assert names == ["start", "fetch#1", "check#1", "load#1", "by_carrier#1", "compare#1", "end"]
    assert {entry["entry"] for entry in after["entries"]} == {*names, "alert#1", "report#1"}
    assert stack("digest", new, "--verify", before["digest"]).status == 1


def test_a_loop_goes_on_with_the_airlines_that_are_left(
    stack: Stack, files: FileServer, first_run: dict[str, Any], tmp_path: Path
) -> None:
    right = "SELECT carrier,\n               count(*) AS flights,"
    wrong = right.replace("count(*)", "count(*) / ({{ iter.carrier }} <> 'UA')::int")
    mended = Mended(stack, tmp_path, "looped_delays", right, wrong)
    old = mended.fail(files)
    requests, loads = dict(files.requests), mended.loads(tmp_path)
    (done,) = [event for event in stack.events(old) if event["event_type"] == "loop.done"]
    stats = done["payload"]["stats"]
    assert stats["failed"] == 1 and stats["success"] >= 1
    outcome = mended.restart(old)
    new = outcome["execution_id"]

    assert (outcome["status"], outcome["result"]) == ("COMPLETED", first_run["result"])
    reused = outcome["restart"]["items_reused"]
    assert reused.keys() == {"by_carrier"}
    assert 1 <= reused["by_carrier"] <= stats["success"]
    frames = [event["payload"] for event in stack.events(new) if event["event_type"] == "frame.committed"]
    ran = [index for frame in frames for index in range(frame["start"], frame["end"])]
    assert len(ran) == stats["total"] - reused["by_carrier"], "an item that was done has run again"
    assert sorted({row["carrier"] for row in read("flights.csv")}).index("UA") in ran
    assert (files.requests, mended.loads(tmp_path)) == (requests, loads)
    for id in (old, new):
        assert stack.ask("diff", id)["empty"]
        assert stack.ask("replay", id, "--validate")["valid"]
    shown = stack("explain", new, "by_carrier").out
    assert f"goes on with the loop of execution {old}" in " ".join(shown.split())


def without_a_column(lines: list[str]) -> list[str]:
    return [lines[0].replace("dep_delay", "delay"), *lines[1:]]


def with_a_row_twice(lines: list[str]) -> list[str]:
    return [*lines, lines[1]]


def with_an_unknown_airline(lines: list[str]) -> list[str]:
    return [*lines, lines[1].replace(",B6,", ",ZZ,")]


def with_an_endless_delay(lines: list[str]) -> list[str]:
    return [lines[0], lines[1].replace(",77,", ",77777,"), *lines[2:]]


def cut_off(lines: list[str]) -> list[str]:
    return lines[:500]


@pytest.mark.parametrize(
    ("spoil", "because"),
    [
        (without_a_column, "lacks the columns dep_delay"),
        (with_a_row_twice, "stands in flights.csv twice"),
        (with_an_unknown_airline, "does not know ZZ"),
        (with_an_endless_delay, "not plausible"),
        (cut_off, "has 499 rows"),
    ],
)
def test_data_that_fails_a_check_is_not_loaded(
    stack: Stack,
    damaged: Path,
    count: Callable[[], dict[str, Any]],
    spoil: Callable[[list[str]], list[str]],
    because: str,
) -> None:
    file = damaged / "flights.csv"
    whole = file.read_text().splitlines()
    spoiled = spoil(whole)
    assert spoiled != whole
    file.write_text("\n".join(spoiled) + "\n")
    before = count()
    with served(damaged) as files:
        outcome = stack.run(FLAGSHIP, {"data_url": files.url})

    assert outcome["status"] == "COMPLETED"
    assert outcome["result"]["verdict"] == "rejected"
    assert because in outcome["result"]["because"]
    assert stack.steps_that_ran(outcome["execution_id"]) == ["fetch", "check", "rejected"]
    assert count() == before
