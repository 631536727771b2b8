"""A deployment on stand-ins for Google Cloud, created, used and destroyed: `make gcp` runs this.

python -m tests.infra.google_journey           all steps
python -m tests.infra.google_journey --stay    stays up before the last step, until Ctrl-C, and then destroys
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from google.cloud.run_v2 import ServicesClient
from google.cloud.scheduler_v1 import CloudSchedulerClient
from google.cloud.tasks_v2 import CloudTasksClient
from google.pubsub_v1 import PublisherClient
from localstack import steps, triggers
from localstack.cloud_journey import EVENT, CloudJourney
from localstack.packages import repacked
from tests.infra.fake_provider.configuration import provider
from tests.infra.google_cloud.standin import PROJECT, REGION
from tests.infra.google_deployment import BUCKET, CLOSED, OPERATOR, ORDERS, GoogleDeployment

PLACE = f"projects/{PROJECT}/locations/{REGION}"
FAST_TICK = 3.0


class Journey(CloudJourney[GoogleDeployment]):
    def start(self) -> str:
        self.deployment.start_servers()
        return f"stand-ins for Google's APIs at {self.deployment.standin.url}, PostgreSQL and NATS beside them"

    def apply(self) -> str:
        said = self.deployment.apply().text
        lines = [line for line in said.splitlines() if line.startswith("Apply complete!")]
        return "; ".join(line.split(".")[0].removeprefix("Apply complete! ") for line in lines)

    def migrate(self) -> str:
        """The apply has done it already, so that another finds nothing to do."""
        done = json.loads(self.deployment.deploy("migrate", "--json").out)
        assert (done["secrets"], done["migrations"]) == ([], []), done
        return "nothing is left to do"

    def callers(self) -> str:
        """Nobody but those whom Terraform names reaches a function behind the gateway."""
        functions = self.deployment.outputs()["functions"]
        for name, function in functions.items():
            status = requests.get(f"{function['url']}/livez", timeout=60).status_code
            assert status == (200 if name == "gateway" else 403), (name, status)
        named, unnamed = (self.deployment.smoke_as(email) for email in (OPERATOR, "bob@example.org"))
        assert named.status == 0, named.text
        assert unnamed.status != 0 and "you cannot act as" in unnamed.text, unnamed.text
        return f"{len(functions) - 1} functions refuse callers that Terraform does not name, and bob is no operator"

    def results(self) -> str:
        keys = [blob.name for blob in self.deployment.storage().list_blobs(self.deployment.outputs()["result_bucket"])]
        assert keys and all(key.startswith("results/") for key in keys), keys
        return f"{len(keys)} objects"

    def events(self) -> str:
        """With its clock stopped and its notification lost, a step waits until an object is written."""
        scheduler, clock = self.clock()
        scheduler.pause_job(name=clock)
        try:
            with self.without_tasks("shared") as lost:
                started = self.gateway.ask("POST", "execute", {"path": "examples/hello", "payload": {}})
                time.sleep(3)
                state = self.gateway.ask("GET", f"executions/{started['execution_id']}")
            assert lost() and state["status"] == "RUNNING", (lost(), state)
            bucket = self.deployment.storage().bucket(self.deployment.outputs()["result_bucket"])
            began = time.monotonic()
            bucket.blob("results/written-by-somebody").upload_from_string(b"x")
            state = self.gateway.wait(started["execution_id"], EVENT)
            assert state["status"] == "COMPLETED", state
            bucket.blob("results/written-by-somebody").delete()
        finally:
            scheduler.resume_job(name=clock)
        return f"{time.monotonic() - began:.1f} s after an object was written, without the clock"

    def triggers(self) -> str:
        """What is published to the deployment's topic, and to somebody else's, is delivered three times."""
        scheduler, clock = self.clock()
        subscriptions = f"projects/{PROJECT}/subscriptions"
        said = triggers.check(
            self.gateway,
            triggers.Sources(
                url=f"gs://{BUCKET}/in/",
                queue={"source": "pubsub", "subscription": f"{subscriptions}/{ORDERS}"},
                closed={"source": "pubsub", "subscription": f"{subscriptions}/{CLOSED}"},
                write=self._write,
                send=self._send,
                tick=lambda: scheduler.run_job(name=clock),
            ),
        )
        deadline = time.monotonic() + EVENT
        while (acknowledged := self._calls("acknowledge")) < triggers.TIMES and time.monotonic() < deadline:
            scheduler.run_job(name=clock)
            time.sleep(0.5)
        assert acknowledged == triggers.TIMES, f"the message was acknowledged {acknowledged} times"
        return said

    def _calls(self, method: str) -> int:
        """Of Pub/Sub."""
        return int(self.deployment.standin.admin("GET", "calls")["pubsub"].get(method, 0))

    def _write(self, name: str) -> None:
        self.deployment.standin.admin("POST", f"{self.deployment.outputs()['topic']}:repeat", {"count": 1})
        self.deployment.storage().bucket(BUCKET).blob(name).upload_from_string(b"x")

    def _send(self, content: bytes) -> None:
        topic = f"projects/{PROJECT}/topics/{ORDERS}"
        self.deployment.standin.admin("POST", f"{topic}:repeat", {"count": 1})
        publisher: Any = self.deployment.standin.client(PublisherClient)
        publisher.publish(topic=topic, messages=[{"data": content}])

    def drift(self) -> str:
        """Manual changes are detected and reverted. Without the right to call the control plane the gateway is not
        ready."""
        tasks = self.deployment.standin.client(CloudTasksClient)
        queue = tasks.get_queue(name=self.queue("shared"))
        queue.rate_limits.max_concurrent_dispatches = 77
        tasks.update_queue(queue=queue, update_mask={"paths": ["rate_limits.max_concurrent_dispatches"]})
        self._take_away("gateway", "control_plane")
        assert not self.gateway.is_ready(), "the gateway reached the control plane without a permission"
        changes = self.deployment.changes()
        assert sorted(changes) == [
            ('module.api["control_plane"].google_cloud_run_v2_service_iam_member.caller["gateway"]', ["create"]),
            ('module.queue["shared"].google_cloud_tasks_queue.this', ["update"]),
        ], changes
        self.deployment.apply()
        assert self.deployment.changes() == []
        assert self.gateway.is_ready()
        return "a queue and a policy changed by hand were seen and put right"

    def _take_away(self, caller: str, called: str) -> None:
        """The right of one function to call another."""
        functions = self.deployment.outputs()["functions"]
        services: Any = self.deployment.standin.client(ServicesClient)
        resource = f"{PLACE}/services/{functions[called]['name']}"
        policy = services.get_iam_policy(request={"resource": resource})
        member = f"serviceAccount:{functions[caller]['account']}"
        for binding in policy.bindings:
            if member in binding.members:
                binding.members.remove(member)
        services.set_iam_policy(request={"resource": resource, "policy": policy})

    def code_change(self) -> str:
        before = self.deployment.outputs()["builds"]["requests"]
        changed = self.deployment.home / "changed"
        self.deployment.use_packages(
            repacked(self.deployment.packages, "reconciler", changed, "changed.txt", "a change\n")
        )
        self.deployment.apply()
        after = self.deployment.outputs()["builds"]["requests"]
        built = [image.rpartition("/")[2].partition(":")[0] for image in after if image not in before]
        assert built == ["reconciler"], built
        assert self.deployment.changes() == []
        return "only the reconciler got a new image"

    def existing(self) -> dict[str, list[str]]:
        found = self.deployment.standin.admin("GET", "resources")
        # of a bucket of somebody else's, the notification is the deployment's
        ours = {
            kind: [name for name in names if kind == "notifications" or "servers-" not in name]
            for kind, names in found.items()
        }
        return {kind: names for kind, names in ours.items() if names}

    def kill_workers(self) -> int:
        """End the instances of the pool `shared` as a crash of their machines does; returns how many there were."""
        name = f"{PLACE}/services/{self.deployment.outputs()['functions']['worker']['name']}"
        found = self.deployment.standin.admin("GET", "instances")["instances"]
        pids = [one["pid"] for one in found if one["service"] == name]
        for pid in pids:
            self.deployment.standin.admin("POST", f"instances/{pid}:kill", {})
        return len(pids)

    @contextmanager
    def without_tasks(self, pool: str) -> Iterator[Callable[[], int]]:
        """While it lasts, the tasks that are added to the pool's queue are lost; what is yielded counts them."""
        path, count = f"{self.queue(pool)}:lose", 10_000
        self.deployment.standin.admin("POST", path, {"count": count})
        lost = 0
        try:
            yield lambda: lost
        finally:
            lost = count - int(self.deployment.standin.admin("POST", path, {"count": 0})["left"])

    @contextmanager
    def fast_clock(self) -> Iterator[None]:
        """While it lasts, the clock also ticks every few seconds, by hand."""
        scheduler, clock = self.clock()
        ended = threading.Event()

        def tick() -> None:
            while not ended.wait(FAST_TICK):
                scheduler.run_job(name=clock)

        ticking = threading.Thread(target=tick)
        ticking.start()
        try:
            yield
        finally:
            ended.set()
            ticking.join()

    def clock(self) -> tuple[CloudSchedulerClient, str]:
        """The client, and the name of the job."""
        scheduler: CloudSchedulerClient = self.deployment.standin.client(CloudSchedulerClient)
        return scheduler, next(iter(scheduler.list_jobs(parent=PLACE))).name

    def queue(self, pool: str) -> str:
        queue: str = self.deployment.outputs()["queues"][pool]
        return queue

    def steps(self) -> list[steps.Step]:
        """All steps in order, each with its name."""
        return [
            ("start", self.start),
            ("terraform init", self.init),
            ("terraform apply, with the images before it and the migration after it", self.apply),
            ("migrate", self.migrate),
            ("smoke", self.smoke),
            ("callers", self.callers),
            ("the flagship, through the gateway", self.flagship),
            ("a fan-out, through the gateway", self.fan_out),
            ("results in GCS", self.results),
            ("a schedule, by Cloud Scheduler", self.schedule),
            ("events", self.events),
            ("triggers", self.triggers),
            ("second apply", self.second_apply),
            ("drift", self.drift),
            ("a change of code", self.code_change),
            ("terraform destroy", self.destroy),
        ]


def main(stays: bool) -> int:
    with tempfile.TemporaryDirectory(prefix="noetl-google-") as folder:
        deployment = GoogleDeployment(Path(folder), provider=provider())
        print(f"everything is in {folder}")
        return Journey(deployment).run(stays)


if __name__ == "__main__":
    sys.exit(main("--stay" in sys.argv[1:]))
