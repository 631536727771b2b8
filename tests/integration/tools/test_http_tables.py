"""Tables out of HTTP responses, and into requests."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from aiohttp import web
from tests.serving import serving_app

from noetl_serverless.tables import listed
from noetl_serverless.tables.mapped import MappedFile
from noetl_serverless.tables.sealed import memory_file
from noetl_serverless.tables.stream import write_table
from noetl_serverless.tables.table import Table
from noetl_serverless.tables.value import read_value
from noetl_serverless.tools import http, http_client, http_rows
from noetl_serverless.tools.port import ToolOutcome

Run = Callable[..., Coroutine[Any, Any, ToolOutcome]]
Get = Callable[..., Coroutine[Any, Any, ToolOutcome]]

SENT: dict[str, bytes] = {}
STATUS: dict[str, int] = {}


CONTENT_TYPE = {"x": "text/csv"}


async def answer(request: web.Request) -> web.StreamResponse:
    name = request.match_info["name"]
    if name == "echo":
        return web.json_response({"text": (await request.read()).decode(), "type": request.content_type})
    response = web.StreamResponse(status=STATUS.get(name, 200), headers={"content-type": CONTENT_TYPE[name]})
    await response.prepare(request)
    content = SENT[name]
    for start in range(0, len(content), 100_000):
        await response.write(content[start : start + 100_000])
    return response


@pytest.fixture
async def url() -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{name}", answer)
    async with serving_app(app) as base:
        yield str(base)


@pytest.fixture
def get(run: Run, url: str) -> Get:
    async def get(content: str | bytes, kind: str | None, status: int = 200, **context: Any) -> ToolOutcome:
        SENT["x"] = content.encode() if isinstance(content, str) else content
        STATUS["x"] = status
        return await run("http", {"url": f"{url}/x", **({} if kind is None else {"as": kind})}, **context)

    return get


def fault(outcome: ToolOutcome) -> tuple[str, str]:
    assert outcome.error is not None
    return outcome.error["code"], outcome.error["message"]


def data(outcome: ToolOutcome) -> Any:
    assert outcome.error is None, outcome.error
    return outcome.data["data"]


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink)
    return sink.getvalue()


def arrow(table: pa.Table, kind: str) -> bytes:
    sink = io.BytesIO()
    with {"stream": pa.ipc.new_stream, "file": pa.ipc.new_file}[kind](sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


ROWS = [{"n": 1, "f": 1.5, "t": "a,b"}, {"n": 2, "f": None, "t": 'quoted "x"\nline'}]
TABLE = pa.Table.from_pylist(ROWS)
CONTENT = {
    "csv": b'n,f,t\r\n1,1.5,"a,b"\r\n2,,"quoted ""x""\nline"\r\n',
    "ndjson": b"\n".join(json.dumps(row).encode() for row in ROWS) + b"\n",
    "parquet": parquet(TABLE),
    "arrow": arrow(TABLE, "stream"),
    "arrow file": arrow(TABLE, "file"),
}


@pytest.mark.parametrize("kind", list(CONTENT))
async def test_few_rows_are_a_list_and_many_a_table(get: Get, kind: str) -> None:
    as_ = kind.partition(" ")[0]
    outcome = await get(CONTENT[kind], as_)
    assert data(outcome) == ROWS
    assert list(outcome.data) == ["status_code", "headers", "url", "elapsed", "data", "row_count", "columns"]
    assert (outcome.data["row_count"], outcome.data["columns"]) == (2, ["n", "f", "t"])
    many = await get(CONTENT[kind], as_, inline_bytes=1)
    table = data(many)
    assert isinstance(table, Table)
    assert (list(table), len(table)) == (ROWS, 2)
    assert {**read_value(table.file), "data": None} == {**many.data, "data": None}


async def test_what_it_is_is_said_in_the_task_alone(get: Get) -> None:
    assert data(await get("a,b\n1,2\n", None)) == "a,b\n1,2\n"
    assert data(await get("a,b\n1,2\n", "text")) == "a,b\n1,2\n"
    assert data(await get('{"a": 1}', "json")) == {"a": 1}
    assert fault(await get("a,b", "json"))[0] == "http.content"
    assert fault(await get(b"\xff", "text"))[0] == "http.content"


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
async def test_nothing_has_no_rows(get: Get, kind: str) -> None:
    outcome = await get("", kind)
    assert (data(outcome), outcome.data["columns"]) == ([], [])


async def test_a_header_alone_has_columns(get: Get) -> None:
    outcome = await get("a,b,a\n", "csv")
    assert (data(outcome), outcome.data["columns"]) == ([], ["a", "b", "a_2"])
    assert data(await get("a,b,a\n1,2,3\n", "csv")) == [{"a": 1, "b": 2, "a_2": 3}]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("text", ["N/A", "NA", "NULL", "null", "#N/A", "-1.#IND"])
async def test_only_an_empty_value_of_csv_is_null(
    get: Get, monkeypatch: pytest.MonkeyPatch, text: str, late: bool
) -> None:
    monkeypatch.setattr(http_rows, "_BLOCK_BYTES", 64)
    csv = "n,t,e,all\n" + f"1,x,1,{text}\n" * (50 if late else 1) + f"{text},{text},,{text}\n"
    rows = data(await get(csv, "csv"))
    assert rows[0] == {"n": "1", "t": "x", "e": 1, "all": text}, "a column of numbers with a text is one of texts"
    assert rows[-1] == {"n": text, "t": text, "e": None, "all": text}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("text", "kind", "first", "last"),
    [
        # of 64 bits without a sign
        ("12345678901234567890", pa.decimal128(38, 0), 1, 12345678901234567890),
        ("-9223372036854775809", pa.decimal128(38, 0), 1, "-9223372036854775809"),
        ("9" * 38, pa.decimal128(38, 0), 1, "9" * 38),
        ("9" * 39, pa.string(), "1", "9" * 39),
        ("9223372036854775807", pa.int64(), 1, 2**63 - 1),
        ("1.5", pa.float64(), 1.0, 1.5),
        ("1e20", pa.float64(), 1.0, 1e20),
        ("1e999", pa.string(), "1", "1e999"),
    ],
)
async def test_a_number_of_csv_keeps_its_digits_and_those_beside_it(
    get: Get, monkeypatch: pytest.MonkeyPatch, late: bool, text: str, kind: pa.DataType, first: Any, last: Any
) -> None:
    monkeypatch.setattr(http_rows, "_BLOCK_BYTES", 128)
    csv = "n,n,other\n" + "1,1,1\n" * (50 if late else 1) + f"{text},1,\n"
    table = data(await get(csv, "csv", inline_bytes=0))
    assert table.schema.types == [kind, pa.int64(), pa.int64()]
    rows = [list(row.values()) for row in table]
    assert (rows[0], rows[-1]) == ([first, 1, 1], [last, 1, None])


@pytest.mark.parametrize("late", [False, True])
async def test_an_integer_of_csv_keeps_its_digits_beside_a_fraction(
    get: Get, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    monkeypatch.setattr(http_rows, "_BLOCK_BYTES", 64)
    csv = "n\n9007199254740993\n" + "1\n" * (50 if late else 1) + "1.5\n"
    rows = data(await get(csv, "csv"))
    assert (rows[0], rows[-1]) == ({"n": "9007199254740993"}, {"n": "1.5"})


@pytest.mark.parametrize("late", [False, True])
async def test_a_row_that_is_malformed_is_said_where_a_type_is_chosen_anew(
    get: Get, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    monkeypatch.setattr(http_rows, "_BLOCK_BYTES", 64)
    csv = "a,b\n" + "1,1\n" * (50 if late else 1) + "12345678901234567890,2\n" + "1,1\n" * 50 + "3\n"
    code, message = fault(await get(csv, "csv"))
    assert code == "http.content"
    assert "Expected 2 columns, got 1" in message


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("text", ["nan", "NaN", "inf", "-Infinity"])
async def test_nan_and_infinity_in_a_column_of_numbers_of_csv_are_numbers(
    get: Get, monkeypatch: pytest.MonkeyPatch, text: str, late: bool
) -> None:
    monkeypatch.setattr(http_rows, "_BLOCK_BYTES", 64)
    csv = "n,e\n" + "1,1\n" * (50 if late else 1) + f"{text},\n"
    table = data(await get(csv, "csv", inline_bytes=0))
    batches = list(table.batches())
    values = [value for batch in batches for value in batch.column(0).to_pylist()]
    assert (batches[-1].column(0).null_count, repr(values[-1])) == (0, repr(float(text)))
    # in JSON there are none
    assert (table[0], table[-1]) == ({"n": 1.0, "e": 1}, {"n": None, "e": None})


async def test_values_that_come_late_decide_about_the_type(get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_rows, "_BLOCK_BYTES", 64)
    csv = "a,b,c,d\n" + "1,1,,x\n" * 50 + "2.5,x,7,y\n"
    rows = data(await get(csv, "csv"))
    assert (len(rows), rows[0], rows[-1]) == (
        51,
        {"a": 1.0, "b": "1", "c": "", "d": "x"},
        {"a": 2.5, "b": "x", "c": "7", "d": "y"},
    )
    lines = '{"a": 1, "t": "2024-01-01T00:00:00Z"}\n' * 50 + '{"a": 2.5, "b": {"c": [1]}}\n\n'
    rows = data(await get(lines, "ndjson"))
    assert (len(rows), rows[0], rows[-1]) == (
        51,
        {"a": 1.0, "t": "2024-01-01T00:00:00Z", "b": None},
        {"a": 2.5, "t": None, "b": {"c": [1]}},
    )


async def test_a_type_that_is_chosen_anew_is_that_of_one_of_two_columns_with_one_name(
    get: Get, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_rows, "_BLOCK_BYTES", 64)
    for first, last in (("1,x", "N/A,y"), ("x,1", "y,2.5"), ("1,2", "1.5,z"), ("1,x", "1.5,y")):
        rows = data(await get("a,a\n" + f"{first}\n" * 50 + f"{last}\n", "csv"))
        shown = [
            ",".join(format(value, "g") if isinstance(value, float) else str(value) for value in row.values())
            for row in rows
        ]
        assert (len(rows), list(rows[0]), shown[0], shown[-1]) == (51, ["a", "a_2"], first, last)


@pytest.mark.parametrize(
    ("kind", "content", "where"),
    [
        ("csv", "a,b\n" + "1,2\n" * 50 + "3\n" + "1,2\n" * 50, "Row #52: Expected 2 columns, got 1"),
        ("csv", b"a,b\n\xff,2\n\xfe,3\n", "invalid UTF8"),
        ("ndjson", '{"a": 1}\n' * 50 + '{"a": \n' + '{"a": 1}\n' * 50, "line 51 is not valid JSON"),
        ("ndjson", '{"a": 1}\n[1]\n', "line 2 is not an object"),
        ("ndjson", '{"a": 1}\n' * 50 + '{"a": "x"}\n' + '{"a": 1}\n' * 50, "values of one field are of several types"),
        ("parquet", b"PAR1 not quite", ""),
        ("parquet", CONTENT["parquet"][:-30], ""),
        ("arrow", b"nonsense", ""),
        ("arrow", CONTENT["arrow"][:-200], ""),
        ("arrow", CONTENT["arrow file"][:-50], ""),
    ],
)
async def test_malformed_content_is_an_error_that_says_where(
    get: Get, monkeypatch: pytest.MonkeyPatch, kind: str, content: str | bytes, where: str
) -> None:
    monkeypatch.setattr(http_rows, "_BLOCK_BYTES", 128)
    found = fault(await get(content, kind))
    assert found[0] == "http.content"
    assert f"the response is not what 'as: {kind}' says" in found[1]
    assert where in found[1]


async def test_values_that_do_not_fit_their_types_are_refused(get: Get) -> None:
    broken = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))
    outcome = await get(arrow(pa.table({"t": broken}), "stream"), "arrow")
    assert fault(outcome)[0] == "http.content"


async def test_metadata_of_a_stranger_changes_no_value(get: Get) -> None:
    field = pa.field("t", pa.string(), metadata={"noetl.form": "json"})
    table = pa.table([["{"]], schema=pa.schema([field]))
    assert data(await get(arrow(table, "stream"), "arrow")) == [{"t": "{"}]
    assert data(await get(parquet(table), "parquet")) == [{"t": "{"}]


async def test_csv_is_of_the_charset_that_its_content_type_says(get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONTENT_TYPE, "x", "text/csv; charset=latin-1")
    assert data(await get("a\nä\n".encode("latin-1"), "csv")) == [{"a": "ä"}]
    for charset in ("nonsense", "ascii"):
        monkeypatch.setitem(CONTENT_TYPE, "x", f"text/csv; charset={charset}")
        assert fault(await get("a\nä\n", "csv"))[0] == "http.content"


async def test_what_unpacks_to_too_much_is_refused(get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_rows, "MAX_TABLE_BYTES", 1_000_000)
    packed = parquet(pa.table({"n": pa.array([7] * 500_000)}))
    assert len(packed) < 10_000
    assert fault(await get(packed, "parquet"))[0] == "http.too_large"


async def test_an_error_status_has_its_text(get: Get) -> None:
    outcome = await get("a,b\nno such file", "csv", status=404)
    assert (fault(outcome)[0], outcome.data["data"]) == ("http.status", "a,b\nno such file")


async def test_a_large_response_goes_through_a_file(get: Get, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "MAX_BYTES", 1_000_000)
    content = "n,name\n" + "".join(f"{n},row {n}\n" for n in range(200_000))
    table = data(await get(content, "csv"))
    assert (isinstance(table, Table), len(table), table[-1]) == (True, 200_000, {"n": 199_999, "name": "row 199999"})
    assert fault(await get(content, None))[0] == "http.too_large"
    monkeypatch.setattr(http_client, "MAX_FILE_BYTES", 1_000_000)
    assert fault(await get(content, "csv"))[0] == "http.too_large"


async def test_a_batch_of_unions_may_have_no_rows(get: Get) -> None:
    # for which nbytes of pyarrow ends the process
    items = [pa.array(["a", "b"]), pa.array([1, 2])]
    union = pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), items)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, pa.schema([("u", union.type)])) as writer:
        for part in (union, union[:0]):
            writer.write_batch(pa.record_batch([part], names=["u"]))
    assert data(await get(sink.getvalue(), "arrow")) == [{"u": "a"}, {"u": 2}]


async def test_a_worker_without_pyarrow_says_so_before_it_sends(
    run: Run, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "find_spec", lambda name: None)
    outcome = await run("http", {"url": "http://127.0.0.1:9/nowhere", "as": "csv"})
    assert fault(outcome)[0] == "tool.unavailable"
    assert "pyarrow" in fault(outcome)[1]


async def test_a_task_that_is_cancelled_ends_the_reading(get: Get) -> None:
    content = "n\n" + "1\n" * 5_000_000
    task = asyncio.create_task(get(content, "csv"))
    await asyncio.sleep(0.15)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 3)


def table_of(found: pa.Table) -> Table:
    file = memory_file(0)
    return Table(MappedFile(file, write_table(file, found).bytes))


@pytest.mark.parametrize("given", ["json", "body", "payload", "data"])
async def test_a_table_is_sent_as_the_list_of_its_rows(
    run: Run, url: str, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of(TABLE)
    for value, expected in ((table, ROWS), ({"rows": table, "n": 1}, {"rows": ROWS, "n": 1})):
        outcome = await run("http", {"url": f"{url}/echo", "method": "POST", given: value})
        assert json.loads(data(outcome)["text"]) == expected
        assert data(outcome)["type"] == "application/json"
    monkeypatch.setattr(listed, "MAX_LISTED_ROWS", 1)
    outcome = await run("http", {"url": f"{url}/echo", "method": "POST", given: table})
    assert fault(outcome)[0] == "http.body"
    assert "a table of 2 rows" in fault(outcome)[1]
