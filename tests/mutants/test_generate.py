from __future__ import annotations

from collections import Counter

from .generate import Source, changed, sample
from .kinds import kind_of

TEXT = """
A = {"one": 1, "two": 2, "three": 3, "four": 4}


class Held:
    def may(self, now: int = 0) -> bool:
        return (
            self.until > now
            and self.held
        )

    @property
    def over(self) -> bool:
        if self.until < 1:
            return self.held or self.gone
        return False
"""


def sources() -> list[Source]:
    return [Source("held.py", TEXT)]


def test_a_seed_always_draws_the_same() -> None:
    assert sample(sources(), 5, "7") == sample(sources(), 5, "7")
    assert len({tuple(sample(sources(), 2, str(seed))) for seed in range(20)}) > 1


def test_each_statement_has_its_turn_before_one_has_two() -> None:
    # the table, the default, and four statements
    first = sample(sources(), 6, "7")
    assert sorted(fault.first for fault in first) == [2, 6, 7, 14, 15, 16]
    every = sample(sources(), 1000, "7")
    assert Counter(fault.first for fault in every)[2] == 12
    assert len({fault.text for fault in every}) == len(every)


def test_a_type_variable_has_no_fault() -> None:
    assert list(Source("held.py", 'T = TypeVar("T")\n').faults()) == []
    assert list(Source("held.py", 'T = other("T")\n').faults()), "another call has one"


def test_a_fault_knows_its_place() -> None:
    (fault,) = [fault for fault in sources()[0].faults() if "or self.held" in fault.mutated]
    assert (fault.file, fault.function, fault.first, fault.last) == ("held.py", "Held.may", 7, 10)
    assert (fault.original, fault.mutated) == ("and self.held", "or self.held")
    assert fault.diff(TEXT).splitlines()[1:] == [
        "             self.until > now",
        "-            and self.held",
        "+            or self.held",
        "         )",
    ]


def test_only_what_stands_on_the_lines_that_are_asked_for() -> None:
    assert {fault.first for fault in sample(sources(), 1000, "7", {"held.py": {9}})} == {7}
    assert sample(sources(), 1000, "7", {"other.py": {9}}) == []


def test_the_lines_that_changed_are_listed_without_their_indentation() -> None:
    assert changed("if a:\n    b()\n    c()\n", "if a:\n    c()\n    d()\n") == ("b()", "d()")


def test_severe_kinds_are_recognised_by_the_names_a_fault_touches() -> None:
    assert kind_of("row.fence == fence", "") == "fence"
    assert kind_of("until = now + self.lease_s", "") == "lease"
    assert kind_of("await connection.rollback()", "") == "rollback"
    assert kind_of("x = 1", "Grants.of_role") == "role"
    assert kind_of("follow_redirects=True") == "redirect"
    assert kind_of("text = _masked(text)") == "mask"
    assert kind_of("parole, release, defences = 1, 2, 3") == "other"
