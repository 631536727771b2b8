"""Whether the servers that settings name can be used, told before anything waits for them."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from ...results.urls import folder_of

CONNECT_SECONDS = 5.0
# schemes of URLs for results; what others name keeps nothing, or is not written whole or not at all
STORES = frozenset({"file", "local", "s3", "s3a", "gs", "gcs"})


async def check_database(url: str) -> None:
    """RuntimeError with the setting's name and what is at the other end, if no connection can be made."""
    from ...errors import Unavailable
    from ...store.connection import connect

    try:
        connection = await asyncio.to_thread(connect, url, CONNECT_SECONDS)
    except Unavailable as error:
        inner = error.__cause__ and error.__cause__.__cause__
        # the driver's own text does not say why
        known = f"no PostgreSQL server can be reached at {_hosts(url)}: {inner}" if isinstance(inner, OSError) else None
        message = f"NOETL_DATABASE_URL: {known or error.detail}"
    except ValueError as error:
        message = f"NOETL_DATABASE_URL: {error}"
    else:
        await asyncio.to_thread(connection.close)
        return
    raise RuntimeError(" ".join(message.split()))


async def check_nats(url: str) -> None:
    """As `check_database`, for one or several NATS servers: one that answers is enough."""
    from nats.errors import NoServersError

    from ...bus.connection import NatsConnection
    from ...errors import Unavailable

    connection = NatsConnection(url, connect_timeout=CONNECT_SECONDS)
    try:
        await connection.client()
    except Unavailable as error:
        known = "" if isinstance(error.__cause__, NoServersError | TimeoutError | None) else f": {error.__cause__}"
        message = f"NOETL_NATS_URL: no NATS server can be reached at {_hosts(url)}{known}"
    except ValueError as error:
        message = f"NOETL_NATS_URL: {error}"
    else:
        await connection.close()
        return
    raise RuntimeError(" ".join(message.split()))


async def check_results(url: str, environ: Mapping[str, str]) -> None:
    """As `check_database`, for the store of results: a folder, which is made if it is missing, S3 or Cloud Storage."""
    from ...errors import AccessDenied, Unavailable
    from .objects import object_store

    try:
        _check_form(url)
        if (folder := _checked_folder_of(url)) is not None:
            await asyncio.to_thread(_check_folder, folder)
        store = await asyncio.to_thread(object_store, url, environ)
        async with asyncio.timeout(CONNECT_SECONDS):
            await store.get_range("noetl-start", 0, 1)
    except KeyError:
        return
    except AccessDenied as error:
        # it may write, and need not list
        if error.extra.get("may_be_missing"):
            return
        message = error.detail
    except TimeoutError:
        message = f"no store answers within {CONNECT_SECONDS:g} s"
    except Unavailable as error:
        message = error.detail
    except (ValueError, OSError, ImportError) as error:
        message = str(error)
    else:
        return
    raise RuntimeError(" ".join(f"NOETL_RESULT_URL={_without_password(url)}: {message}".split()))


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else url


def _check_form(url: str) -> None:
    """ValueError with what to write instead."""
    parts = urlsplit(url)
    if "://" in url and parts.scheme not in STORES:
        known = "file:///folder, s3://bucket/prefix or gs://bucket/prefix"
        raise ValueError(f"results are not kept in what {parts.scheme!r} names; write {known}")
    if "@" in parts.netloc:
        raise ValueError("a store's URL has no user and no password; set the keys of the store as it is used to")
    if parts.query or parts.fragment or url.endswith(("?", "#")):
        raise ValueError("a store has no ? and no #; write the URL without what begins there")


def _checked_folder_of(url: str) -> str | None:
    """None if the store is no folder; ValueError for a folder that depends on where a program was started."""
    folder = folder_of(url)
    if folder is not None and not os.path.isabs(folder):
        raise ValueError(f"a folder is named from the root on, with three slashes: write {_absolute(folder)}")
    if folder is not None and os.path.abspath(folder) == "/":
        raise ValueError("the root is no folder for results; write file:///folder")
    return folder


def _absolute(folder: str) -> str:
    return Path(os.path.abspath(folder)).as_uri() if folder else "file:///folder"


def _check_folder(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
        # without a name, so that nothing is left
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        why = error.strerror or str(error)
        message = f"no file can be made in the folder {folder}: {why}; name a folder that can be written"
        raise ValueError(message) from error


def _hosts(urls: str) -> str:
    """Without the passwords that the URLs may have."""
    return ", ".join(
        urlsplit(url.strip()).netloc.rpartition("@")[2] or "an address that is none" for url in urls.split(",")
    )
