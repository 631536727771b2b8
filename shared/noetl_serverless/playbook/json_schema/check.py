"""Whether a value fits a schema. The work is counted and not timed, so that every machine reaches the same result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ..bounds import weight_of
from ..faults import did_you_mean
from . import patterns
from .fault import MAX_LISTED, SchemaFault, cut, given_phrase, listed, literal, pointer_of, type_phrase
from .references import target
from .secret_names import SecretNames, secret_names

if TYPE_CHECKING:
    from fractions import Fraction

# that are reported
MAX_FAULTS: Final = 20
# of a check, each about a microsecond
MAX_WORK: Final = 500_000
# schemas that apply inside each other
MAX_NESTED: Final = 150
# of a schema, among which a similar one is looked for
MAX_NAMES: Final = 1000
# values that are looked at in one unit
_PER_UNIT: Final = 10

# the path of a value: its parent's, and its key; None for the root
Place = tuple[Any, str | int] | None


@dataclass(frozen=True, slots=True)
class Checked:
    """`work`: units of about a microsecond."""

    faults: list[SchemaFault]
    work: int


def check(schema: Mapping[str, Any] | bool, value: Any) -> list[SchemaFault]:
    """What of `value`, which is JSON, does not fit `schema`, at most MAX_FAULTS. `schema` is one that `validate_schema`
    has no fault of. A value too large or too deep to be checked has a fault that says so."""
    return checked(schema, value).faults


def checked(schema: Mapping[str, Any] | bool, value: Any, limit: int = MAX_WORK) -> Checked:
    """As `check`, with at most `limit` units of work."""
    run = _Run(schema, limit)
    found = _Found(MAX_FAULTS)
    try:
        run.apply(schema, value, None, found, _Seen())
    except _Stopped as stopped:
        message = f"the value is {stopped} to be checked"
        return Checked([SchemaFault("", message, "a smaller value", given_phrase(value))], run.work)
    secret = secret_names(schema) if found.entries else SecretNames()
    # several schemas may find the same
    return Checked(list(dict.fromkeys(_fault(entry, secret) for entry in found.entries)), run.work)


class _Stopped(Exception):
    """The check would take too long."""


# made only of faults that are reported, since it may take long
Phrase = str | Callable[[], str]


@dataclass(frozen=True, slots=True)
class _Entry:
    place: Place
    expected: Phrase
    value: Any
    message: Phrase | None = None
    # what stands in the place of the value
    given: str | None = None


@dataclass(slots=True)
class _Found:
    """Faults, up to a limit: a branch needs to know only whether there is one."""

    limit: int
    entries: list[_Entry] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        return len(self.entries) >= self.limit

    def add(
        self, place: Place, expected: Phrase, value: Any, message: Phrase | None = None, given: str | None = None
    ) -> None:
        if not self.is_full:
            self.entries.append(_Entry(place, expected, value, message=message, given=given))


@dataclass(slots=True)
class _Seen:
    """The properties and items of a value that a keyword has looked at, for the two `unevaluated...`."""

    names: set[str] = field(default_factory=set)
    indexes: set[int] = field(default_factory=set)

    def update(self, other: _Seen) -> None:
        self.names |= other.names
        self.indexes |= other.indexes


@dataclass(slots=True)
class _Applied:
    """One keyword, applied to one value."""

    argument: Any
    schema: Mapping[str, Any]
    value: Any
    place: Place
    found: _Found
    seen: _Seen


class _Run:
    def __init__(self, root: Mapping[str, Any] | bool, limit: int) -> None:
        self._root = root
        self._limit = limit
        self._nested = 0
        self.work = 0
        # the values of an enum in the form in which they are compared, by its identity
        self._enums: dict[int, set[Any]] = {}
        self._targets: dict[str, Any] = {}

    def spend(self, units: int) -> None:
        self.work += units
        if self.work > self._limit:
            raise _Stopped("too large")

    def spend_weight(self, value: Any) -> None:
        room = (self._limit - self.work) * _PER_UNIT
        self.spend(weight_of(value, room) // _PER_UNIT)

    def apply(self, schema: Any, value: Any, place: Place, found: _Found, seen: _Seen) -> None:
        self.spend(1)
        if schema is True or found.is_full:
            return
        if schema is False:
            found.add(place, "nothing", value, "no value is allowed here")
            return
        self._nested += 1
        if self._nested > MAX_NESTED:
            raise _Stopped("nested too deeply")
        late = None
        for keyword, argument in schema.items():
            apply = KEYWORDS.get(keyword)
            if apply is not None:
                self.spend(1)
                apply(self, _Applied(argument, schema, value, place=place, found=found, seen=seen))
            elif keyword in LATE:
                late = True
        if late and not found.is_full:
            for keyword, apply in LATE.items():
                if keyword in schema:
                    apply(self, _Applied(schema[keyword], schema, value, place=place, found=found, seen=seen))
        self._nested -= 1

    def also(self, schema: Any, call: _Applied) -> None:
        """Another schema for the value of `call`. It does not see what the keywords beside it have looked at."""
        seen = _Seen()
        self.apply(schema, call.value, call.place, call.found, seen)
        call.seen.update(seen)

    def fits(self, schema: Any, call: _Applied) -> _Seen | None:
        """What `schema` looks at in the value of `call`; None if it does not fit."""
        found, seen = _Found(1), _Seen()
        self.apply(schema, call.value, call.place, found, seen)
        return None if found.entries else seen

    def matches(self, pattern: str, text: str) -> bool:
        self.spend(patterns.work_of(pattern, text))
        return patterns.matches(pattern, text)

    # -- any value

    def type_(self, call: _Applied) -> None:
        types = [call.argument] if isinstance(call.argument, str) else call.argument
        if not any(TYPES[name](call.value) for name in types):
            call.found.add(call.place, type_phrase(types), call.value)

    def enum(self, call: _Applied) -> None:
        allowed = self._enums.get(id(call.argument))
        if allowed is None:
            self.spend_weight(call.argument)
            allowed = self._enums[id(call.argument)] = {frozen(value) for value in call.argument}
        self.spend_weight(call.value)
        if frozen(call.value) not in allowed:
            call.found.add(call.place, lambda: f"one of {listed(call.argument)}", call.value)

    def const(self, call: _Applied) -> None:
        self.spend_weight(call.value)
        self.spend_weight(call.argument)
        if frozen(call.value) != frozen(call.argument):
            call.found.add(call.place, lambda: literal(call.argument), call.value)

    # -- numbers

    def limit_of(self, call: _Applied, breaks: Callable[[Any, Any], bool], phrase: str) -> None:
        if is_number(call.value) and breaks(call.value, call.argument):
            call.found.add(call.place, f"a number {phrase} {literal(call.argument)}", call.value)

    def minimum(self, call: _Applied) -> None:
        self.limit_of(call, lambda value, limit: bool(value < limit), "of at least")

    def maximum(self, call: _Applied) -> None:
        self.limit_of(call, lambda value, limit: bool(value > limit), "of at most")

    def exclusive_minimum(self, call: _Applied) -> None:
        self.limit_of(call, lambda value, limit: bool(value <= limit), "above")

    def exclusive_maximum(self, call: _Applied) -> None:
        self.limit_of(call, lambda value, limit: bool(value >= limit), "below")

    def multiple_of(self, call: _Applied) -> None:
        # of the numbers as they are written: 0.3 is a multiple of 0.1
        self.limit_of(call, lambda value, unit: (exact(value) / exact(unit)).denominator != 1, "that is a multiple of")

    # -- texts

    def pattern(self, call: _Applied) -> None:
        if isinstance(call.value, str) and not self.matches(call.argument, call.value):
            call.found.add(call.place, f"a string that matches {cut(call.argument)}", call.value)

    # -- lengths

    def min_of(self, call: _Applied, kind: type[Sized], what: str) -> None:
        if isinstance(call.value, kind) and len(call.value) < call.argument:
            call.found.add(call.place, f"{what} at least {int(call.argument):,}", call.value, given=_length(call.value))

    def max_of(self, call: _Applied, kind: type[Sized], what: str) -> None:
        if isinstance(call.value, kind) and len(call.value) > call.argument:
            call.found.add(call.place, f"{what} at most {int(call.argument):,}", call.value, given=_length(call.value))

    # -- objects

    def properties(self, call: _Applied) -> None:
        if isinstance(call.value, dict):
            for name, schema in call.argument.items():
                if name in call.value:
                    call.seen.names.add(name)
                    self.apply(schema, call.value[name], (call.place, name), call.found, _Seen())

    def pattern_properties(self, call: _Applied) -> None:
        for name, value in _properties(call):
            for pattern, schema in call.argument.items():
                if self.matches(pattern, name):
                    call.seen.names.add(name)
                    self.apply(schema, value, (call.place, name), call.found, _Seen())

    def additional_properties(self, call: _Applied) -> None:
        known = call.schema.get("properties", {})
        by_pattern = call.schema.get("patternProperties", {})
        for name, value in _properties(call):
            if name not in known and not any(self.matches(pattern, name) for pattern in by_pattern):
                call.seen.names.add(name)
                self._extra(call, name, value, known)

    def unevaluated_properties(self, call: _Applied) -> None:
        for name, value in _properties(call):
            if name not in call.seen.names:
                self._extra(call, name, value, ())
        if isinstance(call.value, dict):
            call.seen.names.update(call.value)

    def _extra(self, call: _Applied, name: str, value: Any, known: Any) -> None:
        self.spend(1)
        if call.argument is False:
            call.found.add(
                (call.place, name),
                "no such property",
                value,
                lambda: f"there is no property '{cut(name)}'{did_you_mean(name, list(known)[:MAX_NAMES])}",
                # it may be a secret under a misspelled name
                given="a property",
            )
        else:
            self.apply(call.argument, value, (call.place, name), call.found, _Seen())

    def property_names(self, call: _Applied) -> None:
        for name, _ in _properties(call):
            found = _Found(1)
            self.apply(call.argument, name, (call.place, name), found, _Seen())
            for entry in found.entries:
                call.found.add(entry.place, partial(_name_phrase, entry), name)

    def required(self, call: _Applied) -> None:
        if isinstance(call.value, dict):
            self.spend(len(call.argument) // _PER_UNIT)
            for name in call.argument:
                if name not in call.value:
                    self._missing(call, name, f"'{cut(name)}' is required")

    def dependent_required(self, call: _Applied) -> None:
        for name, others in call.argument.items() if isinstance(call.value, dict) else ():
            for other in others if name in call.value else ():
                if other not in call.value:
                    self._missing(call, other, f"'{cut(other)}' is required where '{cut(name)}' is given")

    def _missing(self, call: _Applied, name: str, message: str) -> None:
        schema = call.schema.get("properties", {}).get(name)
        types = schema.get("type") if isinstance(schema, Mapping) else None
        expected = "a value" if types is None else type_phrase(types)
        call.found.add((call.place, name), expected, None, message, given="nothing")

    def dependent_schemas(self, call: _Applied) -> None:
        for name, schema in call.argument.items() if isinstance(call.value, dict) else ():
            if name in call.value:
                self.also(schema, call)

    # -- arrays

    def prefix_items(self, call: _Applied) -> None:
        for (index, value), schema in zip(_items(call), call.argument, strict=False):
            call.seen.indexes.add(index)
            self.apply(schema, value, (call.place, index), call.found, _Seen())

    def items(self, call: _Applied) -> None:
        first = len(call.schema.get("prefixItems", ()))
        for index, value in _items(call):
            if index >= first:
                call.seen.indexes.add(index)
                self.apply(call.argument, value, (call.place, index), call.found, _Seen())

    def unevaluated_items(self, call: _Applied) -> None:
        for index, value in _items(call):
            if index not in call.seen.indexes:
                self.apply(call.argument, value, (call.place, index), call.found, _Seen())
                call.seen.indexes.add(index)

    def contains(self, call: _Applied) -> None:
        if not isinstance(call.value, list):
            return
        least, limit = call.schema.get("minContains", 1), call.schema.get("maxContains")
        count = 0
        for index, value in enumerate(call.value):
            item = _Applied(None, call.schema, value, place=(call.place, index), found=call.found, seen=call.seen)
            if self.fits(call.argument, item) is not None:
                count += 1
                call.seen.indexes.add(index)
        if count < least or (limit is not None and count > limit):
            bound = f"at least {least}" if count < least else f"at most {limit}"
            call.found.add(call.place, f"{bound} of its items to fit 'contains'", call.value, given=f"{count:,}")

    def unique_items(self, call: _Applied) -> None:
        if not call.argument or not isinstance(call.value, list):
            return
        self.spend_weight(call.value)
        first: dict[Any, int] = {}
        for index, value in enumerate(call.value):
            if (earlier := first.setdefault(frozen(value), index)) != index:
                message = f"this item is the same as item {earlier}"
                call.found.add((call.place, index), "an item that is not there yet", value, message)

    # -- several schemas

    def ref(self, call: _Applied) -> None:
        if call.argument not in self._targets:
            self._targets[call.argument] = target(self._root, call.argument)
        self.also(self._targets[call.argument], call)

    def all_of(self, call: _Applied) -> None:
        for schema in call.argument:
            self.also(schema, call)

    def any_of(self, call: _Applied) -> None:
        fitting = [seen for schema in call.argument if (seen := self.fits(schema, call)) is not None]
        for seen in fitting:
            call.seen.update(seen)
        if not fitting:
            call.found.add(call.place, lambda: _alternatives(call.argument), call.value)

    def one_of(self, call: _Applied) -> None:
        fitting = [seen for schema in call.argument if (seen := self.fits(schema, call)) is not None]
        if len(fitting) == 1:
            call.seen.update(fitting[0])
        elif fitting:
            expected = f"a value that fits one schema of 'oneOf' and not {len(fitting)}"
            call.found.add(call.place, expected, call.value)
        else:
            call.found.add(call.place, lambda: _alternatives(call.argument), call.value)

    def not_(self, call: _Applied) -> None:
        if self.fits(call.argument, call) is not None:
            call.found.add(call.place, "a value that does not fit the schema of 'not'", call.value)

    def if_(self, call: _Applied) -> None:
        seen = self.fits(call.argument, call)
        if seen is not None:
            call.seen.update(seen)
        if (then := call.schema.get("else" if seen is None else "then")) is not None:
            self.also(then, call)


def _properties(call: _Applied) -> Iterator[tuple[str, Any]]:
    if isinstance(call.value, dict):
        yield from call.value.items()


def _items(call: _Applied) -> Iterator[tuple[int, Any]]:
    if isinstance(call.value, list):
        yield from enumerate(call.value)


def _length(value: Any) -> str:
    """Of what is too short or too long."""
    return f"{len(value):,}"


def _alternatives(schemas: Any) -> str:
    types = [schema.get("type") if isinstance(schema, Mapping) else None for schema in schemas]
    if all(isinstance(name, str) for name in types) and len(types) <= MAX_LISTED and len(set(types)) == len(types):
        return f"{type_phrase(types)}, as one of the schemas says"
    return f"a value that fits one of {len(schemas)} schemas"


def _fault(entry: _Entry, secret: SecretNames) -> SchemaFault:
    path: list[str | int] = []
    place = entry.place
    while place is not None:
        place, key = place
        path.append(key)
    path.reverse()
    expected = _text(entry.expected)
    given = entry.given or given_phrase(entry.value, secret=secret.cover(path))
    message = f"this must be {expected}, not {given}" if entry.message is None else _text(entry.message)
    return SchemaFault(pointer_of(path), message, expected, given)


def _name_phrase(entry: _Entry) -> str:
    return f"a name that is {_text(entry.expected)}"


def _text(phrase: Phrase) -> str:
    return phrase if isinstance(phrase, str) else phrase()


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def exact(number: int | float) -> Fraction:
    """The number that its shortest text stands for."""
    # few schemas need it
    from fractions import Fraction

    return Fraction(repr(number)) if isinstance(number, float) else Fraction(number)


def frozen(value: Any) -> Any:
    """A form that can be hashed, and is equal for values that are equal in JSON: 1 and 1.0, but not 1 and true."""
    if isinstance(value, dict):
        return ("object", frozenset((key, frozen(item)) for key, item in value.items()))
    if isinstance(value, list):
        return ("array", tuple(frozen(item) for item in value))
    return ("boolean", value) if isinstance(value, bool) else value


TYPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: is_number(value) and (isinstance(value, int) or value.is_integer()),
    "number": is_number,
    "null": lambda value: value is None,
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
}

_Apply = Callable[[_Run, _Applied], None]
KEYWORDS: Final[Mapping[str, _Apply]] = {
    "$ref": _Run.ref,
    "additionalProperties": _Run.additional_properties,
    "allOf": _Run.all_of,
    "anyOf": _Run.any_of,
    "const": _Run.const,
    "contains": _Run.contains,
    "dependentRequired": _Run.dependent_required,
    "dependentSchemas": _Run.dependent_schemas,
    "enum": _Run.enum,
    "exclusiveMaximum": _Run.exclusive_maximum,
    "exclusiveMinimum": _Run.exclusive_minimum,
    "if": _Run.if_,
    "items": _Run.items,
    "maxItems": lambda run, call: run.max_of(call, list, "an array whose number of items is"),
    "maxLength": lambda run, call: run.max_of(call, str, "a string whose number of characters is"),
    "maxProperties": lambda run, call: run.max_of(call, dict, "an object whose number of properties is"),
    "maximum": _Run.maximum,
    "minItems": lambda run, call: run.min_of(call, list, "an array whose number of items is"),
    "minLength": lambda run, call: run.min_of(call, str, "a string whose number of characters is"),
    "minProperties": lambda run, call: run.min_of(call, dict, "an object whose number of properties is"),
    "minimum": _Run.minimum,
    "multipleOf": _Run.multiple_of,
    "not": _Run.not_,
    "oneOf": _Run.one_of,
    "pattern": _Run.pattern,
    "patternProperties": _Run.pattern_properties,
    "prefixItems": _Run.prefix_items,
    "properties": _Run.properties,
    "propertyNames": _Run.property_names,
    "required": _Run.required,
    "type": _Run.type_,
    "uniqueItems": _Run.unique_items,
}
# after all others, since they look at what those have left
LATE: Final[Mapping[str, _Apply]] = {
    "unevaluatedItems": _Run.unevaluated_items,
    "unevaluatedProperties": _Run.unevaluated_properties,
}
