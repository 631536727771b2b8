"""One job of Cloud Scheduler: when it is due, and its attempts."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import datetime
from zoneinfo import ZoneInfo

from croniter import croniter
from google.cloud import scheduler_v1

from .backoff import Backoff
from .delivery import Delivery, Identity
from .messages import Message, has, moment, now, seconds, stamp

_State = scheduler_v1.Job.State
_Method = scheduler_v1.HttpMethod


class ScheduledJob:
    """`message` as the API shows it. Never two runs of one job at a time: what is due meanwhile is left out."""

    def __init__(self, message: Message, delivery: Delivery) -> None:
        self.message = message
        # set while no job may tick
        self.is_held = False
        self._delivery = delivery
        self._changed = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._plan(now())
        self._loop = asyncio.create_task(self._tick())

    async def stop(self) -> None:
        tasks = [task for task in (self._loop, self._running) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def notice_change(self) -> None:
        """Its schedule may be another."""
        self._plan(now())
        self._changed.set()

    def run(self) -> None:
        """Now, unless it runs already."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run(now()))

    def _plan(self, after: datetime) -> None:
        zone = ZoneInfo(self.message.time_zone)
        stamp(self.message.schedule_time, croniter(self.message.schedule, after.astimezone(zone)).get_next(datetime))

    async def _tick(self) -> None:
        while True:
            self._changed.clear()
            due = moment(self.message.schedule_time)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, (due - now()).total_seconds())):
                    await self._changed.wait()
                continue
            # a timer may be early by a little, and the next time must be another
            self._plan(max(due, now()))
            if self.message.state == _State.ENABLED and not self.is_held:
                self.run()

    async def _run(self, due: datetime) -> None:
        retry = self.message.retry_config
        backoff = Backoff(seconds(retry.min_backoff_duration), seconds(retry.max_backoff_duration), retry.max_doublings)
        began, attempts = time.time(), 0
        while not await self._attempt(due):
            attempts += 1
            pause = backoff.before_retry(attempts)
            if not self._may_retry(attempts, began, pause):
                return
            await asyncio.sleep(pause)

    def _may_retry(self, attempts: int, began: float, pause: float) -> bool:
        """Until both limits are reached, but never beyond the next time that it is due."""
        retry = self.message.retry_config
        duration = seconds(retry.max_retry_duration)
        is_exhausted = attempts > retry.retry_count and (not duration or time.time() - began >= duration)
        is_next_due = time.time() + pause >= moment(self.message.schedule_time).timestamp()
        return bool(retry.retry_count) and not is_exhausted and not is_next_due

    async def _attempt(self, due: datetime) -> bool:
        target = self.message.http_target
        stamp(self.message.last_attempt_time)
        reply = await self._delivery.send(
            _Method(target.http_method or _Method.POST).name,
            target.uri,
            self._headers(due),
            target.body,
            self._identity(),
            seconds(self.message.attempt_deadline),
        )
        self.message.status.code = reply.code
        self.message.status.message = "" if reply.is_success else reply.message
        return reply.is_success

    def _identity(self) -> Identity | None:
        target = self.message.http_target
        if not has(target, "oidc_token"):
            return None
        return Identity(target.oidc_token.service_account_email, target.oidc_token.audience or target.uri)

    def _headers(self, due: datetime) -> dict[str, str]:
        return {
            "Content-Type": "application/octet-stream",
            **{name.title(): value for name, value in self.message.http_target.headers.items()},
            "User-Agent": "Google-Cloud-Scheduler",
            "X-CloudScheduler": "true",
            "X-CloudScheduler-JobName": self.message.name.rpartition("/")[2],
            "X-CloudScheduler-ScheduleTime": due.isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
