"""Small secrets of a site on its disk: one encrypted file each, under a key of its own purpose.

    offset size
         0    5  "WRSF" and the version, 1
         5   12  nonce, drawn anew for every write
        17 n+16  AES-256-GCM of the content, and its tag; purpose and name are its associated data

The key comes from the secret that keys the site's patients (HKDF, labelled by the purpose). A file is replaced whole
by renaming; what a disk keeps of the older one is the disk's affair. What the contents mean lives with their owners.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from adapters.home import Home, write_atomically
from ledger.errors import CodedError

_PREFIX: Final = b"WRSF\x01"
_NONCE_BYTES: Final = 12


class SealedFileError(CodedError):
    """Changed, or another site's or purpose's: which of these is not to be known."""

    code = "home.sealed-file"


class SealedFiles:
    """The files of one folder under the home, for one purpose."""

    def __init__(self, home: Home, folder: str, *, purpose: str) -> None:
        self._folder = home.root / folder
        label = f"wardround/sealed-file/v1/{purpose}".encode()
        self._key = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=label).derive(
            home.patient_secret()
        )
        self._bound = _PREFIX + purpose.encode() + b"\x00"

    def write(self, name: str, data: bytes) -> None:
        """Durable when it returns."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCM(self._key).encrypt(nonce, data, self._bound + name.encode())
        write_atomically(self._folder / name, _PREFIX + nonce + sealed, mode=0o600)

    def read(self, name: str) -> bytes | None:
        """None if there is no such file."""
        try:
            data = (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None
        nonce, sealed = data[len(_PREFIX) :][:_NONCE_BYTES], data[len(_PREFIX) + _NONCE_BYTES :]
        try:
            if not data.startswith(_PREFIX):
                raise InvalidTag
            return AESGCM(self._key).decrypt(nonce, sealed, self._bound + name.encode())
        except (InvalidTag, ValueError):
            raise SealedFileError(
                f"the file {Path(self._folder.name) / name} was changed or is another site's",
                remedy="Restore it; what it held is needed and cannot be made again.",
            ) from None

    def remove(self, name: str) -> None:
        (self._folder / name).unlink(missing_ok=True)

    def remove_all(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
