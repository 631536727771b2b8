from __future__ import annotations

import datetime
import decimal
import os
import random
import tempfile
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from noetl_serverless.playbook import bounds
from noetl_serverless.playbook.template import Template
from noetl_serverless.playbook.template_error import TemplateError
from noetl_serverless.tables import stream
from noetl_serverless.tables.invalid import RowTooLarge
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.rows import rows_of
from noetl_serverless.tables.sealed import memory_file
from noetl_serverless.tables.stream import is_table, write_table
from noetl_serverless.tables.table import InvalidTable, Table

NOON = datetime.datetime(2026, 1, 2, 12, 0, 0, 123456)


@pytest.fixture
def opened() -> Callable[..., Table]:
    def write(table: Any) -> Table:
        with tempfile.TemporaryFile() as file:
            written = write_table(file.fileno(), table)
            assert written.bytes == os.fstat(file.fileno()).st_size
            return Table(MappedFile(os.dup(file.fileno()), written.bytes))

    return write


def test_a_table_is_a_sequence_of_rows(opened: Callable[..., Table]) -> None:
    rows = [{"n": n, "name": f"row {n}"} for n in range(25_000)]
    table = opened(pa.Table.from_pylist(rows))
    assert len(table) == 25_000
    assert (table[0], table[-1], table[12_345]) == (rows[0], rows[-1], rows[12_345])
    assert table[9_990:10_010] == rows[9_990:10_010]
    assert table[24_990::3] == rows[24_990::3]
    assert table[30_000:] == []
    assert list(table) == rows
    assert table == rows
    assert table != rows[1:]
    for outside in (25_000, -25_001):
        with pytest.raises(IndexError):
            table[outside]


def test_every_slice_is_that_of_the_list(opened: Callable[..., Table], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BATCH_BYTES", 4_000)
    monkeypatch.setattr("noetl_serverless.tables.table.CHUNK_ROWS", 7)
    chance = random.Random(5)
    rows = [{"n": n, "text": "x" * chance.randrange(30)} for n in range(3_000)]
    table = opened(pa.Table.from_pylist(rows))
    assert len(list(table.batches())) > 10
    for _ in range(300):
        start, stop = chance.randrange(-3_100, 3_100), chance.randrange(-3_100, 3_100)
        step = chance.choice([1, 1, 2, -1, 50])
        assert table[start:stop:step] == rows[start:stop:step], (start, stop, step)


@pytest.mark.parametrize(
    ("value", "kind", "json"),
    [
        (NOON, pa.timestamp("us"), "2026-01-02T12:00:00.123456"),
        (NOON, pa.timestamp("ns"), "2026-01-02T12:00:00.123456"),
        (NOON.replace(tzinfo=datetime.UTC), pa.timestamp("ms", "UTC"), "2026-01-02T12:00:00.123000+00:00"),
        (NOON.date(), pa.date32(), "2026-01-02"),
        (NOON.time(), pa.time64("us"), "12:00:00.123456"),
        (datetime.timedelta(days=1, seconds=5), pa.duration("ns"), "1 day, 0:00:05"),
        (pa.MonthDayNano([1, 2, 3_000_000_000]), pa.month_day_nano_interval(), "32 days, 0:00:03"),
        (decimal.Decimal("1.50"), pa.decimal128(10, 2), 1.5),
        (decimal.Decimal(10**25), pa.decimal256(40, 0), str(10**25)),
        (2**64 - 1, pa.uint64(), 2**64 - 1),
        (float("nan"), pa.float64(), None),
        (float("inf"), pa.float32(), None),
        (b"\0\xff", pa.binary(), "AP8="),
        ({"a": 1}, pa.map_(pa.string(), pa.int64()), {"a": 1}),
        ([{"d": NOON.date()}], pa.list_(pa.struct([("d", pa.date32())])), [{"d": "2026-01-02"}]),
        ("b", pa.dictionary(pa.int8(), pa.string()), "b"),
        (None, pa.null(), None),
        (True, pa.bool_(), True),
    ],
    ids=str,
)
def test_values_become_those_that_json_can_carry(
    opened: Callable[..., Table], value: Any, kind: pa.DataType, json: Any
) -> None:
    table = opened(pa.table({"v": pa.array([value, None], kind)}))
    assert list(table) == [{"v": json}, {"v": None}]
    assert table.schema.field("v").type == kind


@pytest.mark.parametrize("table", [pa.table({"n": pa.array([], pa.int64())}), pa.table({})], ids=["no rows", "nothing"])
def test_a_table_may_be_empty(opened: Callable[..., Table], table: pa.Table) -> None:
    written = opened(table)
    assert (len(written), list(written), written[:5], bool(written)) == (0, [], [], False)
    assert written.schema == table.schema


def test_a_table_is_read_as_arrow_without_a_copy(opened: Callable[..., Table]) -> None:
    table = opened(pa.table({"n": pa.array(range(1_000_000), pa.int64())}))
    before = pa.total_allocated_bytes()
    again = pa.table(table)
    assert again.num_rows == 1_000_000
    assert pa.total_allocated_bytes() - before < 100_000, "the columns were copied"
    assert is_table(table)


def test_large_and_small_batches_become_batches_of_one_size(
    opened: Callable[..., Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BATCH_BYTES", 80_000)
    whole = pa.table({"n": pa.array(range(100_000), pa.int64())})
    small = pa.concat_tables([whole.slice(start, 100) for start in range(0, 100_000, 100)])
    for table in (whole, small):
        sizes = [batch.num_rows for batch in opened(table).batches()]
        assert sum(sizes) == 100_000
        assert 9 <= len(sizes) <= 12, sizes


def test_a_batch_that_is_large_by_itself_is_not_joined_and_keeps_its_place(
    opened: Callable[..., Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BATCH_BYTES", 80_000)
    whole = pa.table({"n": pa.array(range(30_000), pa.int64())})
    parts = [whole.slice(0, 100), whole.slice(100, 6_000), whole.slice(6_100, 900), whole.slice(7_000, 23_000)]
    batches = list(opened(pa.concat_tables(parts)).batches())
    assert [batch.num_rows for batch in batches][:3] == [100, 6_000, 900]
    assert pa.Table.from_batches(batches).equals(whole)


@pytest.mark.parametrize("size", [0, 3, 100, 1_000])
def test_bytes_that_are_no_stream_are_refused(opened: Callable[..., Table], size: int) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"\x07" * size)
        file.flush()
        table = Table(MappedFile(os.dup(file.fileno()), size))
        with pytest.raises(InvalidTable, match="not an Arrow IPC stream"):
            len(table)


def test_a_stream_that_is_cut_is_refused(opened: Callable[..., Table]) -> None:
    with tempfile.TemporaryFile() as file:
        written = write_table(file.fileno(), pa.table({"n": list(range(10_000))}))
        cut = Table(MappedFile(os.dup(file.fileno()), written.bytes // 2))
        with pytest.raises(InvalidTable):
            len(cut)
        os.ftruncate(file.fileno(), 100)
        with pytest.raises(InvalidTable, match="the file has 100 bytes instead of"):
            len(Table(MappedFile(os.dup(file.fileno()), written.bytes)))


def test_values_that_would_be_read_outside_of_their_buffers_are_refused() -> None:
    """Task code writes these files, and could have a worker read its own memory."""
    with tempfile.TemporaryFile() as file:
        write_table(file.fileno(), pa.table({"text": ["aaaa", "bbbb", "cccc"]}))
        content = bytearray(os.pread(file.fileno(), 10_000, 0))
        offsets = content.rindex((8).to_bytes(4, "little") + (12).to_bytes(4, "little"))
        content[offsets + 4 : offsets + 8] = (1 << 30).to_bytes(4, "little")
        os.pwrite(file.fileno(), content, 0)
        table = Table(MappedFile(os.dup(file.fileno()), len(content)))
        for read in (lambda: table[0], lambda: list(table), lambda: list(table.batches())):
            with pytest.raises(InvalidTable, match="do not fit their types"):
                read()


def test_rows_without_columns_are_refused() -> None:
    descriptor = memory_file()
    with os.fdopen(os.dup(descriptor), "wb") as file, pa.ipc.new_stream(file, pa.schema([])) as writer:
        writer.write_batch(pa.RecordBatch.from_struct_array(pa.array([{}] * 5, pa.struct([]))))
    with pytest.raises(InvalidTable, match="rows and no columns"):
        len(Table(MappedFile(descriptor, os.fstat(descriptor).st_size)))


def test_a_table_is_equal_to_itself_without_a_look_at_its_rows(
    opened: Callable[..., Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = opened(pa.table({"n": [1]}))
    monkeypatch.setattr(Table, "__iter__", lambda self: pytest.fail("its rows are made"))
    assert rows == rows


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
@pytest.mark.parametrize("column", [["x" * 100] * 1000, pa.array(["x" * 100] * 1000).dictionary_encode()])
def test_compressed_batches_are_refused_before_they_are_unpacked(codec: str, column: Any) -> None:
    descriptor = memory_file()
    table = pa.table({"text": column})
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with os.fdopen(os.dup(descriptor), "wb") as file, pa.ipc.new_stream(file, table.schema, options=options) as writer:
        writer.write_table(table)
    with pytest.raises(InvalidTable, match="compressed"):
        len(Table(MappedFile(descriptor, os.fstat(descriptor).st_size)))


@pytest.mark.parametrize(
    "column",
    [pa.nulls(3_000_000), pa.RunEndEncodedArray.from_arrays(pa.array([3_000_000], pa.int32()), pa.array([1]))],
    ids=["nulls", "runs"],
)
def test_many_rows_in_few_bytes_are_refused(opened: Callable[..., Table], column: Any) -> None:
    with pytest.raises(InvalidTable, match="3000000 rows in"):
        len(opened(pa.table({"n": column})))
    assert len(opened(pa.table({"n": column, "m": range(3_000_000)}))) == 3_000_000


def test_texts_that_are_views_become_texts_that_others_can_read(opened: Callable[..., Table]) -> None:
    view = pa.string_view()
    table = pa.table(
        {
            "text": pa.array(["a", None], view),
            "bytes": pa.array([b"a", None], pa.binary_view()),
            "list": pa.array([["a"], None], pa.large_list(view)),
            "struct": pa.array([{"x": "a"}, None], pa.struct([("x", view)])),
            "category": pa.DictionaryArray.from_arrays(pa.array([0, None], pa.int8()), pa.array(["a"], view)),
        }
    )
    found = opened(table)
    assert "view" not in str(found.schema)
    assert next(iter(found)) == {"text": "a", "bytes": "YQ==", "list": ["a"], "struct": {"x": "a"}, "category": "a"}
    assert set(found[1].values()) == {None}


def test_nested_values_that_take_no_bytes_are_limited_as_rows_are(opened: Callable[..., Table]) -> None:
    column = pa.array([[None] * 3_000_000], pa.list_(pa.null()))
    with pytest.raises(InvalidTable, match="3000000 nested values without content in"):
        len(opened(pa.table({"n": column})))
    assert len(opened(pa.table({"n": column, "m": [[1] * 3_000_000]}))) == 1
    assert len(opened(pa.table({"n": [[None] * 900_000]}))) == 1


def test_a_row_that_would_take_too_much_memory_is_refused(
    opened: Callable[..., Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noetl_serverless.tables.rows.ROW_BYTES", 4 << 20)
    monkeypatch.setattr("noetl_serverless.tables.table.CHUNK_BYTES", 1 << 20)
    lists = [[1], [2] * 100_000, [3] * 1_000_000, [4]]
    table = opened(pa.table({"text": ["x" * 1_000] * 4, "list": pa.array(lists, pa.list_(pa.int8()))}))
    for read in (lambda: table[2], lambda: list(table), lambda: table[1:4], lambda: table[::2]):
        with pytest.raises(RowTooLarge, match=r"row 2, column 'list': as a value the row takes at least 7 MiB"):
            read()
    assert (table[3]["list"], len(table[1]["list"])) == ([4], 100_000)


def test_few_large_rows_are_converted_at_once(opened: Callable[..., Table], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("noetl_serverless.tables.table.CHUNK_BYTES", 100_000)
    converted: list[int] = []

    def counted(batch: pa.RecordBatch, first: int) -> list[dict[str, Any]]:
        converted.append(batch.num_rows)
        return rows_of(batch, first)

    monkeypatch.setattr("noetl_serverless.tables.rows.rows_of", counted)
    rows = [{"n": n, "text": "x" * (30_000 if n % 100 == 7 else 10)} for n in range(1_000)]
    table = opened(pa.Table.from_pylist(rows))
    assert list(table) == rows
    assert max(converted) < 300, "so many rows are larger than the limit"
    assert sum(converted) == 1_000, "rows were converted twice"
    assert [table[n] for n in (999, 7, 500)] == [rows[n] for n in (999, 7, 500)]


def test_the_beginning_has_so_many_rows_of_all_batches(
    opened: Callable[..., Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BATCH_BYTES", 300_000)
    rows = [{"n": n, "text": "x" * 100_000} for n in range(20)]
    table = opened(pa.Table.from_pylist(rows))
    assert len(list(table.batches())) > 4
    found = table.beginning(7, 100)
    assert found == [{"n": n, "text": "x" * 100} for n in range(7)]
    assert len(table.beginning(30, 100)) == 20
    assert table.beginning(0, 100) == []


def test_a_template_says_why_a_row_cannot_be_read(
    opened: Callable[..., Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("noetl_serverless.tables.rows.ROW_BYTES", 1 << 20)
    table = opened(pa.table({"list": [[1] * 1_000_000]}))
    with pytest.raises(TemplateError, match=r"row 0, column 'list': as a value the row takes at least 15 MiB"):
        Template("{{ t[0].list | length }}").render({"t": table})
    with pytest.raises(TemplateError, match=r"a list of 1 item has no \[7\]"):
        Template("{{ t[7].list }}").render({"t": table})


@pytest.mark.parametrize(
    "template",
    [
        *("{{ 'rows: ' ~ t }}", "{{ t | string }}", "{{ t | upper }}", "{{ t | replace('a', t[:1]) }}"),
        *("{{ t | trim }}", "{{ t | b64encode }}", "{{ t | e }}", "{{ t | center(20) }}", "{{ t | truncate(9) }}"),
        *("{{ [t] | join }}", "{{ ['a', 'b'] | join(t) }}", "{{ [[t]] ~ '' }}", "{{ {'a': t} ~ '' }}"),
        *("{{ '%s' % t }}", "{{ '%r' | format(t) }}", "{{ '{} {!r}'.format(t, t) }}", "{{ (t, 1) | string }}"),
        *("{{ t | tojson }}", "rows: {{ t }}", "{{ t * 2 }}", "{{ 0 * t }}"),
        *("{{ t < t }}", "{{ t <= t }}", "{{ t < t[:1] }}", "{{ t[:1] < t }}", "{{ t >= t[:2] }}", "{{ [t] > [t] }}"),
        *("{{ t == t[:] }}", "{{ t == (t[0], t[1]) }}", "{{ t is lt(t) }}"),
    ],
)
def test_a_table_in_a_text_and_in_a_comparison_is_the_list_of_its_rows(
    opened: Callable[..., Table], template: str
) -> None:
    rows = [{"n": n, "name": f"a {n}"} for n in range(2)]
    table = opened(pa.Table.from_pylist(rows))
    assert Template(template).render({"t": table}) == Template(template).render({"t": rows})


@pytest.mark.parametrize("template", ["{{ t > u }}", "{{ u[:] <= t }}", "{{ '{:>9}'.format(t) }}", "{{ t < 'a' }}"])
def test_what_cannot_be_done_with_a_list_cannot_with_a_table(opened: Callable[..., Table], template: str) -> None:
    table, other = (opened(pa.table({"n": [1, n]})) for n in (2, 3))
    for scope in ({"t": table, "u": other}, {"t": table[:], "u": other[:]}):
        with pytest.raises(TemplateError, match="TypeError"):
            Template(template).render(scope)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ t < 5 }}", "'<' not supported between instances of 'list' and 'int'"),
        ("{{ [5] > [t] }}", "'>' not supported between instances of 'int' and 'list'"),
        ("{{ 'x'.replace(t, 'y') }}", "must be str, not list"),
        ("{{ 'x'.replace('x', 'y', Table=t) }}", "argument 'Table'"),
        ("{{ '{:>10}'.format(t) }}", "unsupported format string passed to list.__format__"),
        ("{{ t | identifier }}", "a value of type list is not a valid SQL identifier"),
    ],
)
def test_a_table_is_called_a_list_in_errors_of_python(opened: Callable[..., Table], template: str, said: str) -> None:
    with pytest.raises(TemplateError) as raised:
        Template(template).render({"t": opened(pa.table({"n": [1]}))})
    assert said in str(raised.value)


@pytest.mark.parametrize("template", ["{{ 'rows: ' ~ t }}", "{{ {'a': [t]} | string }}", "{{ '%s' % t }}"])
def test_a_text_of_too_many_or_too_large_rows_is_refused(opened: Callable[..., Table], template: str) -> None:
    many = opened(pa.table({"n": pa.array(range(1_000_001), pa.int64())}))
    with pytest.raises(TemplateError, match="may visit and build at most 10000000 values"):
        Template(template).render({"t": many})
    large = opened(pa.table({"text": ["x" * 1_000_000] * 11}))
    with pytest.raises(TemplateError, match="longer than 10485760"):
        Template(template).render({"t": large})


@pytest.mark.parametrize(
    "template",
    [
        *("{{ t == u }}", "{{ [t] == [u] }}", "{{ {'r': t} == {'r': u} }}", "{{ [t] < [u] }}", "{{ [t] is eq([u]) }}"),
        *("{{ t in [u] }}", "{{ {'r': t} in [{'r': u}] }}", "{{ [[t]].index([u]) }}", "{{ [[t]].count([u]) }}"),
        *("{{ [[t]] | select('eq', [u]) | list }}", "{{ [t] is in([[u]]) }}", "{{ [t] == [list] }}"),
        *("{{ [[t], [u]] | sort }}", "{{ [[t], [u]] | max }}", "{{ [{'k': [t]}, {'k': [u]}] | groupby('k') }}"),
    ],
)
def test_comparing_too_many_rows_is_refused_before_they_are_made(
    opened: Callable[..., Table], monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    scope: dict[str, Any] = {name: opened(pa.table({"n": pa.array(range(1_000_001))})) for name in ("t", "u")}
    scope["list"] = [{}] * 1_700_000
    monkeypatch.setattr(Table, "_between", lambda *_: pytest.fail("its rows are made"))
    with pytest.raises(TemplateError, match="may visit and build at most 10000000 values"):
        Template(template).render(scope)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        *(("{{ {'r': t} == {} }}", False), ("{{ {} == {'r': t} }}", False), ("{{ [t] == [few] }}", False)),
        *(
            ("{{ {'r': t} in [none, {}, []] }}", False),
            ("{{ 'a' in [t, 'a'] }}", True),
            ("{{ few in [t, few[:]] }}", True),
        ),
        *(("{{ [[t]] | sort | length }}", 1), ("{{ [t] | max | length }}", 1_000_001)),
    ],
)
def test_a_large_table_is_compared_with_what_is_small(
    opened: Callable[..., Table], template: str, expected: Any
) -> None:
    scope = {"t": opened(pa.table({"n": pa.array(range(1_000_001))})), "few": opened(pa.table({"n": [1, 2]}))}
    assert Template(template).render(scope) == expected


def test_a_row_that_is_not_there_is_refused_with_the_number_of_rows(opened: Callable[..., Table]) -> None:
    table = opened(pa.table({"n": range(20_000)}))
    for value in (table, list(table)):
        with pytest.raises(TemplateError, match=r"a list of 20,000 items has no \[20000\]"):
            Template("{{ t[20000] }}").render({"t": value})


@pytest.mark.parametrize(
    "template",
    [
        *(
            "{{ t | list }}",
            "{{ t + [] }}",
            "{{ t * 1 }}",
            "{{ t[:] }}",
            "{{ t | sort(attribute='c0') }}",
            "{{ [t] | sum(start=[]) }}",
        ),
        *("{{ t | groupby('c0') }}", "{{ t | unique(attribute='c1') | list }}", "{{ t | reverse | list }}"),
        *(
            "{{ t | batch(10) | list }}",
            "{{ t | slice(10) | list }}",
            "{{ t | select | list }}",
            "{{ t | selectattr('c0', 'eq', 0) }}",
        ),
        *("{{ t | map('default', 0) | list }}", "{{ {'a': t} | tojson }}", "{{ dict(t) }}"),
    ],
)
def test_rows_count_by_their_columns(
    opened: Callable[..., Table], monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    monkeypatch.setattr(bounds, "MAX_WEIGHT", 500_000)
    many = {f"c{index}": pa.array(range(2_000) if index == 1 else [0] * 2_000) for index in range(300)}
    few = {"c0": pa.array([0] * 2_000, pa.int8()), "c1": pa.array(range(2_000))}
    with pytest.raises(TemplateError, match="may visit and build at most 500000 values"):
        Template(template).render({"t": opened(pa.table(many))})
    if "dict" not in template:
        Template(template).render({"t": opened(pa.table(few))})


@pytest.mark.parametrize("template", ["{{ t | list }}", "{{ t + [] }}", "{{ t * 1 }}", "{{ t | sort(attribute='n') }}"])
def test_a_list_of_rows_takes_no_more_memory_than_that_of_a_parameter_may(
    opened: Callable[..., Table], monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    monkeypatch.setattr("noetl_serverless.tables.table.MAX_LISTED_OBJECTS", 1_000_000)
    table = opened(pa.table({"n": range(10), "list": [[1000] * 20_000] * 10}))
    with pytest.raises(
        TemplateError, match=r"a table of 10 rows and at least \d+ MiB of values cannot be used as a list"
    ):
        Template(template).render({"t": table})
    assert Template("{{ (t | max(attribute='n')).n }}").render({"t": table}) == 9


@pytest.mark.parametrize("times", [0, -1])
def test_rows_that_are_taken_no_times_are_not_made(
    opened: Callable[..., Table], monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr(Table, "_between", lambda *_: pytest.fail("its rows are made"))
    table = opened(pa.table({"n": [1, 2]}))
    assert Template("{{ t * times }}").render({"t": table, "times": times}) == []
    assert Template("{{ times * t }}").render({"t": table, "times": times}) == []


def test_what_a_loop_compares_counts_by_its_rows(opened: Callable[..., Table], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_WEIGHT", 10_000)
    scope = {name: opened(pa.table({"n": range(500)})) for name in ("t", "u")}
    one = "{% for i in range(6) %}{{ loop.changed(t) }} {% endfor %}"
    assert Template(one).render(scope).split() == ["True", *["False"] * 5], "the same table is not compared"
    two = "{% for i in range(6) %}{{ loop.changed(t if i is even else u) }} {% endfor %}"
    with pytest.raises(TemplateError, match="may visit and build at most 10000 values"):
        Template(two).render(scope)
