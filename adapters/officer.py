"""An officer's folder: who may sign that phases of the rollout end, and the key to do it with.

    <folder>/officer.yaml       name, role and institution, as in the founding document
    <folder>/keys/signing.pem   the encrypted key; its passphrase comes from WARDROUND_PASSPHRASE, else from
    <folder>/keys/passphrase    (demo and development)

It belongs to a person, not to an institution's machine: nothing that runs by itself reads it. What is signed lives in
`policies.rollout.sign_off`.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import yaml

from adapters.home import Home, HomeError, write_atomically
from ledger.keys import Signer
from policies.document import Document, Name
from policies.federation import OfficerRole

FILE = "officer.yaml"


class OfficerConfig(Document):
    name: Name
    role: OfficerRole
    institution: Name


class OfficerFolder:
    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._keys = Home(root)

    def read(self) -> OfficerConfig:
        """HomeError if there is none; every wrong field is named at once."""
        try:
            text = (self.root / FILE).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise HomeError(
                f"no readable {FILE} in {self.root}",
                remedy="Give an officer's folder, as `wardround federation new` makes them.",
                code="officer.folder",
            ) from None
        return OfficerConfig.from_yaml(text, what=FILE)

    def signer(self) -> Signer:
        return self._keys.signer("signing", self.read().name)

    def make(self, config: OfficerConfig) -> Signer:
        """Write the folder with a new key; none is ever overwritten."""
        keys = self.root / "keys"
        keys.mkdir(parents=True, mode=0o700)
        if b"WARDROUND_PASSPHRASE" not in os.environb:
            write_atomically(keys / "passphrase", secrets.token_hex(32).encode(), mode=0o600)
        signer = self._keys.make_signer("signing", config.name)
        write_atomically(self.root / FILE, yaml.safe_dump(config.to_json(), sort_keys=False).encode())
        return signer
