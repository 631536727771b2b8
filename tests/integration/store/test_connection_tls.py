"""The same over TLS, by a relay that speaks it in front of a server that does not."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from noetl_serverless.errors import Unavailable
from noetl_serverless.store.connection import Database


def certificate(folder: Path) -> Path:
    """A PEM file with a certificate for `localhost`, its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "localhost.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return file


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture
async def tls_url(postgres_url: str, tmp_path: Path) -> AsyncIterator[str]:
    pem = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = urlsplit(postgres_url)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # the client asks whether it may begin with TLS
        await reader.readexactly(8)
        writer.write(b"S")
        await writer.start_tls(context)
        behind = await asyncio.open_connection(server.hostname, server.port)
        await asyncio.gather(pump(reader, behind[1]), pump(behind[0], writer))

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as relaying:
        port = relaying.sockets[0].getsockname()[1]
        host = f"{server.username}:{server.password}@localhost:{port}"
        yield f"postgresql://{host}{server.path}?sslmode=verify-full&sslrootcert={pem}"


async def test_statements_and_transactions_pass_over_tls(tls_url: str) -> None:
    database = Database(tls_url, 2)
    text = "0123456789abcdef" * 100_000
    assert await database.run("SELECT CAST(:text AS text)", text=text) == [[text]]
    assert await database.transaction(lambda connection: connection.run("SELECT 7")) == [[7]]
    rows = await asyncio.gather(
        *(database.run("SELECT n FROM generate_series(1, CAST(:last AS integer)) n", last=20_000) for _ in range(2))
    )
    assert [len(answer) for answer in rows] == [20_000, 20_000]
    await database.close()


async def test_a_break_is_told_over_tls(tls_url: str) -> None:
    database = Database(tls_url, 1)
    with pytest.raises(Unavailable):
        await database.run("SELECT pg_terminate_backend(pg_backend_pid())")
    assert await database.run("SELECT 1") == [[1]]
    await database.close()
