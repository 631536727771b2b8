from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from noetl_serverless.telemetry import logs
from noetl_serverless.telemetry.masking import masking

logger = logging.getLogger("noetl_serverless.test")

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    logs.setup("worker", "INFO", function_name="worker-shared", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_has_the_shape_of_powertools(lines: Lines) -> None:
    logger.info("claimed %d", 3)
    (line,) = lines()
    assert list(line)[:7] == [
        "level",
        "location",
        "message",
        "timestamp",
        "service",
        "cold_start",
        "function_name",
    ]
    assert line["level"] == "INFO"
    assert re.fullmatch(r"test_a_line_has_the_shape_of_powertools:\d+", line["location"])
    assert line["message"] == "claimed 3"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["timestamp"])
    assert (line["service"], line["function_name"], line["cold_start"]) == ("worker", "worker-shared", True)


def test_the_first_request_ends_the_cold_start(lines: Lines) -> None:
    logger.info("one")
    logs.end_cold_start()
    logger.info("two")
    assert [line["cold_start"] for line in lines()] == [True, False]


def test_below_the_level_nothing_is_written(lines: Lines) -> None:
    logger.debug("no")
    assert lines() == []


def test_extras_stand_beside_the_message(lines: Lines) -> None:
    logger.info("x", extra={"execution_id": "7", "command_id": "a/1/1", "numbers": [1]})
    (line,) = lines()
    assert (line["execution_id"], line["command_id"], line["numbers"]) == ("7", "a/1/1", [1])


def test_the_context_is_added_and_taken_away(lines: Lines) -> None:
    with logs.log_context(execution_id="7"):
        with logs.log_context(command_id="a/1/1"):
            logger.info("inner")
        logger.info("outer")
    logger.info("after")
    inner, outer, after = lines()
    assert (inner["execution_id"], inner["command_id"]) == ("7", "a/1/1")
    assert outer["execution_id"] == "7"
    assert "command_id" not in outer
    assert "execution_id" not in after


async def test_tasks_do_not_see_each_others_context(lines: Lines) -> None:
    async def work(name: str) -> None:
        with logs.log_context(command_id=name):
            await asyncio.sleep(0)
            logger.info("%s", name)

    await asyncio.gather(*(work(str(number)) for number in range(5)))
    assert all(line["command_id"] == line["message"] for line in lines())


def test_an_exception_comes_with_its_traceback(lines: Lines) -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("failed")
    (line,) = lines()
    assert line["level"] == "ERROR"
    assert line["exception_name"] == "ValueError"
    assert line["exception"].startswith("Traceback")
    assert "ValueError: broken" in line["exception"]


def test_secrets_are_masked_in_message_extras_and_traceback(lines: Lines) -> None:
    masking.register("s3cr3t-value")
    extra = {"password": "short", "deep": {"a": ["s3cr3t-value"]}, "error": ValueError("s3cr3t-value")}
    try:
        raise ValueError("s3cr3t-value")
    except ValueError:
        logger.exception("it is %s", "s3cr3t-value", extra=extra)
    (line,) = lines()
    assert line["message"] == "it is ***"
    assert line["password"] == "***"
    assert "s3cr3t-value" not in json.dumps(line)


def test_what_is_not_json_is_written_as_text(lines: Lines) -> None:
    logger.info("x", extra={"thing": ValueError("a"), "big": 2**80, "map": {1: "a"}})
    (line,) = lines()
    assert line["thing"] == "a"
    assert line["map"] == {"1": "a"}
    assert str(line["big"]) == str(2**80)


def test_a_text_of_many_lines_stays_one_line(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    # pytest's own handler would take the lone surrogate into its report, which cannot be sent as UTF-8
    ours = [handler for handler in root.handlers if isinstance(handler.formatter, logs.JsonFormatter)]
    monkeypatch.setattr(root, "handlers", ours)
    logger.info("a\nb\r\nc \ud800")
    assert len(lines()) == 1
