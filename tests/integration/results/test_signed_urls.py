"""URLs that read an object without credentials."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from datetime import datetime, timedelta, tzinfo
from email.message import Message
from typing import Self

import pytest
from tests.integration.results.conftest import BUCKET, S3_SERVERS, Servers, s3_environment, store_named

from noetl_serverless.hosts.aws import results as s3
from noetl_serverless.hosts.local.objects import object_store
from noetl_serverless.limits import SIGNED_URL_SECONDS
from noetl_serverless.ports import SignsUrls

NAME = 'Übersicht "2026"/Q1.csv'


def _fetch(url: str) -> tuple[int, Message, bytes]:
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


async def fetch(url: str) -> tuple[int, Message, bytes]:
    return await asyncio.to_thread(_fetch, url)


async def signed(store: object, key: str, seconds: int = 60) -> str:
    signs: SignsUrls = store  # type: ignore[assignment]
    return await signs.signed_url(key, seconds, content_type="text/csv; charset=utf-8", filename=NAME)


@pytest.mark.parametrize("name", S3_SERVERS)
@pytest.mark.parametrize("key", ["1/a/k.csv", "1/a b/é%2F+&?#.csv"])
async def test_a_url_reads_one_object_under_a_name(servers: Servers, unique: str, name: str, key: str) -> None:
    url = servers.s3(name).url
    store = object_store(f"s3://{BUCKET}/{unique}", s3_environment(url))
    await store.put(key, b"a,b\n")
    await store.put("1/other", b"secret")
    made = await signed(store, key)
    status, headers, content = await fetch(made)
    assert (status, content) == (200, b"a,b\n")
    assert headers["Content-Type"] == "text/csv; charset=utf-8"
    assert headers["Content-Disposition"] == (
        "attachment; filename=\"_bersicht _2026__Q1.csv\"; filename*=UTF-8''%C3%9Cbersicht%20%222026%22%2FQ1.csv"
    )


@pytest.mark.parametrize("change", [("Signature=", "Signature=0"), ("k.csv", "j.csv"), ("Expires=60", "Expires=600")])
async def test_a_url_that_was_changed_is_refused(servers: Servers, unique: str, change: tuple[str, str]) -> None:
    store = object_store(f"s3://{BUCKET}/{unique}", s3_environment(servers.seaweedfs.url))
    for key in ("1/a/k.csv", "1/a/j.csv"):
        await store.put(key, b"x")
    made = await signed(store, "1/a/k.csv")
    assert change[0] in made
    status, _, _ = await fetch(made.replace(*change, 1))
    assert status == 403


class Earlier(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) - timedelta(minutes=5)


async def test_a_url_ends(servers: Servers, unique: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = object_store(f"s3://{BUCKET}/{unique}", s3_environment(servers.seaweedfs.url))
    await store.put("k", b"x")
    monkeypatch.setattr(s3, "datetime", Earlier)
    valid, ended = await signed(store, "k", 600), await signed(store, "k", 200)
    assert [(await fetch(url))[0] for url in (valid, ended)] == [200, 403]


@pytest.mark.parametrize("name", ["ministack", "gcs"])
@pytest.mark.parametrize("seconds", [0, SIGNED_URL_SECONDS + 1])
async def test_a_url_is_good_for_a_week_at_most(
    servers: Servers, unique: str, tmp_path: object, name: str, seconds: int
) -> None:
    store = store_named(name, servers, unique, tmp_path)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="604800"):
        await signed(store, "1/a/k", seconds)
    assert "=604800" in await signed(store, "1/a/k", SIGNED_URL_SECONDS)


@pytest.mark.parametrize("key", ["../k", "/k", ""])
@pytest.mark.parametrize("name", ["ministack", "gcs"])
async def test_no_url_leads_out_of_the_store(
    servers: Servers, unique: str, tmp_path: object, name: str, key: str
) -> None:
    with pytest.raises(ValueError, match="storage key"):
        await signed(store_named(name, servers, unique, tmp_path), key)  # type: ignore[arg-type]


async def test_a_url_of_cloud_storage_reads_one_object(servers: Servers, unique: str) -> None:
    """fake-gcs-server does not look at who has signed."""
    store = object_store(f"gs://{BUCKET}/{unique}", {"STORAGE_EMULATOR_HOST": servers.gcs.url})
    await store.put("1/a b/é%.csv", b"a,b\n")
    status, _, content = await fetch(await signed(store, "1/a b/é%.csv"))
    assert (status, content) == (200, b"a,b\n")
