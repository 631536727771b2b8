"""How long a refusal is kept, and how many are."""

from noetl_serverless.worker.execution.refusals import KEEP_SECONDS, MAX_KEPT, Refusals


def test_a_refusal_is_kept_for_some_seconds() -> None:
    now = [100.0]
    refusals = Refusals(lambda: now[0])
    refusals.add(("1", "api", "d"), "no")
    assert refusals.message_of(("1", "api", "d")) == "no"
    assert refusals.message_of(("2", "api", "d")) is None
    now[0] += KEEP_SECONDS
    assert refusals.message_of(("1", "api", "d")) is None


def test_the_oldest_of_too_many_refusals_are_forgotten() -> None:
    refusals = Refusals(lambda: 100.0)
    refusals.add(("first", "api", "d"), "no")
    refusals.add(("second", "api", "d"), "no")
    refusals.add(("first", "api", "d"), "still no")
    for number in range(MAX_KEPT - 1):
        refusals.add((str(number), "api", "d"), "no")
    assert refusals.message_of(("first", "api", "d")) == "still no"
    assert refusals.message_of(("second", "api", "d")) is None
