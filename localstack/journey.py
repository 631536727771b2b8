"""A deployment created, used and destroyed, in steps that `make localstack` shows and the tests check."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from localstack import triggers
from localstack.cloud_journey import EVENT, CloudJourney
from localstack.emulated import CLOSED, ORDERS, Emulated
from localstack.emulator import ACCOUNT, REGION, Emulator
from localstack.packages import repacked

BROKEN = """
def function(event, context):
    raise RuntimeError("this version cannot migrate")
"""


class Journey(CloudJourney[Emulated]):
    def start(self) -> str:
        self.deployment.start_servers()
        return f"the emulator at {self.deployment.emulator.url}, PostgreSQL and NATS beside it"

    def apply(self) -> str:
        said = self.deployment.apply().text
        migration = self.deployment.outputs()["migration"]
        assert migration["migrations"] and "token_key" in migration["secrets"], migration
        line = next(line for line in said.splitlines() if line.startswith("Apply complete!"))
        return f"{line.split('.')[0].removeprefix('Apply complete! ')}..., {len(migration['migrations'])} migrations"

    def direct(self) -> str:
        """The flagship's calls over HTTP ran in the pool whose workers are direct."""
        users = self.deployment.database_users()
        assert users == {"noetl", "noetl_worker"}, users
        role = self.deployment.outputs()["functions"]["worker_calls"]["name"]
        iam = self.deployment.emulator.client("iam")
        policy = iam.get_role_policy(RoleName=role, PolicyName="function")["PolicyDocument"]
        secrets = [arn for one in policy["Statement"] if one["Sid"] == "ReadSecrets" for arn in one["Resource"]]
        assert any("database_role" in arn for arn in secrets), secrets
        assert not any("keys" in arn or "token_key" in arn or "servers/database" in arn for arn in secrets), secrets
        return f"{role} works as noetl_worker, and reads no secret but its own and NATS's"

    def results(self) -> str:
        bucket = self.deployment.outputs()["result_bucket"]
        found = self.deployment.emulator.client("s3").list_objects_v2(Bucket=bucket)
        keys = [entry["Key"] for entry in found.get("Contents", ())]
        assert keys and all(key.startswith("results/") for key in keys), keys
        return f"{len(keys)} objects in {bucket}"

    def events(self) -> str:
        """With its clock stopped and its notification lost, a step waits until an object is written."""
        outputs, s3 = self.deployment.outputs(), self.deployment.emulator.client("s3")
        written = {"Bucket": outputs["result_bucket"], "Key": "results/written-by-somebody"}
        with self._without_clock(outputs["functions"]["reconciler"]["name"]):
            with self._without_mapping(outputs["queues"]["shared"]["arn"]):
                started = self.gateway.ask("POST", "execute", {"path": "examples/hello", "payload": {}})
                self.deployment.emulator.client("sqs").purge_queue(QueueUrl=outputs["queues"]["shared"]["url"])
            time.sleep(3)
            state = self.gateway.ask("GET", f"executions/{started['execution_id']}")
            assert state["status"] == "RUNNING", "its notification was lost, and yet it has ended"
            began = time.monotonic()
            s3.put_object(**written, Body=b"x")
            state = self.gateway.wait(started["execution_id"], EVENT)
            assert state["status"] == "COMPLETED", state
            s3.delete_object(**written)
        return f"{time.monotonic() - began:.1f} s after an object was written, without the clock"

    def triggers(self) -> str:
        """What S3 says of an object is said three times; of the messages of one id, three are sent."""
        sqs, functions = (self.deployment.emulator.client(service) for service in ("sqs", "lambda"))
        reconciler = self.deployment.outputs()["functions"]["reconciler"]["name"]
        queue = sqs.get_queue_url(QueueName=ORDERS)["QueueUrl"]

        def send(content: bytes) -> None:
            for _ in range(triggers.TIMES):
                sqs.send_message(QueueUrl=queue, MessageBody=content.decode())

        def tick() -> None:
            # as many as may be there at once are under way
            with suppress(functions.exceptions.TooManyRequestsException):
                functions.invoke(FunctionName=reconciler, Payload=json.dumps({"noetl": "tick"}))

        return triggers.check(
            self.gateway,
            triggers.Sources(
                url=f"s3://{ORDERS}/in/",
                queue={"source": "sqs", "queue": ORDERS, "id": "{{ event.data.n }}"},
                closed={"source": "sqs", "queue": CLOSED},
                write=self._write,
                send=send,
                tick=tick,
            ),
        )

    def _write(self, name: str) -> None:
        """An object of a bucket whose owner lets it notify the topic, of which a queue gets a copy that is published
        again."""
        s3, sns, sqs = (self.deployment.emulator.client(service) for service in ("s3", "sns", "sqs"))
        topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:{self.deployment.outputs()['prefix']}-events"
        arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:servers-copies"
        sends = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
        policy = {"Version": "2012-10-17", "Statement": [{**sends, "Resource": arn}]}
        attributes = {"Policy": json.dumps(policy)}
        copies = sqs.create_queue(QueueName="servers-copies", Attributes=attributes)["QueueUrl"]
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        configuration = {"TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}]}
        s3.put_bucket_notification_configuration(Bucket=ORDERS, NotificationConfiguration=configuration)
        s3.put_object(Bucket=ORDERS, Key=name, Body=b"x")
        deadline = time.monotonic() + EVENT
        while time.monotonic() < deadline:
            for copy in sqs.receive_message(QueueUrl=copies, WaitTimeSeconds=1).get("Messages", ()):
                message = json.loads(copy["Body"])["Message"]
                if name in message:
                    for _ in range(triggers.TIMES - 1):
                        sns.publish(TopicArn=topic, Message=message)
                    return
        raise AssertionError(f"S3 has said nothing of {name} in {EVENT:g} s")

    @contextmanager
    def _without_clock(self, schedule: str) -> Iterator[None]:
        scheduler = self.deployment.emulator.client("scheduler")
        found = scheduler.get_schedule(Name=schedule)
        given = ("Name", "Description", "ScheduleExpression", "FlexibleTimeWindow", "Target", "KmsKeyArn")
        same = {name: found[name] for name in given if name in found}
        scheduler.update_schedule(**same, State="DISABLED")
        try:
            yield
        finally:
            scheduler.update_schedule(**same, State="ENABLED")

    @contextmanager
    def _without_mapping(self, queue_arn: str) -> Iterator[None]:
        client = self.deployment.emulator.client("lambda")
        (mapping,) = client.list_event_source_mappings(EventSourceArn=queue_arn)["EventSourceMappings"]
        client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
        try:
            yield
        finally:
            client.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)

    def rotation(self) -> str:
        """The four rotation steps of Secrets Manager, under the role's policy; the emulator does not invoke them."""
        outputs = self.deployment.outputs()
        secret, name = outputs["operator_token_secret_arn"], outputs["functions"]["control_plane"]["name"]
        manager, client = (self.deployment.emulator.client(service) for service in ("secretsmanager", "lambda"))
        before = manager.get_secret_value(SecretId=secret)["SecretString"]
        version = str(uuid.uuid4())
        for step in ("createSecret", "setSecret", "testSecret", "finishSecret"):
            event = {"Step": step, "SecretId": secret, "ClientRequestToken": version}
            answer = client.invoke(FunctionName=name, Payload=json.dumps(event))
            assert "FunctionError" not in answer, answer["Payload"].read()
        after = manager.get_secret_value(SecretId=secret)
        assert after["SecretString"] != before and after["VersionId"] == version
        return "the operator's token is a new one"

    def drift(self) -> str:
        """Manual changes are detected and reverted. Without its policy a function can do nothing."""
        url = self.deployment.outputs()["queues"]["shared"]["url"]
        self.deployment.emulator.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "7"})
        self._take_away("gateway", "InvokeControlPlane")
        assert not self.gateway.is_ready(), "the gateway reached the control plane without a permission"
        changes = self.deployment.changes()
        assert sorted(changes) == [
            ('module.function["gateway"].aws_iam_role_policy.this', ["update"]),
            ('module.queue["shared"].aws_sqs_queue.this', ["update"]),
        ], changes
        self.deployment.apply()
        assert self.deployment.changes() == []
        assert self.gateway.is_ready()
        return "a queue and a policy changed by hand were seen and put right"

    def _take_away(self, function: str, statement: str) -> None:
        """One statement of its policy."""
        iam, role = self.deployment.emulator.client("iam"), self.deployment.outputs()["functions"][function]["name"]
        policy = iam.get_role_policy(RoleName=role, PolicyName="function")["PolicyDocument"]
        left = [one for one in policy["Statement"] if one["Sid"] != statement]
        assert len(left) == len(policy["Statement"]) - 1, policy
        document = json.dumps(policy | {"Statement": left})
        iam.put_role_policy(RoleName=role, PolicyName="function", PolicyDocument=document)

    def code_change(self) -> str:
        before = self.deployment.outputs()["functions"]
        changed = self.deployment.home / "changed"
        self.deployment.use_packages(
            repacked(self.deployment.packages, "reconciler", changed, "changed.txt", "a change\n")
        )
        changes = dict(self.deployment.changes())
        assert set(changes) == {
            'aws_s3_object.code["reconciler"]',
            'module.function["reconciler"].aws_lambda_function.this',
            'module.release["reconciler"].aws_lambda_alias.live',
        }, changes
        self.deployment.apply()
        after = self.deployment.outputs()["functions"]
        moved = {name for name in after if after[name]["version"] != before[name]["version"]}
        assert moved == {"reconciler"}, moved
        return f"only the reconciler got a new version: {after['reconciler']['version']}"

    def failed_migration(self) -> str:
        """A version whose migration fails gets no traffic."""
        function = self.deployment.outputs()["functions"]["control_plane"]
        client = self.deployment.emulator.client("lambda")
        where = {"FunctionName": function["name"], "Name": function["alias"]}
        before = client.get_alias(**where)["FunctionVersion"]
        broken = self.deployment.home / "broken"
        self.deployment.use_packages(repacked(self.deployment.packages, "control_plane", broken, "main.py", BROKEN))
        done = self.deployment.apply(check=False)
        assert done.status != 0 and "cannot migrate" in done.text, done.text
        versions = client.list_versions_by_function(FunctionName=function["name"])["Versions"]
        assert len(versions) > 2, "the broken version was published"
        assert client.get_alias(**where)["FunctionVersion"] == before
        assert self.gateway.is_ready()
        return f"the apply failed, and version {before} goes on answering"

    def existing(self) -> Mapping[str, list[str]]:
        return remaining_resources(self.deployment.emulator)

    def steps(self) -> list[tuple[str, Callable[[], str]]]:
        """All steps in order, each with its name."""
        return [
            ("start", self.start),
            ("terraform init", self.init),
            ("terraform apply, with the migration in it", self.apply),
            ("smoke", self.smoke),
            ("the flagship, through the HTTP API", self.flagship),
            ("a direct worker", self.direct),
            ("a fan-out, through the HTTP API", self.fan_out),
            ("results in S3", self.results),
            ("a schedule, by EventBridge", self.schedule),
            ("events", self.events),
            ("triggers", self.triggers),
            ("a rotation", self.rotation),
            ("second apply", self.second_apply),
            ("drift", self.drift),
            ("a change of code", self.code_change),
            ("a migration that fails", self.failed_migration),
            ("terraform destroy", self.destroy),
        ]


def remaining_resources(emulator: Emulator) -> Mapping[str, list[str]]:
    """The resources of the deployment that the emulator still has, by kind."""
    client = emulator.client
    keys = client("kms").list_keys()["Keys"]
    states = {key["KeyId"]: client("kms").describe_key(KeyId=key["KeyId"])["KeyMetadata"]["KeyState"] for key in keys}
    found = {
        "functions": [one["FunctionName"] for one in client("lambda").list_functions()["Functions"]],
        "mappings": [one["UUID"] for one in client("lambda").list_event_source_mappings()["EventSourceMappings"]],
        "queues": client("sqs").list_queues().get("QueueUrls", []),
        "roles": [one["RoleName"] for one in client("iam").list_roles()["Roles"]],
        "buckets": [one["Name"] for one in client("s3").list_buckets()["Buckets"]],
        "logs": [one["logGroupName"] for one in client("logs").describe_log_groups()["logGroups"]],
        "secrets": [one["Name"] for one in client("secretsmanager").list_secrets()["SecretList"]],
        "schedules": [one["Name"] for one in client("scheduler").list_schedules()["Schedules"]],
        "apis": [one["Name"] for one in client("apigatewayv2").get_apis()["Items"]],
        "alarms": [one["AlarmName"] for one in client("cloudwatch").describe_alarms()["MetricAlarms"]],
        "dashboards": [one["DashboardName"] for one in client("cloudwatch").list_dashboards()["DashboardEntries"]],
        "topics": [one["TopicArn"] for one in client("sns").list_topics()["Topics"]],
        "vpcs": [one["VpcId"] for one in client("ec2").describe_vpcs()["Vpcs"] if not one.get("IsDefault")],
        "endpoints": [one["VpcEndpointId"] for one in client("ec2").describe_vpc_endpoints()["VpcEndpoints"]],
        "keys": [key for key, state in states.items() if state != "PendingDeletion"],
    }
    ours = {
        kind: [name for name in names if not name.startswith("servers/") and "servers-" not in name]
        for kind, names in found.items()
    }
    return {kind: names for kind, names in ours.items() if names}
