"""An institution's next signing key: made beside the one in force, in its place once the ledger has it.

    <home>/keys/signing-next.pem         the next key as a file
    <home>/keys/signing-next.label       or the label that it has on the token
    <home>/keys/signing-<key id>.pem     a file that was in force before; it signs nothing any more
    <home>/keys/signing-next.damaged.pem a next key that could not be opened, set aside; then .damaged-2.pem, ...

Every step survives a crash: a key that was made is found again, and the key in force stays until another is in its
place. What the ledger asks of a rotation is `ledger.chain`'s; saying it there is `tasks.rotate`'s.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from adapters import key_token
from adapters.home import CoordinatorConfig, Home, SiteConfig, write_atomically
from ledger.errors import InputError
from ledger.keys import FileSigner, KeyFileError, Signer

if TYPE_CHECKING:
    from adapters.key_token import TokenConfig

_REVISION = re.compile(r"(?P<stem>.*)-r(?P<number>[1-9]\d*)", re.DOTALL)


class RotationPendingError(InputError):
    code = "home.rotation-pending"


class KeyRotation:
    """The next signing key of one institution, if there is one. `name` is the institution's."""

    def __init__(self, home: Home, config: SiteConfig | CoordinatorConfig) -> None:
        self._home, self._config = home, config
        self._file = home.root / "keys" / "signing-next.pem"
        self._label_file = self._file.with_suffix(".label")

    def begin(self) -> Signer:
        """Make the next key; RotationPendingError if there is one that the ledger does not have yet."""
        pending = self.pending()
        if pending is not None:
            raise RotationPendingError(
                f"key {pending.public.keyid} waits for the ledger already",
                remedy="The next run puts it there.",
            )
        token, label = self._on_token()
        if token is None:
            return FileSigner.generate(self._file, name=self._config.name, passphrase=self._home.passphrase)
        following = _following(label)
        write_atomically(self._label_file, following.encode(), mode=0o600)
        return self._home.keep(
            key_token.make_signer(token, following, name=self._config.name, keys=self._file.parent)
        )

    def pending(self) -> Signer | None:
        """The next key, if one was made. A damaged file is set aside, since every run begins here."""
        if self._file.exists():
            try:
                return self._load(self._file)
            except KeyFileError as error:
                if error.code != KeyFileError.code:
                    raise
            # That code is a wrong passphrase's too, and then the next key is good: signing.pem tells them apart.
            self._load(self._home.key("signing"))
            self._set_aside()
        token, label = self._on_token()
        if token is None or not self._label_file.exists():
            return None
        following = self._label_file.read_text()
        if following == label:  # it took its place, and then the power failed
            return None
        try:
            return self._home.keep(
                key_token.open_signer(token, following, name=self._config.name, keys=self._file.parent)
            )
        except InputError as error:
            if error.code == "ledger.token.key-missing":  # the label was written, the key never made
                return None
            raise

    def finish(self) -> None:
        """Put the next key in the place of the one in force, which the ledger no longer takes."""
        if self._file.exists():
            current = self._home.key("signing")
            old = self._load(current)
            self._load(self._file)  # what cannot be opened must not take the place of what can
            kept = current.with_name(f"signing-{old.public.keyid[:16]}.pem")
            if not kept.exists():
                os.link(current, kept)
            self._file.replace(current)
            _sync(current.parent)
            return
        token, _ = self._on_token()
        if token is None or not self._label_file.exists():
            return
        keys = {**token.keys, "signing": self._label_file.read_text()}
        moved = token.model_copy(update={"keys": keys})
        self._home.write(self._config.with_fields({"token": moved.to_json()}), self._home.federation)
        self._label_file.unlink()

    def _load(self, path: Path) -> Signer:
        return FileSigner.load(path, name=self._config.name, passphrase=self._home.passphrase)

    def _set_aside(self) -> None:
        """Rename the next key to the first free name: it may yet be mended, as may one set aside before."""
        number = 1
        while True:
            suffix = ".damaged.pem" if number == 1 else f".damaged-{number}.pem"
            try:
                os.link(self._file, self._file.with_suffix(suffix))
            except FileExistsError:
                number += 1
                continue
            self._file.unlink()
            _sync(self._file.parent)
            return

    def _on_token(self) -> tuple[TokenConfig | None, str]:
        token = self._home.token
        label = None if token is None else token.label_of("signing")
        return (None, "") if token is None or label is None else (token, label)


def _following(label: str) -> str:
    found = _REVISION.fullmatch(label)
    return f"{label}-r2" if found is None else f"{found['stem']}-r{int(found['number']) + 1}"


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
