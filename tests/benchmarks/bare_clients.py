"""Object stores as their own clients reach them, with what these do by default."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Protocol, cast

import boto3
from botocore.config import Config
from tests.object_servers import ADMIN, REGION, FakeGcs, SeaweedFS

BUCKET = SeaweedFS.BUCKET


class BareClient(Protocol):
    """One bucket of a server, and how a deployment keeps its results there. Bytes come from memory and go there."""

    url: str
    variables: dict[str, str]

    def put(self, key: str, data: bytes) -> None: ...

    def get(self, key: str) -> bytes: ...

    def delete(self, key: str) -> None: ...

    def stop(self) -> None:
        """The server."""
        ...


class BareS3:
    """boto3 and SeaweedFS."""

    url = f"s3://{BUCKET}/results"

    def __init__(self, home: Path) -> None:
        self._server = SeaweedFS(home)
        self._server.start()
        keys = {"AWS_ACCESS_KEY_ID": ADMIN[0], "AWS_SECRET_ACCESS_KEY": ADMIN[1]}
        self.variables = {**keys, "AWS_REGION": REGION, "AWS_ENDPOINT_URL_S3": self._server.url}
        self._client = boto3.client(
            "s3",
            endpoint_url=self._server.url,
            region_name=REGION,
            aws_access_key_id=ADMIN[0],
            aws_secret_access_key=ADMIN[1],
            config=Config(s3={"addressing_style": "path"}),
        )

    def put(self, key: str, data: bytes) -> None:
        self._client.upload_fileobj(io.BytesIO(data), BUCKET, key)

    def get(self, key: str) -> bytes:
        file = io.BytesIO()
        self._client.download_fileobj(BUCKET, key, file)
        return file.getvalue()

    def delete(self, key: str) -> None:
        self._client.delete_object(Bucket=BUCKET, Key=key)

    def stop(self) -> None:
        self._server.stop()


class BareGcs:
    """google-cloud-storage and fake-gcs-server."""

    url = f"gs://{BUCKET}/results"

    def __init__(self, home: Path) -> None:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud.storage import Client

        self._server = FakeGcs(home)
        self._server.start()
        self._server.create_bucket(BUCKET)
        self.variables = {"STORAGE_EMULATOR_HOST": self._server.url}
        client = Client(
            project="bench",
            credentials=cast(Any, AnonymousCredentials)(),
            client_options={"api_endpoint": self._server.url},
        )
        self._bucket: Any = client.bucket(BUCKET)

    def put(self, key: str, data: bytes) -> None:
        self._bucket.blob(key).upload_from_file(io.BytesIO(data), size=len(data))

    def get(self, key: str) -> bytes:
        content: bytes = self._bucket.blob(key).download_as_bytes()
        return content

    def delete(self, key: str) -> None:
        self._bucket.blob(key).delete()

    def stop(self) -> None:
        self._server.stop()
