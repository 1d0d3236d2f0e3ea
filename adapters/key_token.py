"""An institution's keys on a PKCS #11 token: how `institution.yaml` names them, where the PIN comes from.

    token:
      module: /usr/lib/softhsm/libsofthsm2.so      the vendor's library
      label: hospital-a                            of the token; or its `serial`, or both
      keys: {signing: ward-signing, witness: ward-witness}     purpose: the key's label

Purposes that are not named stay files. The PIN comes from WARDROUND_TOKEN_PIN, else from keys/pin (mode 0600),
and is in no configuration, message or log. The lock files that keep a second process away lie in keys/ too. What
a token does lives in `ledger.token_signer`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from ledger.errors import InputError
from ledger.token_session import Pin, TokenAddress
from ledger.token_signer import TokenKey, TokenSigner
from policies.document import Document

Purpose = Literal["signing", "witness", "log"]
PIN_VARIABLE = "WARDROUND_TOKEN_PIN"


class PinFileError(InputError):
    code = "home.pin"


class TokenConfig(Document):
    module: str = Field(pattern=r"^/.")
    label: str = ""
    serial: str = ""
    keys: dict[Purpose, str] = Field(min_length=1)

    @model_validator(mode="after")
    def _named(self) -> Self:
        if not self.label and not self.serial:
            raise ValueError("a token is named by its label or its serial")
        if not all(self.keys.values()):
            raise ValueError("a key on a token is named by its label")
        return self

    @property
    def address(self) -> TokenAddress:
        return TokenAddress(Path(self.module), label=self.label, serial=self.serial)

    def label_of(self, purpose: str) -> str | None:
        """The label of the key of that purpose; None if it is a file."""
        return {str(named): label for named, label in self.keys.items()}.get(purpose)


def open_signer(token: TokenConfig, label: str, *, name: str, keys: Path) -> TokenSigner:
    """Open the key of that label; `keys` is the folder of the home's keys."""
    return TokenSigner.open(token.address, TokenKey(label), name=name, pin=read_pin(keys), guard=keys)


def make_signer(token: TokenConfig, label: str, *, name: str, keys: Path) -> TokenSigner:
    """Make the key of that label on the token; a label in use is refused."""
    return TokenSigner.generate(token.address, TokenKey(label), name=name, pin=read_pin(keys), guard=keys)


def read_pin(keys: Path) -> Pin:
    given = os.environ.get(PIN_VARIABLE)
    if given:
        return Pin(given)
    path = keys / "pin"
    try:
        if path.stat().st_mode & 0o077:
            raise PinFileError(f"others may read {path}", remedy="chmod 600 it.", code="home.pin-mode")
        return Pin(path.read_text().removesuffix("\n"))
    except (OSError, UnicodeDecodeError):
        raise PinFileError(
            f"no PIN for the token in {path}", remedy=f"Write it there with mode 600, or set {PIN_VARIABLE}."
        ) from None
