"""One queue of Cloud Tasks: when each task is sent, where to, and what becomes of it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlsplit, urlunsplit

from google.cloud import tasks_v2

from .backoff import Backoff
from .delivery import Delivery, Identity, Reply
from .messages import Message, has, moment, seconds, stamp

_Method = tasks_v2.HttpMethod
_State = tasks_v2.Queue.State
_Scheme = tasks_v2.UriOverride.Scheme
# the name of a task that is done, or deleted, is free again after a day
_TOMBSTONE_SECONDS = 24 * 3600.0


@dataclass(slots=True)
class _Task:
    message: Message
    # when its retries began, seconds since the epoch
    first_attempt: float = 0.0
    previous: Reply | None = None
    # how many answers there were that were not the server's own failure
    executions: int = 0
    running: set[asyncio.Task[None]] = field(default_factory=set)


class TaskQueue:
    def __init__(self, message: Message, delivery: Delivery) -> None:
        self.message = message
        # so many of the next tasks are taken, and then lost
        self.losses = 0
        self._delivery = delivery
        self._tasks: dict[str, _Task] = {}
        self._tombstones: dict[str, float] = {}
        # (due, order, name); a task that was deleted, or scheduled anew, leaves its entry behind
        self._schedule: list[tuple[float, int, str]] = []
        self._order = itertools.count()
        self._sending: set[asyncio.Task[None]] = set()
        self._permits = float(message.rate_limits.max_burst_size)
        self._permits_at = time.monotonic()
        self._changed = asyncio.Event()
        self._loop = asyncio.create_task(self._run())

    async def stop(self) -> None:
        tasks = [self._loop, *self._sending]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- what is in it

    def is_taken(self, name: str) -> bool:
        return name in self._tasks or self._tombstones.get(name, 0.0) > time.time()

    def add(self, message: Message) -> None:
        if self.losses:
            self.losses -= 1
            return
        self._tasks[message.name] = _Task(message)
        self._plan(message)

    def task(self, name: str) -> Message | None:
        task = self._tasks.get(name)
        return task.message if task else None

    def tasks(self) -> list[Message]:
        return [task.message for task in self._tasks.values()]

    def delete(self, name: str) -> None:
        """An attempt under way goes on."""
        del self._tasks[name]
        self._tombstones[name] = time.time() + _TOMBSTONE_SECONDS

    def purge(self) -> None:
        for name in list(self._tasks):
            self.delete(name)
        stamp(self.message.purge_time)

    def run(self, name: str) -> None:
        """Send it now, whatever the limits say."""
        task = self._tasks[name]
        stamp(task.message.schedule_time)
        self._send(task)

    def notice_change(self) -> None:
        """The queue's settings or state are others."""
        self._changed.set()

    # -- when they are sent

    def _plan(self, message: Message) -> None:
        heapq.heappush(self._schedule, (moment(message.schedule_time).timestamp(), next(self._order), message.name))
        self._changed.set()

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            delay = self._send_due()
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._changed.wait()

    def _send_due(self) -> float | None:
        """Send what may be sent; seconds until there may be more, None if something else must happen first."""
        limits = self.message.rate_limits
        while self._schedule:
            due, _, name = self._schedule[0]
            task = self._tasks.get(name)
            if task is None or task.running or moment(task.message.schedule_time).timestamp() != due:
                heapq.heappop(self._schedule)
                continue
            if self.message.state != _State.RUNNING or len(self._sending) >= limits.max_concurrent_dispatches:
                return None
            if (wait := due - time.time()) > 0:
                return wait
            if (wait := self._until_permit()) > 0:
                return wait
            self._permits -= 1
            heapq.heappop(self._schedule)
            self._send(task)
        return None

    def _until_permit(self) -> float:
        """The token bucket of the queue's rate limit."""
        limits = self.message.rate_limits
        at = time.monotonic()
        grown = self._permits + (at - self._permits_at) * limits.max_dispatches_per_second
        self._permits, self._permits_at = min(grown, float(limits.max_burst_size)), at
        return max(0.0, (1 - self._permits) / float(limits.max_dispatches_per_second))

    def _send(self, task: _Task) -> None:
        attempt = asyncio.create_task(self._attempt(task))
        task.running.add(attempt)
        self._sending.add(attempt)
        attempt.add_done_callback(lambda done: self._on_end(task, done))

    def _on_end(self, task: _Task, attempt: asyncio.Task[None]) -> None:
        task.running.discard(attempt)
        self._sending.discard(attempt)
        if self._tasks.get(task.message.name) is task:
            self._plan(task.message)
        self._changed.set()

    # -- one attempt

    async def _attempt(self, task: _Task) -> None:
        message = task.message
        message.dispatch_count += 1
        task.first_attempt = task.first_attempt or time.time()
        attempt = message.last_attempt
        attempt.Clear()
        attempt.schedule_time.CopyFrom(message.schedule_time)
        stamp(attempt.dispatch_time)
        if message.dispatch_count == 1:
            message.first_attempt.dispatch_time.CopyFrom(attempt.dispatch_time)
        url = self._url(message.http_request.url)
        reply = await self._delivery.send(
            self._method(message).name,
            url,
            self._headers(task),
            message.http_request.body,
            self._identity(message, url),
            seconds(message.dispatch_deadline),
        )
        if self._tasks.get(message.name) is not task:
            return
        if reply.status is not None:
            message.response_count += 1
            stamp(attempt.response_time)
        attempt.response_status.code = reply.code
        attempt.response_status.message = reply.message
        if reply.is_success or self._is_exhausted(task):
            self.delete(message.name)
            return
        task.previous = reply
        task.executions += reply.status is not None and reply.status < 500
        retry = self.message.retry_config
        backoff = Backoff(seconds(retry.min_backoff), seconds(retry.max_backoff), retry.max_doublings)
        wait = max(backoff.before_retry(message.dispatch_count), reply.retry_after)
        stamp(message.schedule_time, datetime.fromtimestamp(time.time() + wait, UTC))

    def _is_exhausted(self, task: _Task) -> bool:
        retry = self.message.retry_config
        if retry.max_attempts < 0 or task.message.dispatch_count < retry.max_attempts:
            return False
        duration = seconds(retry.max_retry_duration)
        return not duration or time.time() - task.first_attempt >= duration

    def _url(self, url: str) -> str:
        """The queue's override has the last word."""
        override = self.message.http_target.uri_override
        parts = urlsplit(url)
        host, port, scheme, path, query = parts.hostname, parts.port, parts.scheme, parts.path, parts.query
        if not has(self.message.http_target, "uri_override"):
            return url
        if has(override, "scheme"):
            scheme = "http" if override.scheme == _Scheme.HTTP else "https"
        if has(override, "host"):
            host = override.host
        if has(override, "port"):
            port = override.port
        if has(override, "path_override"):
            path = override.path_override.path
        if has(override, "query_override"):
            query = override.query_override.query_params
        return urlunsplit((scheme, f"{host}:{port}" if port else host or "", path, query, ""))

    def _method(self, message: Message) -> tasks_v2.HttpMethod:
        return _Method(self.message.http_target.http_method or message.http_request.http_method or _Method.POST)

    def _identity(self, message: Message, url: str) -> Identity | None:
        for target in (self.message.http_target, message.http_request):
            if has(target, "oidc_token"):
                return Identity(target.oidc_token.service_account_email, target.oidc_token.audience or url)
        return None

    def _headers(self, task: _Task) -> dict[str, str]:
        message = task.message
        headers = {name.title(): value for name, value in message.http_request.headers.items()}
        for override in self.message.http_target.header_overrides:
            headers[override.header.key.title()] = override.header.value
        headers["User-Agent"] = "Google-Cloud-Tasks"
        headers["X-CloudTasks-QueueName"] = self.message.name.rpartition("/")[2]
        headers["X-CloudTasks-TaskName"] = message.name.rpartition("/")[2]
        headers["X-CloudTasks-TaskRetryCount"] = str(message.dispatch_count - 1)
        headers["X-CloudTasks-TaskExecutionCount"] = str(task.executions)
        headers["X-CloudTasks-TaskETA"] = f"{moment(message.schedule_time).timestamp():.6f}"
        if task.previous is not None:
            if task.previous.status is not None:
                headers["X-CloudTasks-TaskPreviousResponse"] = str(task.previous.status)
            headers["X-CloudTasks-TaskRetryReason"] = task.previous.message
        return headers
