"""Cloud Tasks: queues and tasks. A queue's HTTP target counts for all its tasks."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Iterable
from datetime import timedelta
from urllib.parse import urlsplit

from google.cloud import tasks_v2

from .admin import admin_route, given
from .conditions import Target
from .delivery import Delivery
from .errors import AlreadyExists, InvalidArgument, NotFound, Unimplemented
from .messages import Form, Message, copy, has, moment, now, render, seconds, set_seconds, stamp
from .policies import Kind, Policies
from .project import Project, check_name
from .routes import Answer, Call, Route, page
from .service_accounts import ServiceAccounts
from .task_queue import TaskQueue

SERVICE = "cloudtasks"
KIND = Kind("cloudtasks.queues", ("cloudtasks",))

_State = tasks_v2.Queue.State
_View = tasks_v2.Task.View
_ALWAYS = tasks_v2.UriOverride.UriOverrideEnforceMode.ALWAYS
_QUEUE_ID = re.compile(r"[A-Za-z0-9-]{1,100}")
_TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,500}")
_OVERRIDES = "scheme host port path_override query_override uri_override_enforce_mode"
_QUEUE = Form(
    tasks_v2.Queue,
    " ".join(
        [
            "name",
            *(f"http_target.uri_override.{name}" for name in _OVERRIDES.split()),
            "http_target.http_method http_target.header_overrides http_target.oidc_token",
            "rate_limits.max_dispatches_per_second rate_limits.max_concurrent_dispatches retry_config",
        ]
    ),
    "state purge_time rate_limits.max_burst_size",
)
_REQUEST = "url http_method headers body oidc_token"
_CREATE = Form(
    tasks_v2.CreateTaskRequest,
    " ".join(
        [
            "response_view task.name task.schedule_time task.dispatch_deadline",
            *(f"task.http_request.{name}" for name in _REQUEST.split()),
        ]
    ),
    "parent task.create_time task.dispatch_count task.response_count task.first_attempt task.last_attempt task.view",
)
_RUN = Form(tasks_v2.RunTaskRequest, "response_view", "name")

_MAX_DISPATCHES_PER_SECOND = 500.0
_MAX_CONCURRENT_DISPATCHES = 5000
_MAX_DELAY = timedelta(days=30)
_MAX_TASK_BYTES = 2**20
_MAX_URL = 2083
# of an attempt, in seconds: what Google permits, and takes if nothing is said
_DEADLINES = (15.0, 1800.0)
_DEADLINE = 600.0
_WITH_BODY = (tasks_v2.HttpMethod.POST, tasks_v2.HttpMethod.PUT, tasks_v2.HttpMethod.PATCH)


class CloudTasks:
    def __init__(self, project: Project, policies: Policies, accounts: ServiceAccounts, delivery: Delivery) -> None:
        self._project = project
        self._policies = policies
        self._accounts = accounts
        self._delivery = delivery
        self._queues: dict[str, TaskQueue] = {}

    def names(self) -> list[str]:
        return list(self._queues)

    async def stop(self) -> None:
        for queue in self._queues.values():
            await queue.stop()

    def routes(self) -> Iterable[Route]:
        queues = "/v2/{parent=projects/*/locations/*}/queues"
        queue = "/v2/{name=projects/*/locations/*/queues/*}"
        tasks = "/v2/{parent=projects/*/locations/*/queues/*}/tasks"
        task = "/v2/{name=projects/*/locations/*/queues/*/tasks/*}"
        paging = ["pageSize", "pageToken"]
        yield Route(SERVICE, "createQueue", "POST", queues, self.create_queue)
        yield Route(SERVICE, "listQueues", "GET", queues, self.list_queues, paging)
        yield Route(SERVICE, "getQueue", "GET", queue, self.get_queue)
        yield Route(SERVICE, "updateQueue", "PATCH", queue, self.update_queue, ["updateMask"])
        yield Route(SERVICE, "deleteQueue", "DELETE", queue, self.delete_queue)
        yield Route(SERVICE, "pauseQueue", "POST", f"{queue}:pause", self.pause_queue)
        yield Route(SERVICE, "resumeQueue", "POST", f"{queue}:resume", self.resume_queue)
        yield Route(SERVICE, "purgeQueue", "POST", f"{queue}:purge", self.purge_queue)
        yield Route(SERVICE, "createTask", "POST", tasks, self.create_task)
        yield Route(SERVICE, "listTasks", "GET", tasks, self.list_tasks, ["responseView", *paging])
        yield Route(SERVICE, "getTask", "GET", task, self.get_task, ["responseView"])
        yield Route(SERVICE, "deleteTask", "DELETE", task, self.delete_task)
        yield Route(SERVICE, "runTask", "POST", f"{task}:run", self.run_task)
        yield from self._policies.routes(
            SERVICE,
            "/v2/{resource=projects/*/locations/*/queues/*}",
            KIND,
            self._queue,
            get_by="POST",
            options_in_query=False,
        )
        yield admin_route("POST", "{name=projects/*/locations/*/queues/*}:lose", self.lose)

    # -- queues

    async def create_queue(self, call: Call) -> Answer:
        self._policies.check(call.caller, "cloudtasks.queues.create", self._project.name)
        message = _QUEUE.parse(await call.document())
        name = self._project.by_id(message.name)
        check_name(name, f"{call.path['parent']}/queues", _QUEUE_ID)
        if name in self._queues:
            raise AlreadyExists("Queue already exists")
        message.name = name
        message.state = _State.RUNNING
        self._settle(message, call)
        self._queues[name] = TaskQueue(message, self._delivery)
        return render(message)

    async def list_queues(self, call: Call) -> Answer:
        self._policies.check(call.caller, "cloudtasks.queues.list", self._project.name)
        names = sorted(name for name in self._queues if name.startswith(f"{call.path['parent']}/"))
        found, more = page(names, call.query)
        return {"queues": [render(self._queues[name].message) for name in found], **more}

    async def get_queue(self, call: Call) -> Answer:
        return render(self._checked(call, "get").message)

    async def update_queue(self, call: Call) -> Answer:
        queue = self._checked(call, "update")
        changed = copy(queue.message)
        _QUEUE.update(changed, _QUEUE.parse(await call.document()), call.query.get("updateMask"))
        changed.name = queue.message.name
        self._settle(changed, call)
        queue.message.CopyFrom(changed)
        queue.notice_change()
        return render(queue.message)

    async def delete_queue(self, call: Call) -> Answer:
        queue = self._checked(call, "delete")
        del self._queues[queue.message.name]
        self._policies.drop(queue.message.name)
        await queue.stop()
        return {}

    async def pause_queue(self, call: Call) -> Answer:
        return await self._set_state(call, "pause", _State.PAUSED)

    async def resume_queue(self, call: Call) -> Answer:
        return await self._set_state(call, "resume", _State.RUNNING)

    async def purge_queue(self, call: Call) -> Answer:
        queue = self._checked(call, "purge")
        await call.expect_no_body()
        queue.purge()
        return render(queue.message)

    async def lose(self, call: Call) -> Answer:
        """The next N tasks are taken and then lost: `{"count": N}`. `{"left"}`: how many of the N before were not."""
        queue = self._queue(call.path["name"])
        left, queue.losses = queue.losses, int(await given(call, "count"))
        return {"left": left}

    # -- tasks

    async def create_task(self, call: Call) -> Answer:
        queue = self._of_queue(call, "create")
        document = await call.document()
        request = _CREATE.parse(document)
        task = request.task
        self._check_task(call, task)
        tasks = f"{queue.message.name}/tasks"
        if task.name:
            task.name = self._project.by_id(task.name)
            check_name(task.name, tasks, _TASK_ID)
            if queue.is_taken(task.name):
                raise AlreadyExists("The task cannot be created because a task with this name existed too recently.")
        else:
            task.name = f"{tasks}/{secrets.randbelow(9 * 10**18) + 10**18}"
        stamp(task.create_time)
        if not has(task, "schedule_time") or moment(task.schedule_time) < now():
            task.schedule_time.CopyFrom(task.create_time)
        queue.add(task)
        return self._view(call, task, request.response_view)

    async def list_tasks(self, call: Call) -> Answer:
        queue = self._of_queue(call, "list")
        tasks = sorted(queue.tasks(), key=lambda task: str(task.name))
        found, more = page(tasks, call.query, 1000)
        return {"tasks": [self._view(call, task, _view_of(call)) for task in found], **more}

    async def get_task(self, call: Call) -> Answer:
        return self._view(call, self._task(call, "get")[1], _view_of(call))

    async def delete_task(self, call: Call) -> Answer:
        queue, task = self._task(call, "delete")
        queue.delete(task.name)
        return {}

    async def run_task(self, call: Call) -> Answer:
        queue, task = self._task(call, "run")
        request = _RUN.parse(await call.document())
        queue.run(task.name)
        return self._view(call, task, request.response_view)

    # --

    def _settle(self, message: Message, call: Call) -> None:
        """Check what is given, and take Google's defaults for what is not."""
        limits, retry, target = message.rate_limits, message.retry_config, message.http_target
        limits.max_dispatches_per_second = limits.max_dispatches_per_second or _MAX_DISPATCHES_PER_SECOND
        limits.max_concurrent_dispatches = limits.max_concurrent_dispatches or 1000
        if not 0 < limits.max_dispatches_per_second <= _MAX_DISPATCHES_PER_SECOND:
            raise InvalidArgument("rate_limits.max_dispatches_per_second must be at most 500.")
        if not 0 < limits.max_concurrent_dispatches <= _MAX_CONCURRENT_DISPATCHES:
            raise InvalidArgument("rate_limits.max_concurrent_dispatches must be at most 5000.")
        limits.max_burst_size = max(1, math.ceil(limits.max_dispatches_per_second))
        retry.max_attempts = retry.max_attempts or 100
        retry.max_doublings = retry.max_doublings or 16
        for name, default in (("min_backoff", 0.1), ("max_backoff", 3600.0)):
            if not has(retry, name):
                set_seconds(getattr(retry, name), default)
        if retry.max_attempts < -1 or seconds(retry.min_backoff) > seconds(retry.max_backoff):
            raise InvalidArgument("retry_config is not valid.")
        override = target.uri_override
        if override.uri_override_enforce_mode not in (0, _ALWAYS):
            raise Unimplemented("The stand-in implements the URI override's mode ALWAYS only.")
        if has(override, "host") and not override.host:
            raise InvalidArgument("The host of a URI override cannot be empty.")
        if has(target, "oidc_token"):
            self._accounts.check_may_act_as(self._policies, call.caller, target.oidc_token.service_account_email)

    def _check_task(self, call: Call, task: Message) -> None:
        if not has(task, "http_request"):
            raise InvalidArgument("Task.http_request is required.")
        request = task.http_request
        if urlsplit(request.url).scheme not in ("http", "https") or len(request.url) > _MAX_URL:
            raise InvalidArgument("HttpRequest.url must start with 'http://' or 'https://' and have 2083 characters.")
        if request.body and request.http_method and request.http_method not in _WITH_BODY:
            raise InvalidArgument("HttpRequest.body is allowed only for POST, PUT and PATCH.")
        if task.ByteSize() > _MAX_TASK_BYTES:
            raise InvalidArgument("Task size too large: at most 1048576 bytes.")
        if has(task, "schedule_time") and moment(task.schedule_time) > now() + _MAX_DELAY:
            raise InvalidArgument("Task.schedule_time must be within 720h of now.")
        if not has(task, "dispatch_deadline"):
            set_seconds(task.dispatch_deadline, _DEADLINE)
        if not _DEADLINES[0] <= seconds(task.dispatch_deadline) <= _DEADLINES[1]:
            raise InvalidArgument("Task.dispatch_deadline must be between [15s, 30m].")
        if has(request, "oidc_token"):
            self._accounts.check_may_act_as(self._policies, call.caller, request.oidc_token.service_account_email)

    async def _set_state(self, call: Call, permission: str, state: int) -> Answer:
        queue = self._checked(call, permission)
        await call.expect_no_body()
        queue.message.state = state
        queue.notice_change()
        return render(queue.message)

    def _view(self, call: Call, task: Message, view: int) -> dict[str, object]:
        """Without the body, unless all is asked for, by somebody who may see it."""
        shown = copy(task)
        shown.view = view or _View.BASIC
        if view == _View.FULL:
            queue = task.name.partition("/tasks/")[0]
            self._policies.check(call.caller, "cloudtasks.tasks.fullView", queue, Target(task.name))
        else:
            shown.http_request.ClearField("body")
        return render(shown)

    def _checked(self, call: Call, permission: str) -> TaskQueue:
        self._policies.check(call.caller, f"cloudtasks.queues.{permission}", call.path["name"])
        return self._queue(call.path["name"])

    def _of_queue(self, call: Call, permission: str) -> TaskQueue:
        self._policies.check(call.caller, f"cloudtasks.tasks.{permission}", call.path["parent"])
        return self._queue(call.path["parent"])

    def _queue(self, name: str) -> TaskQueue:
        queue = self._queues.get(name)
        if queue is None:
            raise NotFound("Queue does not exist.")
        return queue

    def _task(self, call: Call, permission: str) -> tuple[TaskQueue, Message]:
        name = call.path["name"]
        queue_name = name.partition("/tasks/")[0]
        self._policies.check(call.caller, f"cloudtasks.tasks.{permission}", queue_name, Target(name))
        queue = self._queue(queue_name)
        task = queue.task(name)
        if task is None:
            raise NotFound("The task does not exist.")
        return queue, task


def _view_of(call: Call) -> int:
    asked = call.query.get("responseView", "0")
    if asked.isdigit():
        return int(asked)
    if asked not in _View.__members__:
        raise InvalidArgument(f"There is no view {asked}.")
    return int(_View.__members__[asked])
