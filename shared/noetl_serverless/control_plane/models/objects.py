from __future__ import annotations

from typing import Literal

from pydantic import Field

from ...protocol import StorableText
from ...results.chunked import CHUNK_BYTES, MAX_KEY_BYTES
from . import AnswerModel, RequestModel

Digest = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the whole object.")
Key = Field(min_length=1, max_length=MAX_KEY_BYTES, description="Key of the object, below its execution.")
Worker = Field(min_length=1, max_length=200, description="The worker, which holds a lease of the execution.")
ChunkBytes = Field(ge=1, le=CHUNK_BYTES, description="Bytes of each of its chunks but the last.")
# as Python writes it
_UUID = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
Upload = Field(pattern=_UUID, description="Drawn by the worker: what it writes under a key at a time.")


class PutObject(RequestModel):
    key: StorableText = Key
    worker_id: StorableText = Worker
    upload: str = Upload
    chunk_bytes: int = ChunkBytes
    sha256: str = Digest


class BeginObject(RequestModel):
    key: StorableText = Key
    worker_id: StorableText = Worker
    upload: str = Upload
    chunk_bytes: int = ChunkBytes


class PutChunk(RequestModel):
    worker_id: StorableText = Worker
    upload: str = Upload
    number: int = Field(ge=0, lt=2**31, description="Its place, from 0 on.")


class FinishObject(RequestModel):
    key: StorableText = Key
    worker_id: StorableText = Worker
    upload: str = Upload
    bytes: int = Field(ge=0, lt=2**62, description="Size of the whole object.")
    sha256: str = Digest


class ReadObject(RequestModel):
    key: StorableText = Key
    offset: int = Field(default=0, ge=0, lt=2**62)
    length: int = Field(default=CHUNK_BYTES, ge=0, le=CHUNK_BYTES)


class ReadChunk(RequestModel):
    upload: str = Field(pattern=_UUID, description="What the object was found to be of.")
    offset: int = Field(ge=0, lt=2**62)
    length: int = Field(default=CHUNK_BYTES, ge=0, le=CHUNK_BYTES)


class ObjectStatus(AnswerModel):
    status: Literal["begun", "put", "written", "same", "other", "gone", "incomplete", "refused"]
