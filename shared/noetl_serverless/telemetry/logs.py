"""Structured logs: one JSON object a line, in the shape of Powertools for AWS Lambda."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

import orjson

from .masking import Masking, masking

_context: ContextVar[Mapping[str, Any]] = ContextVar("noetl_log_context", default={})  # noqa: B039
# the service that logs, where several share a process
_service: ContextVar[str | None] = ContextVar("noetl_log_service", default=None)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# a line names none of these, and each takes a while to find out
logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


class JsonFormatter(logging.Formatter):
    """level, location, message, timestamp, service, cold_start, function_name; then context and extras."""

    def __init__(self, service: str, function_name: str, secrets: Masking = masking) -> None:
        super().__init__()
        self._service = service
        self._function_name = function_name
        self._secrets = secrets
        self.cold_start = True

    def format(self, record: logging.LogRecord) -> str:
        service = _service.get()
        entry: dict[str, Any] = {
            "level": record.levelname,
            "location": f"{record.funcName}:{record.lineno}",
            "message": record.getMessage(),
            "timestamp": _timestamp(record.created),
            "service": service or self._service,
            "cold_start": self.cold_start,
            "function_name": service or self._function_name,
            "logger": record.name,
            **_context.get(),
        }
        for key, value in vars(record).items():
            if key not in _STANDARD:
                entry[key] = value
        if record.exc_info and record.exc_info[0] is not None:
            entry["exception_name"] = record.exc_info[0].__name__
            entry["exception"] = "".join(traceback.format_exception(*record.exc_info))
        masked = self._secrets.tree(entry)
        try:
            return orjson.dumps(masked, default=self._text, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError:
            # orjson refuses half a surrogate pair and a number of 80 bits; the line must not be lost for that
            return json.dumps(masked, default=self._text, skipkeys=True)

    def _text(self, value: object) -> str:
        return self._secrets.text(str(value))


def setup(
    service: str, level: str = "INFO", *, function_name: str | None = None, stream: TextIO | None = None
) -> JsonFormatter:
    """Send every log record of this process to `stream` (stderr) as JSON, and nowhere else."""
    formatter = JsonFormatter(service, function_name or service)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("urllib3", "botocore", "nats", "asyncio", "uvicorn.access", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return formatter


def end_cold_start() -> None:
    """Set `cold_start` to false: this process has served a request."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, JsonFormatter):
            handler.formatter.cold_start = False


@contextmanager
def log_service(service: str) -> Iterator[None]:
    """Whatever this task and its children log inside is logged by this service."""
    token = _service.set(service)
    try:
        yield
    finally:
        _service.reset(token)


@contextmanager
def log_context(**values: Any) -> Iterator[None]:
    """Add `values` (execution_id, command_id, ...) to all that this task and its children log inside."""
    token = _context.set({**_context.get(), **values})
    try:
        yield
    finally:
        _context.reset(token)


def _timestamp(created: float) -> str:
    whole, fraction = divmod(created, 1)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int(fraction * 1000):03d}Z"
