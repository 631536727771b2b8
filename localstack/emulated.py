"""The whole AWS deployment, applied by Terraform to an emulator, with a real PostgreSQL and a real NATS beside it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from localstack.deployed import Deployed
from localstack.emulator import ACCOUNT, REGION, Emulator
from localstack.issuer import AUDIENCE

from noetl_serverless.store.connection import connect

USERS = (
    "SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'noetl'"
)
# of somebody else: what triggers listen to, a bucket and a queue, and a queue that the deployment may not read
ORDERS = "servers-orders"
CLOSED = "servers-closed"
# this machine runs all instances, so only few run at once
SMALL = {
    "gateway": {"max_instances": 4},
    "control_plane": {"max_instances": 12},
    "worker": {"max_instances": 2},
    "worker_data": {"max_instances": 2},
}


class Emulated(Deployed):
    host = "aws"

    def __init__(self, home: Path, port: int, provider: Mapping[str, str] | None = None) -> None:
        """`port`: the emulator's."""
        super().__init__(home, provider)
        self.emulator = Emulator(home / "emulator", port)

    def start_servers(self) -> None:
        self.servers.start()
        self.emulator.start()

    def stop_servers(self) -> None:
        self.emulator.stop()
        self.servers.stop()

    def credentials(self) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}

    def logs(self) -> str:
        return self.emulator.log()[-4000:]

    def variables(self) -> dict[str, Any]:
        manager = self.emulator.client("secretsmanager")
        database = manager.create_secret(Name="servers/database", SecretString=self.servers.postgres.password)
        nats = manager.create_secret(Name="servers/nats", SecretString=self.servers.nats.url)
        self._make_sources()
        return {
            "endpoint_url": self.emulator.url,
            "region": REGION,
            "functions": SMALL,
            # calls over HTTP run no users' code, so that their workers may commit by themselves
            "pools": {"calls": {"kinds": ["http", "postgres"], "max_instances": 2}},
            "orchestrator": {"worker_calls": "direct"},
            "database": {
                "existing": {
                    "url": f"postgresql://noetl@127.0.0.1:{self.servers.postgres.port}/noetl",
                    "secret_arn": database["ARN"],
                    "port": self.servers.postgres.port,
                    "cidr": "127.0.0.1/32",
                }
            },
            "nats": {"existing": {"secret_arn": nats["ARN"], "port": self.servers.nats.port, "cidr": "127.0.0.1/32"}},
            "results": {"force_destroy": True},
            "events": {"buckets": [ORDERS], "queues": [f"arn:aws:sqs:{REGION}:{ACCOUNT}:{ORDERS}"]},
            "secrets": {"recovery_days": 0},
            "settings": {"oidc_issuer": self.servers.issuer.url, "oidc_audience": AUDIENCE},
        }

    def _make_sources(self) -> None:
        location = {"LocationConstraint": REGION}
        self.emulator.client("s3").create_bucket(Bucket=ORDERS, CreateBucketConfiguration=location)
        for name in (ORDERS, CLOSED):
            self.emulator.client("sqs").create_queue(QueueName=name)

    def database_users(self) -> set[str]:
        """Who has a connection to the engine's database."""
        with closing(connect(self.servers.postgres.url)) as database:
            return {name for (name,) in database.run(USERS)}
