"""Cloud Scheduler: jobs that send an HTTP request whenever their schedule says."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterError, croniter
from google.cloud import scheduler_v1

from .admin import admin_route
from .delivery import Delivery
from .errors import AlreadyExists, InvalidArgument, NotFound
from .messages import Form, Message, copy, has, render, seconds, set_seconds, stamp
from .policies import Policies
from .project import Project, check_name
from .routes import Answer, Call, Route, page
from .scheduled_job import ScheduledJob
from .service_accounts import ServiceAccounts

SERVICE = "cloudscheduler"

_State = scheduler_v1.Job.State
_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,500}")
_TARGET = "uri http_method headers body oidc_token"
_JOB = Form(
    scheduler_v1.Job,
    " ".join(
        [
            "name description schedule time_zone retry_config attempt_deadline",
            *(f"http_target.{name}" for name in _TARGET.split()),
        ]
    ),
    "user_update_time state status schedule_time last_attempt_time",
)
_EMPTY = Form(scheduler_v1.RunJobRequest, "", "name")
# seconds: what Google permits for an attempt, and takes if nothing is said
_DEADLINES, _DEADLINE = (15.0, 1800.0), 180.0
_BACKOFF = {"min_backoff_duration": 5.0, "max_backoff_duration": 3600.0}
_DOUBLINGS, _MAX_RETRIES = 5, 5


class CloudScheduler:
    def __init__(self, project: Project, policies: Policies, accounts: ServiceAccounts, delivery: Delivery) -> None:
        self._project = project
        self._policies = policies
        self._accounts = accounts
        self._delivery = delivery
        self._jobs: dict[str, ScheduledJob] = {}
        self._is_held = False

    def names(self) -> list[str]:
        return list(self._jobs)

    async def stop(self) -> None:
        for job in self._jobs.values():
            await job.stop()

    def routes(self) -> Iterable[Route]:
        jobs, job = "/v1/{parent=projects/*/locations/*}/jobs", "/v1/{name=projects/*/locations/*/jobs/*}"
        yield Route(SERVICE, "createJob", "POST", jobs, self.create)
        yield Route(SERVICE, "listJobs", "GET", jobs, self.list, ["pageSize", "pageToken"])
        yield Route(SERVICE, "getJob", "GET", job, self.get)
        yield Route(SERVICE, "updateJob", "PATCH", job, self.update, ["updateMask"])
        yield Route(SERVICE, "deleteJob", "DELETE", job, self.delete)
        yield Route(SERVICE, "pauseJob", "POST", f"{job}:pause", self.pause)
        yield Route(SERVICE, "resumeJob", "POST", f"{job}:resume", self.resume)
        yield Route(SERVICE, "runJob", "POST", f"{job}:run", self.run)
        yield admin_route("POST", "scheduler:hold", self.hold)
        yield admin_route("POST", "scheduler:release", self.release)

    async def create(self, call: Call) -> Answer:
        self._policies.check(call.caller, "cloudscheduler.jobs.create", self._project.name)
        message = _JOB.parse(await call.document())
        name = self._project.by_id(message.name)
        check_name(name, f"{call.path['parent']}/jobs", _JOB_ID)
        if name in self._jobs:
            raise AlreadyExists(f"Job [{name}] already exists.")
        message.name = name
        message.state = _State.ENABLED
        self._settle(message, call)
        job = ScheduledJob(message, self._delivery)
        job.is_held = self._is_held
        self._jobs[name] = job
        return render(message)

    async def list(self, call: Call) -> Answer:
        self._policies.check(call.caller, "cloudscheduler.jobs.list", self._project.name)
        names = sorted(name for name in self._jobs if name.startswith(f"{call.path['parent']}/"))
        found, more = page(names, call.query)
        return {"jobs": [render(self._jobs[name].message) for name in found], **more}

    async def get(self, call: Call) -> Answer:
        return render(self._checked(call, "get").message)

    async def update(self, call: Call) -> Answer:
        job = self._checked(call, "update")
        changed = copy(job.message)
        _JOB.update(changed, _JOB.parse(await call.document()), call.query.get("updateMask"))
        changed.name = job.message.name
        self._settle(changed, call)
        job.message.CopyFrom(changed)
        job.notice_change()
        return render(job.message)

    async def delete(self, call: Call) -> Answer:
        job = self._checked(call, "delete")
        del self._jobs[job.message.name]
        await job.stop()
        return {}

    async def pause(self, call: Call) -> Answer:
        return await self._set_state(call, "pause", _State.PAUSED)

    async def resume(self, call: Call) -> Answer:
        return await self._set_state(call, "enable", _State.ENABLED)

    async def run(self, call: Call) -> Answer:
        job = self._checked(call, "run")
        _EMPTY.parse(await call.document())
        job.run()
        return render(job.message)

    # -- for tests

    async def hold(self, call: Call) -> Answer:
        """No job ticks, as when Cloud Scheduler is down; their states stay as they are. The names of those."""
        return await self._hold(call, True)

    async def release(self, call: Call) -> Answer:
        return await self._hold(call, False)

    async def _hold(self, call: Call, is_held: bool) -> Answer:
        await call.expect_no_body()
        self._is_held = is_held
        for job in self._jobs.values():
            job.is_held = is_held
        return {"held": [name for name, job in self._jobs.items() if job.is_held]}

    # --

    def _settle(self, message: Message, call: Call) -> None:
        """Check what is given, and take Google's defaults for what is not."""
        target, retry = message.http_target, message.retry_config
        if urlsplit(target.uri).scheme not in ("http", "https"):
            raise InvalidArgument("HttpTarget.uri must start with 'http://' or 'https://'.")
        message.time_zone = message.time_zone or "Etc/UTC"
        try:
            ZoneInfo(message.time_zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise InvalidArgument(f"Time zone {message.time_zone} is unknown.") from None
        try:
            croniter(message.schedule)
        except CroniterError as error:
            raise InvalidArgument(f"Schedule or time zone is invalid: {error}") from None
        if len(message.schedule.split()) != 5:
            raise InvalidArgument("Schedule or time zone is invalid: a schedule has five fields.")
        if not has(message, "attempt_deadline"):
            set_seconds(message.attempt_deadline, _DEADLINE)
        if not _DEADLINES[0] <= seconds(message.attempt_deadline) <= _DEADLINES[1]:
            raise InvalidArgument("Job.attempt_deadline must be between [15s, 30m].")
        if not 0 <= retry.retry_count <= _MAX_RETRIES:
            raise InvalidArgument("RetryConfig.retry_count must be between 0 and 5.")
        retry.max_doublings = retry.max_doublings or _DOUBLINGS
        for name, default in _BACKOFF.items():
            if not has(retry, name):
                set_seconds(getattr(retry, name), default)
        if has(target, "oidc_token"):
            self._accounts.check_may_act_as(self._policies, call.caller, target.oidc_token.service_account_email)
        stamp(message.user_update_time)

    async def _set_state(self, call: Call, permission: str, state: int) -> Answer:
        job = self._checked(call, permission)
        _EMPTY.parse(await call.document())
        job.message.state = state
        return render(job.message)

    def _checked(self, call: Call, permission: str) -> ScheduledJob:
        self._policies.check(call.caller, f"cloudscheduler.jobs.{permission}", self._project.name)
        job = self._jobs.get(call.path["name"])
        if job is None:
            raise NotFound("Job not found.")
        return job
