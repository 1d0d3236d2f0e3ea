"""What one site holds for one step: what masks, which is used once, and what answers, which must survive a restart.

Lives here: keys at rest. They are derived in `privacy.masking.pair_keys` and used in `privacy.masking.masking`.

    AnswerKeys, canonical JSON, for the site's encrypted disk:
    {"context": hex, "name": text, "receive": {site: hex, ...}, "wardround": "answer-keys/v1"}

`receive` holds, for each site of the roster, the key under which its shares for this site are wrapped: those of
this site for itself too. No pair secret and no seed is among it, so what is kept until the answer cannot remove this
site's own mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ledger import canonical
from ledger.errors import InputError
from privacy.masking.derivation import KEY_BYTES
from privacy.protected_sum import RoleError

_FORMAT: Final = "answer-keys/v1"


class KeptKeysError(InputError):
    """Bytes from the site's disk that are not keys as they were written."""

    code = "privacy.kept-keys"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerKeys:
    """What a site needs to answer for one step."""

    name: str
    context: bytes = field(repr=False)
    """`SumContext.label("keys")` of the step that they are for."""
    receive: Mapping[str, bytes] = field(repr=False)

    def to_bytes(self) -> bytes:
        return canonical.encode(
            {
                "wardround": _FORMAT,
                "name": self.name,
                "context": self.context.hex(),
                "receive": {name: key.hex() for name, key in self.receive.items()},
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> AnswerKeys:
        """Read what `to_bytes` wrote; raises `KeptKeysError`."""
        document = kept_document(data, form=_FORMAT, members={"name", "context", "receive"})
        name = document["name"]
        if not isinstance(name, str):
            raise KeptKeysError("kept keys name no site")
        return cls(name=name, context=kept_key(document["context"]), receive=kept_keys(document["receive"]))


class MaskSecrets:
    """What a site needs to mask one vector. It is handed out once: after that only answering is left."""

    def __init__(
        self, *, pair_secrets: Mapping[str, bytes], wrap: Mapping[str, bytes], answering: AnswerKeys
    ) -> None:
        """By name of the peer: the secret shared with it, and the key under which shares are wrapped for it.
        `wrap` has this site's own too, with which it wraps for itself."""
        self._taken = False
        self._pair_secrets = dict(pair_secrets)
        self._wrap = dict(wrap)
        self._answering = answering

    @property
    def name(self) -> str:
        return self._answering.name

    def answering(self) -> AnswerKeys:
        """To be stored before the report is sent."""
        return self._answering

    def take(self) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """(pair secrets, wrapping keys) by peer, and forget them. Raises `RoleError` the second time: one mask on
        two vectors shows their difference."""
        if self._taken:
            raise RoleError("the masks of this step were used already")
        taken = self._pair_secrets, self._wrap
        self._taken, self._pair_secrets, self._wrap = True, {}, {}
        return taken

    def __repr__(self) -> str:
        return f"MaskSecrets({self.name!r})"


def kept_document(data: bytes, *, form: str, members: set[str]) -> dict[str, canonical.JsonValue]:
    """A canonical JSON object of exactly these members and its format's name."""
    try:
        document = canonical.decode(data)
    except canonical.NotCanonicalError:
        raise KeptKeysError("kept keys are not readable") from None
    if (
        not isinstance(document, dict)
        or set(document) != members | {"wardround"}
        or document["wardround"] != form
    ):
        raise KeptKeysError("kept keys are not of this format")
    return document


def kept_key(value: canonical.JsonValue) -> bytes:
    """32 bytes from lower-case hex."""
    try:
        key = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES or key.hex() != value:
        raise KeptKeysError("a kept key is not of 32 bytes")
    return key


def kept_keys(value: canonical.JsonValue) -> dict[str, bytes]:
    if not isinstance(value, dict):
        raise KeptKeysError("kept keys are given by site")
    return {name: kept_key(key) for name, key in value.items()}
