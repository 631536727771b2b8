"""The whole deployment on Google Cloud, applied by Terraform to stand-ins, with a real PostgreSQL and NATS."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.cloud.secretmanager_v1 import SecretManagerServiceClient
from google.cloud.storage import Client as StorageClient
from google.pubsub_v1 import PublisherClient, SubscriberClient
from localstack.deployed import Deployed
from localstack.issuer import AUDIENCE
from localstack.terraform import Done
from tests.infra.google_cloud.standin import PROJECT, REGION, Standin

OPERATOR = "ann@example.org"
# of somebody else: what triggers listen to, and a subscription that the deployment may not pull
ORDERS = "servers-orders"
CLOSED = "servers-closed"
BUCKET = f"{ORDERS}-{PROJECT}"
# this machine runs all instances, so only few run at once
SMALL = {
    "gateway": {"max_instances": 2},
    "control_plane": {"max_instances": 2},
    # what a killed worker held is given to another after its lease
    "worker": {"max_instances": 2, "settings": {"lease": "10"}},
    "worker_data": {"max_instances": 2},
}


class GoogleDeployment(Deployed):
    host = "gcp"

    def __init__(self, home: Path, port: int = 0, provider: Mapping[str, str] | None = None) -> None:
        """`port`: that of the stand-ins; 0 for a free one."""
        super().__init__(home, provider)
        self._port = port
        self._standin: Standin | None = None

    @property
    def standin(self) -> Standin:
        assert self._standin is not None, "the servers have not been started"
        return self._standin

    def start_servers(self) -> None:
        self.servers.start()
        self._standin = Standin(self.home / "google", port=self._port)

    def stop_servers(self) -> None:
        if self._standin is not None:
            self._standin.stop()
        self.servers.stop()

    def credentials(self) -> dict[str, str]:
        """The administrator's."""
        return {"GOOGLE_OAUTH_ACCESS_TOKEN": self.standin.token}

    def smoke_as(self, email: str) -> Done:
        """`noetls smoke` as somebody who may not have the right to."""
        token = self.standin.admin("POST", "tokens", {"email": email})["accessToken"]
        words = ("deploy", self.host, "smoke", "--items", "1", "--directory", str(self.terraform.module))
        return self.noetls(*words, check=False, environment={"GOOGLE_OAUTH_ACCESS_TOKEN": token})

    def storage(self) -> StorageClient:
        options = {"api_endpoint": self.standin.url}
        return StorageClient(project=PROJECT, credentials=self.standin.credentials(), client_options=options)

    def variables(self) -> dict[str, Any]:
        postgres = self.servers.postgres
        self._make_sources()
        return {
            "endpoint_url": self.standin.url,
            "project": PROJECT,
            "region": REGION,
            "functions": SMALL,
            "database": {
                "existing": {
                    "url": f"postgresql://noetl@127.0.0.1:{postgres.port}/noetl",
                    "secret_id": self._secret("servers-database", postgres.password),
                }
            },
            "nats": {"existing": {"secret_id": self._secret("servers-nats", self.servers.nats.url)}},
            "results": {"force_destroy": True},
            "events": {"buckets": [BUCKET], "subscriptions": [f"projects/{PROJECT}/subscriptions/{ORDERS}"]},
            "operators": [f"user:{OPERATOR}"],
            "settings": {"oidc_issuer": self.servers.issuer.url, "oidc_audience": AUDIENCE},
        }

    def logs(self) -> str:
        """The ends of the logs of the stand-ins and of the functions."""
        paths = sorted((self.home / "google").rglob("*.log"))
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-2000:]}" for path in paths)

    def _make_sources(self) -> None:
        """A bucket, and a topic whose messages wait in two subscriptions."""
        bucket = self.storage().bucket(BUCKET)
        bucket.iam_configuration.uniform_bucket_level_access_enabled = True
        bucket.create(location=REGION)
        topic = self.standin.client(PublisherClient).create_topic(name=f"projects/{PROJECT}/topics/{ORDERS}").name
        subscriber = self.standin.client(SubscriberClient)
        for name in (ORDERS, CLOSED):
            subscriber.create_subscription(name=f"projects/{PROJECT}/subscriptions/{name}", topic=topic)

    def _secret(self, name: str, value: str) -> str:
        """A secret of somebody else's, which the deployment is given."""
        client = self.standin.client(SecretManagerServiceClient)
        parent = f"projects/{PROJECT}"
        secret = client.create_secret(parent=parent, secret_id=name, secret={"replication": {"automatic": {}}})
        client.add_secret_version(parent=secret.name, payload={"data": value.encode()})
        return f"{parent}/secrets/{name}"
