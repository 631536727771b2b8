from __future__ import annotations

import gzip
import os
import random
import tempfile
import tracemalloc

import pytest

from noetl_serverless.results import compression
from noetl_serverless.results.compression import (
    BadContent,
    Codec,
    compress,
    compress_file,
    decompress,
    decompress_file,
    decompressed,
)

CODECS: tuple[Codec, ...] = ("gzip", "zstd")
TEXT = b"".join(b"%d,row %d\n" % (n, n % 7) for n in range(50_000))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("content", [b"", b"x", TEXT, random.Random(1).randbytes(100_000)], ids=len)
def test_content_comes_back(codec: Codec, content: bytes) -> None:
    assert decompress(compress(content, codec), codec, len(content)) == content


def test_others_can_read_it() -> None:
    assert gzip.decompress(compress(TEXT, "gzip")) == TEXT
    assert compress(TEXT, "zstd")[:4] == b"\x28\xb5\x2f\xfd"
    assert len(compress(TEXT, "zstd")) < len(TEXT) / 3


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("chunk", [1, 7, 1000, 1 << 20])
def test_files_are_read_a_chunk_at_a_time(codec: Codec, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = TEXT[:5_000] if chunk == 1 else TEXT
    monkeypatch.setattr(compression, "CHUNK_BYTES", chunk)
    with tempfile.TemporaryFile() as packed, tempfile.TemporaryFile() as unpacked:
        size = compress_file(memoryview(text), packed.fileno(), codec)
        assert size == os.fstat(packed.fileno()).st_size
        decompress_file(memoryview(os.pread(packed.fileno(), size, 0)), unpacked.fileno(), codec, len(text))
        assert os.pread(unpacked.fileno(), len(text) + 1, 0) == text


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_cut_or_changed_is_noticed(codec: Codec) -> None:
    packed = compress(TEXT, codec)
    for content, size, says in (
        (packed[:-20], len(TEXT), "it ends after"),
        (packed[:5], len(TEXT), "it ends after 0 of"),
        (b"", 3, "it ends after 0 of 3 bytes"),
        (b"no such thing", 3, f"it is not valid {codec}"),
        (packed, len(TEXT) - 1, f"it has more than its {len(TEXT) - 1} bytes"),
        (packed, len(TEXT) + 1, "it ends after"),
    ):
        with pytest.raises(BadContent, match=says):
            decompress(content, codec, size)


@pytest.mark.parametrize("codec", CODECS)
def test_a_small_object_with_an_immense_content_takes_no_memory(codec: Codec) -> None:
    packed = compress(bytes(200_000_000), codec)
    tracemalloc.start()
    try:
        with pytest.raises(BadContent, match="it has more than its 1000 bytes"):
            decompress(packed, codec, 1_000)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert max(map(len, decompressed([packed], codec, 200_000_000))) <= compression.CHUNK_BYTES
