from __future__ import annotations

from noetl_serverless.engine.ids import EPOCH_MS
from noetl_serverless.store.ids import fresh_id, new_id, parse_id


def test_ids_sort_by_time_whatever_the_entropy() -> None:
    assert new_id(EPOCH_MS + 1, 2**22 - 1) < new_id(EPOCH_MS + 2, 0)


def test_entropy_never_reaches_the_time() -> None:
    assert new_id(EPOCH_MS, 2**40 - 1) == 2**22 - 1


def test_an_id_of_the_last_representable_day_has_63_bits() -> None:
    assert new_id(EPOCH_MS + 2**41 - 1, 2**22 - 1) == 2**63 - 1


def test_a_fresh_id_reads_back() -> None:
    drawn = fresh_id()
    assert parse_id(str(drawn)) == drawn


def test_what_no_id_looks_like_is_none() -> None:
    assert [parse_id(text) for text in ("", "x", "-1", "1.0", "٣", str(2**63), "1" * 30)] == [None] * 7
