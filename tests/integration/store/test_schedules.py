from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from noetl_serverless.errors import Conflict, Fault, InvalidRequest, NotFound
from noetl_serverless.store.database import Database
from noetl_serverless.store.schedule_spec import next_due, start_of
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


async def test_an_error_that_names_what_cannot_be_stored_is_stored(schedules: Schedules) -> None:
    made = await schedules.create(NOW, playbook_path="demo", interval_seconds=3600)
    [fire] = await schedules.claim_due(NOW + timedelta(hours=1), 100)
    faults = [Fault("a string contains a NUL character", pointer="/payload/a\0b\ud800", code="value.invalid")]
    await schedules.record_failed(fire, InvalidRequest("the payload cannot be stored: a\0b\ud800", faults=faults))
    [run] = await schedules.runs(made.schedule_id)
    assert (run["status"], run["error"]["detail"]) == ("failed", "the payload cannot be stored: a\ufffdb?")
    assert run["error"]["errors"][0]["pointer"] == "/payload/a\ufffdb?"
    assert await schedules.claim_due(NOW + timedelta(hours=1) + 2 * RUN_LEASE, 100) == []


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


async def test_a_clock_that_goes_back_runs_nothing_again(schedules: Schedules) -> None:
    made = await schedules.create(NOW, playbook_path="demo", interval_seconds=60, missed_policy="catch_up")
    for run in await schedules.claim_due(NOW + 3 * MINUTE, 100):
        await schedules.record_started(run, 1)
    for back in (0, 1, 2, 3):
        assert await schedules.claim_due(NOW + back * MINUTE, 100) == []
    assert len(await schedules.runs(made.schedule_id)) == 3
    assert [run.due_at for run in await schedules.claim_due(NOW + 4 * MINUTE, 100)] == [NOW + 4 * MINUTE]


async def test_a_clock_that_is_ahead_of_the_servers_starts_nothing_early(schedules: Schedules) -> None:
    now = datetime.now(UTC)
    made = await schedules.create(now, playbook_path="demo", interval_seconds=3600)
    for policy in ("allow", "skip"):
        await schedules.update(str(made.schedule_id), {"overlap_policy": policy}, now)
        assert await schedules.claim_due(now + timedelta(days=1), 100) == []
    assert (await schedules.get(str(made.schedule_id))).next_run_at == made.next_run_at


async def test_a_run_starts_after_its_jitter_and_keeps_its_due_time(schedules: Schedules) -> None:
    made = await schedules.create(NOW, playbook_path="demo", interval_seconds=3600, jitter_seconds=3000)
    due = NOW + timedelta(hours=1)
    start = start_of(made.spec, made.schedule_id, due)
    assert start > due
    assert await schedules.claim_due(start - timedelta(milliseconds=1), 100) == []
    [listed] = await schedules.runs(made.schedule_id)
    assert (listed["due_at"], listed["start_at"], listed["status"]) == (due, start, "open")
    [run] = await schedules.claim_due(start, 100)
    assert (run.due_at, run.idempotency_key) == (due, f"schedule:{made.schedule_id}:{int(due.timestamp())}")


async def test_a_change_of_times_keeps_what_was_due_by_the_former_ones(schedules: Schedules) -> None:
    made = await schedules.create(NOW, playbook_path="demo", name="s", interval_seconds=60, missed_policy="catch_up")
    later = NOW + 2 * MINUTE + timedelta(seconds=30)
    changed = await schedules.update("s", {"interval_seconds": None, "cron": "0 * * * *"}, later)
    assert changed.next_run_at == NOW + timedelta(hours=1)
    assert [run["due_at"] for run in await schedules.runs(made.schedule_id)] == [NOW + 2 * MINUTE, NOW + MINUTE]
    only_input = await schedules.update("s", {"input_payload": {"n": 1}}, NOW + timedelta(hours=2))
    # the run that is due is not lost with it
    assert only_input.next_run_at == NOW + timedelta(hours=3)
    assert (await schedules.runs(made.schedule_id))[0]["due_at"] == NOW + timedelta(hours=2)


async def test_a_schedule_that_has_ended_is_enabled_and_never_due(schedules: Schedules) -> None:
    end = NOW + 2 * MINUTE
    made = await schedules.create(NOW, playbook_path="demo", interval_seconds=60, end_at=end, missed_policy="catch_up")
    due = [run.due_at for run in await schedules.claim_due(NOW + timedelta(days=1), 100)]
    assert due == [NOW + MINUTE, end]
    ended = await schedules.get(str(made.schedule_id))
    assert (ended.enabled, ended.next_run_at) == (True, None)


async def test_changes_at_the_same_time_leave_a_next_run_that_fits_the_times(schedules: Schedules) -> None:
    await schedules.create(NOW, playbook_path="demo", name="s", cron="0 * * * *")
    for minute in range(1, 6):
        changes = ({"cron": f"{minute} * * * *"}, {"enabled": False}, {"enabled": True}, {"timezone": "Asia/Tokyo"})
        found = await asyncio.gather(
            *(schedules.update("s", change, NOW) for change in changes), schedules.claim_due(NOW, 10)
        )
        assert found
        now = await schedules.get("s")
        assert now.next_run_at == (next_due(now.spec, NOW) if now.enabled else None)


async def test_a_backfill_is_kept_after_it_has_run_though_it_was_due_long_ago(schedules: Schedules) -> None:
    made = await schedules.create(NOW, playbook_path="demo", interval_seconds=60)
    start = NOW - timedelta(days=400)
    await schedules.backfill(str(made.schedule_id), start, start + MINUTE, NOW, max_runs=5)
    [run] = await schedules.claim_due(NOW, 10)
    await schedules.record_started(run, 7)
    await schedules.prune(NOW)
    assert len(await schedules.runs(made.schedule_id)) == 1
    await schedules.prune(NOW + MINUTE)
    assert await schedules.runs(made.schedule_id) == []


async def test_a_backfill_is_not_the_latest_run_of_its_schedule(schedules: Schedules) -> None:
    made = await schedules.create(NOW, playbook_path="demo", interval_seconds=3600)
    now = NOW + timedelta(hours=1)
    [regular] = await schedules.claim_due(now, 10)
    await schedules.record_started(regular, 7)
    later = now + 50 * MINUTE
    # by times that it has had only since then, it was due after the regular run
    await schedules.update(str(made.schedule_id), {"interval_seconds": 1800}, later)
    await schedules.backfill(str(made.schedule_id), now + 30 * MINUTE, now + 40 * MINUTE, later, max_runs=5)
    [past] = await schedules.claim_due(later, 10)
    assert past.backfill and past.due_at > regular.due_at
    await schedules.record_started(past, 8)
    shown = await schedules.get(str(made.schedule_id))
    assert (shown.last_run_at, shown.last_status, shown.last_execution_id) == (now, "started", 7)


async def test_of_many_reconcilers_one_decides_of_a_schedule_whose_runs_must_not_overlap(schedules: Schedules) -> None:
    for number in range(5):
        await schedules.create(
            NOW,
            playbook_path="demo",
            name=f"s{number}",
            interval_seconds=60,
            missed_policy="catch_up",
            overlap_policy="skip",
        )
    claimed = [
        run
        for runs in await asyncio.gather(*(schedules.claim_due(NOW + 5 * MINUTE, 10) for _ in range(6)))
        for run in runs
    ]
    assert Counter(run.name for run in claimed) == {f"s{number}": 1 for number in range(5)}
    assert {run.due_at for run in claimed} == {NOW + MINUTE}
    assert await schedules.claim_due(NOW + 5 * MINUTE, 10) == [], "a second run is decided while the first is"
