"""Seals secrets with AES-256-GCM: each is bound to the record it belongs to, and named keys can be rotated.

The keys are given as "id:base64 of 32 bytes", comma separated. The first seals; all of them open.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import Problem

KEY_BYTES = 32
NONCE_BYTES = 12


class UnknownKey(Problem):
    """A sealed text that no key of this function opens, or that was moved or changed."""

    status, code, title = 500, "credential.sealed_elsewhere", "A stored secret cannot be decrypted"


class BadKeys(ValueError):
    """The encryption keys are missing or malformed; the message never shows them."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """`text` is the nonce and then the ciphertext with its tag."""

    key_id: str
    text: bytes


@dataclass(frozen=True, slots=True)
class Sealer:
    """Seals and opens. `bound` is the associated data: the same strings must be given to open."""

    first: str
    keys: Mapping[str, AESGCM] = field(repr=False)

    @classmethod
    def of(cls, encryption_keys: str) -> Sealer:
        """From the setting `encryption_keys`; raises BadKeys."""
        keys: dict[str, AESGCM] = {}
        for number, entry in enumerate(filter(None, map(str.strip, encryption_keys.split(","))), start=1):
            name, key = _parse(entry, number)
            if name in keys:
                raise BadKeys(f"encryption key {number}: the id {name!r} is used twice")
            keys[name] = AESGCM(key)
        if not keys:
            raise BadKeys(
                "no encryption key: set NOETL_ENCRYPTION_KEYS to 'id:base64 of 32 random bytes'; "
                "without a key credentials cannot be stored"
            )
        return cls(next(iter(keys)), keys)

    def seal(self, secret: bytes, associated_data: tuple[str, ...]) -> Sealed:
        nonce = os.urandom(NONCE_BYTES)
        return Sealed(self.first, nonce + self.keys[self.first].encrypt(nonce, secret, _encoded(associated_data)))

    def open(self, sealed: Sealed, associated_data: tuple[str, ...]) -> bytes:
        """The secret; raises UnknownKey."""
        key = self.keys.get(sealed.key_id)
        if key is None:
            raise UnknownKey(f"it was encrypted with the key {sealed.key_id!r}, which is not configured")
        try:
            return key.decrypt(sealed.text[:NONCE_BYTES], sealed.text[NONCE_BYTES:], _encoded(associated_data))
        except (InvalidTag, ValueError):
            raise UnknownKey(
                f"the key {sealed.key_id!r} cannot decrypt it: the stored value was changed or moved"
            ) from None

    def reseal(self, sealed: Sealed, associated_data: tuple[str, ...]) -> Sealed:
        """The same secret under the first key; `sealed` itself if it already is."""
        return sealed if sealed.key_id == self.first else self.seal(self.open(sealed, associated_data), associated_data)


def _parse(entry: str, number: int) -> tuple[str, bytes]:
    name, colon, encoded = entry.partition(":")
    if not colon or not name.strip():
        raise BadKeys(f"encryption key {number}: expected 'id:base64 of 32 bytes'")
    try:
        key = base64.b64decode(encoded.strip(), validate=True)
    except binascii.Error:
        raise BadKeys(f"encryption key {number} ({name}): not base64") from None
    if len(key) != KEY_BYTES:
        raise BadKeys(f"encryption key {number} ({name}): {len(key)} bytes, expected {KEY_BYTES}")
    if not any(key):
        raise BadKeys(f"encryption key {number} ({name}): all zero")
    return name.strip(), key


def _encoded(associated_data: tuple[str, ...]) -> bytes:
    """Unambiguous: each part is preceded by its length."""
    return b"".join(len(part := text.encode()).to_bytes(4, "big") + part for text in associated_data)
