"""What a rendering may spend: whatever takes time or memory is counted before it is done, and not timed, so that every
copy of a state reaches the same result.

The unit is a value that is visited or built, which takes about a tenth of a microsecond, or as much of anything else.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterable, KeysView, Mapping, ValuesView
from operator import length_hint
from typing import Any, Final

from jinja2.exceptions import SecurityError

from .values import Rows, type_name

MAX_SOURCE_CHARACTERS = 64 * 1024
MAX_TEXT_CHARACTERS = 10 * 1024 * 1024
MAX_RANGE = 1_000_000
# iterations of all loops together
MAX_TURNS = 1_000_000
# values that a template visits or builds, each counted as often as it occurs
MAX_WEIGHT = 10_000_000
# for a row that is made, beside its values
PER_ROW = 10
MAX_WIDTH = 10_000
MAX_BITS = 4096

# what to do with a table that is too large for a list
AS_IT_IS: Final = (
    "a table of any size can be given as it is, as input of python or duckdb, or as 'rows' of postgres, for COPY"
)

_GREATEST = 2**MAX_BITS

# a container takes the memory of so many values
_CONTAINER = 4
# types of which comparing two values takes no time worth counting
CHEAP = frozenset({int, float, bool, type(None)})
_SEQUENCES = (list, tuple, KeysView, ValuesView, ItemsView)
# of texts, so many characters count as a value: more are compared in the time, fewer fit in the memory, where each may
# take four bytes, so that all that a template may keep takes 160 MiB
READ = 64
MADE = 4


class LimitExceeded(SecurityError):
    """A rendering would take too much time or memory."""


class RenderBudget:
    """How much one rendering may still do."""

    __slots__ = ("items", "text", "turns", "weight")

    def __init__(self) -> None:
        self.items = MAX_RANGE
        self.text = MAX_TEXT_CHARACTERS
        self.turns = MAX_TURNS
        self.weight = MAX_WEIGHT

    def spend_turn(self, weight: int, text: int) -> None:
        """One iteration of a loop: the weight of its body, and the characters that stand in it."""
        self.turns -= 1
        self.weight -= weight
        self.text -= text
        if self.turns < 0:
            raise LimitExceeded(f"the loops of a template may run at most {MAX_TURNS} times")
        if self.weight < 0 or self.text < 0:
            self.spend(0)
            self.spend_text(0)

    def spend(self, weight: int) -> None:
        self.weight -= weight
        if self.weight < 0:
            raise LimitExceeded(f"a template may visit and build at most {MAX_WEIGHT} values")

    def spend_rows(self, rows: Rows, times: int = 1) -> None:
        """Rows that are made, so many times."""
        weight = row_weight(rows) * times
        self.weight -= weight * len(rows)
        if self.weight < 0:
            raise LimitExceeded(
                f"a template may visit and build at most {MAX_WEIGHT} values, and here are {len(rows)} rows, each of "
                f"which counts as {weight}; {AS_IT_IS}"
            )

    def list_of(self, rows: Rows) -> list[Any]:
        """All of them, made and kept."""
        self.spend_rows(rows)
        rows.check_listed()
        return list(rows)

    def spend_weight(self, value: Any, times: int = 1) -> None:
        """The weight of all of `value`."""
        self.spend(weight_of(value, self.weight // max(times, 1)) * times)

    def spend_written(self, value: Any, times: int = 1) -> None:
        """The weight of all of `value` that is to be a text, with the rows in it, which are made for that."""
        if isinstance(value, Rows):
            self.spend_rows(value, times)
        else:
            self.spend(weight_of(value, self.weight // max(times, 1), 1) * times)

    def spend_items(self, count: int) -> None:
        self.items -= count
        if self.items < 0:
            raise LimitExceeded(f"a template may iterate over at most {MAX_RANGE} numbers of range()")

    def spend_text(self, count: int) -> None:
        self.text -= count
        if self.text < 0:
            raise LimitExceeded(f"a template may produce at most {MAX_TEXT_CHARACTERS} characters")

    def make_text(self, length: int) -> None:
        """A text that an operation makes and the template may keep."""
        check_length(length)
        self.spend(length // MADE)


class WorkMeter:
    """The work of several renderings together, in units of about ten microseconds."""

    __slots__ = ("_budget", "_spent")

    def __init__(self) -> None:
        self._spent = 0
        self._budget: RenderBudget | None = None

    def budget(self) -> RenderBudget:
        """The budget of the next rendering."""
        self._spent = self.spent
        self._budget = RenderBudget()
        return self._budget

    @property
    def spent(self) -> int:
        budget = self._budget
        if budget is None:
            return self._spent
        # refused work was not done
        turns = MAX_TURNS - max(0, budget.turns) + MAX_RANGE - max(0, budget.items)
        weight, text = MAX_WEIGHT - max(0, budget.weight), MAX_TEXT_CHARACTERS - max(0, budget.text)
        return self._spent + turns // 10 + weight // 100 + text // 10_000


def row_weight(rows: Rows) -> int:
    """Of each row, once it is made."""
    return PER_ROW + rows.width


def weight_of(value: Any, limit: int, times_made: int = 0) -> int:
    """The number of values in `value`; a little more than `limit` if there are more. A value that is referenced twice
    counts twice: a few lists that share items take little memory here, but very much once they are serialized.

    `times_made`: how often the rows of tables in it are made, which weigh nothing as long as they are not.
    """
    weight = 1
    waiting: list[Iterable[Any]] = [(value,)]
    while waiting and weight <= limit:
        for item in waiting.pop():
            kind = type(item)
            if kind in CHEAP:
                continue
            if isinstance(item, (str, bytes)):
                weight += len(item) // READ
            elif isinstance(item, _SEQUENCES):
                weight += _CONTAINER + len(item)
                waiting.append(item)
            elif isinstance(item, Mapping):
                weight += _CONTAINER + len(item)
                waiting.append(item.values())
            elif times_made and isinstance(item, Rows):
                weight += _CONTAINER + times_made * row_weight(item) * len(item)
    return weight


def count_of(values: Any) -> int:
    """How many items there can be."""
    return length_hint(values, MAX_RANGE)


def check_length(length: int) -> None:
    if length > MAX_TEXT_CHARACTERS:
        raise LimitExceeded(f"the result would be longer than {MAX_TEXT_CHARACTERS}")


def check_width(*values: Any) -> None:
    for value in values:
        if isinstance(value, (int, float)) and abs(value) > MAX_WIDTH:
            raise LimitExceeded(f"a width is more than {MAX_WIDTH}")


# -- operators


def add(budget: RenderBudget, left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str):
        budget.make_text(len(left) + len(right))
    elif isinstance(left, (list, tuple)) and not isinstance(right, Rows):
        budget.spend_weight((left, right))
    elif isinstance(left, (list, tuple, Rows)) and isinstance(right, (list, tuple, Rows)):
        # one of them is a table
        return [*_list_of(budget, left), *_list_of(budget, right)]
    return _checked(left + right)


def _list_of(budget: RenderBudget, values: Any) -> Any:
    if isinstance(values, Rows):
        return budget.list_of(values)
    budget.spend_weight(values)
    return values


def subtract(_: RenderBudget, left: Any, right: Any) -> Any:
    if not isinstance(left, (int, float)):
        raise TypeError(f"'-' takes numbers, not {type_name(left)}")
    return _checked(left - right)


def multiply(budget: RenderBudget, left: Any, right: Any) -> Any:
    for sequence, times in ((left, right), (right, left)):
        if isinstance(times, int):
            if isinstance(sequence, (list, tuple)):
                budget.spend_weight(sequence, max(times, 0))
            elif isinstance(sequence, Rows):
                if times <= 0:
                    return []
                budget.spend_rows(sequence, times - 1)
                return budget.list_of(sequence) * times
            elif isinstance(sequence, (str, bytes)):
                budget.make_text(len(sequence) * max(times, 0))
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > MAX_BITS:
        raise LimitExceeded("the product is too large")
    return left * right


def power(_: RenderBudget, left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int) and abs(left).bit_length() * abs(right) > MAX_BITS:
        raise LimitExceeded("the power is too large")
    return left**right


def _checked(number: Any) -> Any:
    if isinstance(number, int) and not -_GREATEST < number < _GREATEST:
        raise LimitExceeded("a number is too large")
    return number


def check_comparison(budget: RenderBudget, left: Any, right: Any) -> None:
    """Charge for comparing the two, of which the smaller determines how long it takes."""
    if isinstance(left, str) and isinstance(right, str):
        budget.spend(min(len(left), len(right)) // READ)
        return
    if left is right:
        return
    weight = weight_of(left, budget.weight)
    budget.spend(weight + weight_of(right, weight))
    _spend_rows_compared(budget, left, right, weight)


def _spend_rows_compared(budget: RenderBudget, values: Any, item: Any, weight: int, times: int = 1) -> None:
    """Charge for the rows of tables that comparing makes, wherever in the two they are: no more than is in all of
    `values`, and no more than is in `item`, so many `times`.

    `weight`: that of `values` without rows, for which is paid.
    """
    limit = budget.weight + weight
    made = weight_of(values, limit, 1)
    if made > weight:
        budget.spend(max(0, min(made, times * weight_of(item, min(made, limit), 1)) - weight))


def check_membership(budget: RenderBudget, item: Any, values: Any) -> None:
    """Charge for looking for `item` in `values`."""
    if isinstance(values, str):
        budget.spend(len(values) // READ * 4)
    elif isinstance(values, (list, tuple)):
        budget.spend(len(values) // 8)
        if type(item) not in CHEAP:
            weight = weight_of(values, budget.weight)
            budget.spend(weight)
            _spend_rows_compared(budget, values, item, weight, len(values))
    elif isinstance(values, Rows):
        budget.spend_rows(values)
        budget.spend_weight(item)
    elif isinstance(values, range):
        # Python compares anything but an integer with each of its numbers
        budget.spend(0 if type(item) is int else len(values))
    elif not isinstance(values, Mapping):
        budget.spend(2 * count_of(values))
    if isinstance(item, tuple):
        budget.spend_weight(item)


BINARY: Mapping[str, Callable[[RenderBudget, Any, Any], Any]] = {
    "+": add,
    "-": subtract,
    "*": multiply,
    "**": power,
}
