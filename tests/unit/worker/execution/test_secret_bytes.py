from __future__ import annotations

import json
import os

import pytest

from noetl_serverless.worker.execution import secret_bytes
from noetl_serverless.worker.execution.secret_bytes import SecretBytes

SECRET = "s3cr3t-value-of-an-höur"
CONTENT = b"\0\xff" * 500 + SECRET.encode() + b"\0\xff" * 500
OTHERS = [f"another-form-\n({number})" for number in range(1000)]


@pytest.mark.parametrize("others", [0, 3, 1000])
def test_any_of_few_and_of_many_forms_is_found(others: int) -> None:
    search = SecretBytes([*OTHERS[:others], SECRET])
    assert search.is_in(CONTENT)
    assert search.is_in(memoryview(CONTENT)[:1100])
    assert not search.is_in(CONTENT.replace("hö".encode(), b"ho"))
    assert not search.is_in(b"")
    for form in OTHERS[:others:99]:
        assert search.is_in(b"x" + form.encode()), f"{form!r} is not found"


@pytest.mark.parametrize("others", [0, 300])
def test_what_stands_at_the_end_of_a_piece_is_found(others: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_bytes, "_PIECE_BYTES", 64)
    search = SecretBytes([*OTHERS[:others], SECRET])
    for before in range(130):
        assert search.is_in(bytes(before) + SECRET.encode() + os.urandom(100)), f"after {before} bytes"


def test_nothing_is_found_without_forms() -> None:
    assert not SecretBytes([]).is_in(CONTENT)


@pytest.mark.parametrize(
    "document",
    [
        r'{"a": "x\/y+z-é"}',
        r'{"a": "x/y\u002Bz-é"}',
        r'{"a": "x/y\u002bz-\u00E9"}',
        r'{"a": "\\x\/y+z-é\n"}',
    ],
)
def test_a_secret_is_found_however_a_document_escapes_it(document: str, monkeypatch: pytest.MonkeyPatch) -> None:
    search = SecretBytes(["x/y+z-é"])
    assert search.is_in_documents(document.encode())
    assert not search.is_in_documents(document.replace("z", "y").encode())
    monkeypatch.setattr(secret_bytes, "_DOCUMENT_BYTES", 64)
    for before in range(130):
        assert search.is_in_documents(b" " * before + document.encode()), f"after {before} bytes"


def test_a_secret_is_found_of_which_a_document_escapes_a_part() -> None:
    search = SecretBytes(["pässwörd-x1", r"p\u00e4ssw\u00f6rd-x1"])
    for document in (r'{"a": "p\u00e4sswörd-x1"}', r'{"a": "pässw\u00f6rd-x1"}'):
        assert search.is_in_documents(document.encode()), f"in {document}"


def test_documents_without_escapes_or_with_those_of_python_alone_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_bytes, "_unescaped", lambda _: pytest.fail("the escapes are replaced"))
    search = SecretBytes(["pässwörd-x1"])
    for text in ("Grüße, 漢字\n", "ä\u2028😀"):
        for is_ascii in (False, True):
            document = json.dumps({"a": text}, ensure_ascii=is_ascii)
            assert not search.is_in_documents(document.encode()), f"in {document}"
