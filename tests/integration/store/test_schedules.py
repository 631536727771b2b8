from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from noetl_serverless.errors import Conflict, InvalidRequest, NotFound
from noetl_serverless.store.database import Database
from noetl_serverless.store.schedules import RUN_LEASE, DueRun, Schedule, Schedules

NOW = datetime(2025, 7, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def schedules(database: Database) -> Schedules:
    return Schedules(database)


async def test_a_new_schedule_knows_when_it_is_due(schedules: Schedules) -> None:
    made = await schedules.create(
        NOW, playbook_path="demo", name="daily", cron="30 6 * * *", timezone="Asia/Tokyo", input_payload={"a": 1}
    )
    assert made.next_run_at == datetime(2025, 7, 1, 21, 30, tzinfo=UTC)
    assert await schedules.get("daily") == made
    assert await schedules.get(str(made.schedule_id)) == made
    assert made.input_payload == {"a": 1}


async def test_a_name_is_taken_once(schedules: Schedules) -> None:
    await schedules.create(NOW, playbook_path="demo", name="daily", interval_seconds=60)
    with pytest.raises(Conflict):
        await schedules.create(NOW, playbook_path="demo", name="daily", interval_seconds=60)
    for _ in range(2):
        await schedules.create(NOW, playbook_path="demo", interval_seconds=60)
    assert len(await schedules.entries(limit=1000, offset=0)) == 3


async def test_what_is_not_there_is_neither_read_nor_turned_off(schedules: Schedules) -> None:
    with pytest.raises(NotFound, match="nightly"):
        await schedules.get("nightly")
    with pytest.raises(NotFound, match="nightly"):
        await schedules.set_enabled("nightly", False, NOW)


async def test_a_schedule_that_is_deleted_while_it_is_turned_off_is_not_found(
    schedules: Schedules, monkeypatch: pytest.MonkeyPatch
) -> None:
    await schedules.create(NOW, playbook_path="demo", name="s", interval_seconds=60)
    get = schedules.get

    async def get_and_delete(name: str) -> Schedule:
        monkeypatch.undo()
        found = await get(name)
        await schedules.delete(name)
        return found

    monkeypatch.setattr(schedules, "get", get_and_delete)
    with pytest.raises(NotFound, match="there is no schedule 's'"):
        await schedules.set_enabled("s", False, NOW)


async def test_the_latest_twenty_runs_are_listed_newest_first(schedules: Schedules) -> None:
    made = await schedules.create(NOW, playbook_path="demo", interval_seconds=60, missed_policy="catch_up")
    await schedules.claim_due(NOW + 25 * MINUTE, 100)
    due = [run["due_at"] for run in await schedules.runs(made.schedule_id)]
    assert due == [NOW + minutes * MINUTE for minutes in range(25, 5, -1)]


async def test_a_bad_time_is_refused(schedules: Schedules) -> None:
    with pytest.raises(InvalidRequest):
        await schedules.create(NOW, playbook_path="demo", cron="nonsense")


async def test_no_run_is_due_before_its_time(schedules: Schedules) -> None:
    await schedules.create(NOW, playbook_path="demo", interval_seconds=60)
    assert await schedules.claim_due(NOW + timedelta(seconds=59), 100) == []


async def test_a_due_run_has_a_key_of_its_own(schedules: Schedules) -> None:
    made = await schedules.create(
        NOW, playbook_path="demo", playbook_version=3, interval_seconds=60, input_payload={"a": 1}
    )
    [fire] = await schedules.claim_due(NOW + MINUTE, 100)
    assert fire == DueRun(
        schedule_id=made.schedule_id,
        due_at=NOW + MINUTE,
        playbook_path="demo",
        playbook_version=3,
        input_payload={"a": 1},
    )
    assert fire.idempotency_key == f"schedule:{made.schedule_id}:{int((NOW + MINUTE).timestamp())}"
    assert (await schedules.get(str(made.schedule_id))).next_run_at == NOW + 2 * MINUTE


async def test_many_reconcilers_together_claim_each_run_once(schedules: Schedules) -> None:
    for _ in range(20):
        await schedules.create(NOW, playbook_path="demo", interval_seconds=60, missed_policy="catch_up")
    now = NOW + 5 * MINUTE
    claimed: list[DueRun] = []
    while found := [
        fire for fires in await asyncio.gather(*(schedules.claim_due(now, 10) for _ in range(6))) for fire in fires
    ]:
        claimed += found
    keys = Counter(fire.idempotency_key for fire in claimed)
    assert len(keys) == 20 * 5
    assert set(keys.values()) == {1}


async def test_a_run_that_was_claimed_and_not_settled_comes_again(schedules: Schedules) -> None:
    await schedules.create(NOW, playbook_path="demo", interval_seconds=3600)
    now = NOW + timedelta(hours=1)
    first = await schedules.claim_due(now, 100)
    assert await schedules.claim_due(now + RUN_LEASE / 2, 100) == []
    assert await schedules.claim_due(now + RUN_LEASE, 100) == first


async def test_a_settled_run_does_not_come_again_and_shows(schedules: Schedules) -> None:
    made = await schedules.create(NOW, playbook_path="demo", interval_seconds=3600)
    now = NOW + timedelta(hours=1)
    [fire] = await schedules.claim_due(now, 100)
    await schedules.record_started(fire, 77)
    assert await schedules.claim_due(now + 2 * RUN_LEASE, 100) == []
    shown = await schedules.get(str(made.schedule_id))
    assert (shown.last_run_at, shown.last_status, shown.last_execution_id) == (now, "started", 77)
    [run] = await schedules.runs(made.schedule_id)
    assert (run["due_at"], run["status"], run["execution_id"]) == (now, "started", 77)


async def test_a_run_that_cannot_start_is_settled_with_its_error(schedules: Schedules) -> None:
    made = await schedules.create(NOW, playbook_path="gone", interval_seconds=3600)
    [fire] = await schedules.claim_due(NOW + timedelta(hours=1), 100)
    await schedules.record_failed(fire, NotFound("the catalog has no gone"))
    [run] = await schedules.runs(made.schedule_id)
    assert (run["status"], run["error"]["code"]) == ("failed", "resource.not_found")
    assert (await schedules.get(str(made.schedule_id))).last_status == "failed"


async def test_an_older_run_settled_late_does_not_become_the_latest(schedules: Schedules) -> None:
    made = await schedules.create(NOW, playbook_path="demo", interval_seconds=60, missed_policy="catch_up")
    older, newer = await schedules.claim_due(NOW + 2 * MINUTE, 100)
    await schedules.record_started(newer, 2)
    await schedules.record_started(older, 1)
    assert (await schedules.get(str(made.schedule_id))).last_execution_id == 2


async def test_a_disabled_schedule_is_never_due_and_has_nothing_to_catch_up(schedules: Schedules) -> None:
    await schedules.create(NOW, playbook_path="demo", name="s", interval_seconds=60)
    assert (await schedules.set_enabled("s", False, NOW)).next_run_at is None
    assert await schedules.claim_due(NOW + timedelta(days=1), 100) == []
    later = NOW + timedelta(days=1, seconds=30)
    assert (await schedules.set_enabled("s", True, later)).next_run_at == NOW + timedelta(days=1, minutes=1)
    assert await schedules.claim_due(later, 100) == []


async def test_switching_to_what_it_is_changes_nothing(schedules: Schedules) -> None:
    made = await schedules.create(NOW, playbook_path="demo", name="s", interval_seconds=60)
    assert await schedules.set_enabled("s", True, NOW + timedelta(hours=1)) == made


async def test_a_deleted_schedule_has_no_due_runs(schedules: Schedules) -> None:
    await schedules.create(NOW, playbook_path="demo", name="s", interval_seconds=60)
    await schedules.claim_due(NOW + MINUTE, 100)
    await schedules.delete("s")
    assert await schedules.claim_due(NOW + 10 * MINUTE, 100) == []
    with pytest.raises(NotFound):
        await schedules.get("s")


async def test_settled_runs_of_long_ago_can_be_forgotten(schedules: Schedules) -> None:
    made = await schedules.create(NOW, playbook_path="demo", interval_seconds=60, missed_policy="catch_up")
    first, second, _open = await schedules.claim_due(NOW + 3 * MINUTE, 100)
    await schedules.record_started(first, 1)
    await schedules.record_started(second, 2)
    await schedules.prune(NOW + 2 * MINUTE)
    assert [run["status"] for run in await schedules.runs(made.schedule_id)] == ["open", "started"]


async def test_one_that_has_no_next_time_is_turned_off_and_the_others_go_on(
    schedules: Schedules, database: Database
) -> None:
    broken, good = [await schedules.create(NOW, playbook_path="demo", interval_seconds=60) for _ in range(2)]
    sql = "UPDATE noetl.schedule SET interval_seconds = NULL, cron = 'nonsense' WHERE schedule_id = :id"
    await database.run(sql, id=broken.schedule_id)
    assert [fire.schedule_id for fire in await schedules.claim_due(NOW + MINUTE, 100)] == [good.schedule_id]
    enabled = [(await schedules.get(str(each.schedule_id))).enabled for each in (broken, good)]
    assert enabled == [False, True]
