"""What each two sites share: a chain of keys for a plan, that only moves forward.

Each site draws one X25519 key for a plan and announces its public half, which is then in the roster. Of each pair's
Diffie-Hellman secret (RFC 7748) HKDF-SHA256 (RFC 5869) makes the first chain key,

    chain 0    HKDF(X25519(a, B), info = canonical JSON of origin, study, plan digest, and both sites with their keys)
    chain p+1  derive(chain p, "ratchet")

and the private key is thrown away. Moving to a later position forgets the earlier keys: who steals a site's disk
opens no step before the one that it stands at. Of one step's chain key come, with a label each, and bound to the
whole `SumContext`: the pair secret, from which the mask is made and which sites give shares of when one of the pair
is gone; and the keys under which one site wraps shares for the other, one for each direction. They come of the chain
and not of the pair secret, because that one may be revealed.

    PairChains, canonical JSON, for the site's encrypted disk:
    {"chains": {site: hex}, "issued": [hex, ...], "keys": {site: hex}, "name": text, "plan": hex, "position": number,
     "wardround": "pair-chains/v1"}

Python may leave copies of forgotten bytes in memory; what is forgotten here is only sure to be gone from disk once
the file is overwritten, and from memory once the process ends.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import Final, NoReturn

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ledger import canonical
from ledger.errors import CodedError, InputError
from privacy.masking.derivation import KEY_BYTES, derive, sum_label
from privacy.masking.mask_secrets import (
    AnswerKeys,
    KeptKeysError,
    MaskSecrets,
    kept_document,
    kept_key,
    kept_keys,
)
from privacy.sum_context import Roster, SumContext

MAXIMUM_POSITION: Final = 1 << 16
"""32,768 rounds. A context far ahead would spend a site's time and forget all that is between."""
_FORMAT: Final = "pair-chains/v1"


class KeyErasedError(InputError):
    """The keys of a step that is past, or that were given out already."""

    code = "privacy.key-erased"


class MaskingKeyInvalidError(InputError):
    """A masking key with which no secret can be shared."""

    code = "privacy.masking-key-invalid"


class PairKeysMismatchError(InputError):
    """The keys that this site began the plan with are not those of the sum that it is asked for."""

    code = "privacy.pair-keys-mismatch"


class MaskingKeyCopyError(CodedError):
    code = "privacy.secret-copy"


class MaskingKey:
    """The private half of the key that a site announces for one plan. Delete it once the chains have begun."""

    def __init__(self, private: X25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def generate(cls) -> MaskingKey:
        return cls(X25519PrivateKey.generate())

    def public_bytes(self) -> bytes:
        """The 32 raw bytes for the roster."""
        return self._private.public_key().public_bytes_raw()

    def to_bytes(self) -> bytes:
        """The 32 private bytes, for the site's encrypted disk until the roster is known."""
        return self._private.private_bytes_raw()

    @classmethod
    def from_bytes(cls, data: bytes) -> MaskingKey:
        if len(data) != KEY_BYTES:
            raise MaskingKeyInvalidError("a masking key has 32 bytes")
        return cls(X25519PrivateKey.from_private_bytes(data))

    def agree(self, public: bytes, *, info: bytes) -> bytes:
        """The 32-byte key shared with the holder of `public`. Refuses a point of low order, whose secret is zero
        whatever the private key."""
        try:
            shared = self._private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            shared = bytes(KEY_BYTES)
        if shared == bytes(KEY_BYTES):
            raise MaskingKeyInvalidError("no secret can be shared with the holder of this masking key")
        return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(shared)

    def __repr__(self) -> str:
        return f"MaskingKey({self.public_bytes().hex()[:16]})"

    def __reduce__(self) -> NoReturn:
        raise MaskingKeyCopyError("a masking key is never pickled")


class PairChains:
    """One site's chain keys with every other site of a plan's roster, all at one position."""

    def __init__(
        self,
        *,
        name: str,
        plan: bytes,
        keys: Mapping[str, bytes],
        chains: Mapping[str, bytes],
        position: int,
        issued: frozenset[bytes],
    ) -> None:
        """Not to be called directly: use `begin` or `from_bytes`."""
        self.name = name
        self.position = position
        self._plan = plan
        self._keys = dict(keys)
        self._chains = dict(chains)
        self._issued = issued

    @classmethod
    def begin(
        cls, key: MaskingKey, *, name: str, roster: Roster, origin: str, study: str, plan_digest: str
    ) -> PairChains:
        """Chains of `name` with all others of the roster, at position 0.

        Raises `PairKeysMismatchError` if the roster has another key for `name`, `MaskingKeyInvalidError` naming
        whose key is unusable.
        """
        keys = {one.name: one.masking_key for one in roster.participants}
        if keys.get(name) != key.public_bytes():
            raise PairKeysMismatchError(f"the roster has not the masking key that {name} announced")
        chains: dict[str, bytes] = {}
        unusable: list[str] = []
        for peer in sorted(keys.keys() - {name}):
            info = canonical.encode(
                {
                    "wardround": "pair-chain/v1",
                    "origin": origin,
                    "study": study,
                    "plan": plan_digest,
                    "pair": {name: keys[name].hex(), peer: keys[peer].hex()},
                }
            )
            try:
                chains[peer] = key.agree(keys[peer], info=info)
            except MaskingKeyInvalidError:
                unusable.append(peer)
        if unusable:
            raise MaskingKeyInvalidError(f"no secret can be shared with {', '.join(unusable)}")
        plan = _plan_label(origin=origin, study=study, plan_digest=plan_digest)
        return cls(name=name, plan=plan, keys=keys, chains=chains, position=0, issued=frozenset())

    def at(self, position: int) -> None:
        """Move on to `position` (`SumContext.position`) and forget what was before; no way back."""
        if position < self.position:
            raise KeyErasedError("the keys of an earlier step are erased")
        if position > MAXIMUM_POSITION:
            raise PairKeysMismatchError("the step lies beyond any plan's last round")
        chains = self._chains
        for _ in range(position - self.position):
            chains = {peer: derive(key, label="ratchet", binding=b"") for peer, key in chains.items()}
        if position > self.position:
            self._issued = frozenset()
        self._chains, self.position = chains, position

    def secrets(self, context: SumContext) -> MaskSecrets:
        """This site's secrets for one sum, whose roster may be a part of the plan's; moves on to its position.

        Once for each context, so that no mask covers two vectors: whoever fails in between needs a new attempt.
        Raises `KeyErasedError`, or `PairKeysMismatchError` naming every site whose key is not the one begun with.
        """
        plan = _plan_label(origin=context.origin, study=context.study, plan_digest=context.plan_digest)
        if plan != self._plan:
            raise PairKeysMismatchError("the pair keys are those of another plan")
        strange = [
            one.name for one in context.roster.participants if self._keys.get(one.name) != one.masking_key
        ]
        if strange or self.name not in context.roster.names:
            names = ", ".join(strange) or self.name
            raise PairKeysMismatchError(f"the roster does not fit the pair keys begun with: {names}")
        label = sum_label(context, "keys")
        self.at(context.position)
        if label in self._issued:
            raise KeyErasedError("the keys of this step were given out already")
        self._issued |= {label}
        peers = [name for name in context.roster.names if name != self.name]
        own = secrets.token_bytes(KEY_BYTES)
        return MaskSecrets(
            pair_secrets={
                peer: derive(self._chains[peer], label="pair", binding=sum_label(context, "pair"))
                for peer in peers
            },
            wrap={
                self.name: own,
                **{peer: self._wrap(context, author=self.name, recipient=peer, peer=peer) for peer in peers},
            },
            answering=AnswerKeys(
                name=self.name,
                context=label,
                receive={
                    self.name: own,
                    **{
                        peer: self._wrap(context, author=peer, recipient=self.name, peer=peer)
                        for peer in peers
                    },
                },
            ),
        )

    def _wrap(self, context: SumContext, *, author: str, recipient: str, peer: str) -> bytes:
        binding = sum_label(context, "wrap") + canonical.encode([author, recipient])
        return derive(self._chains[peer], label="wrap", binding=binding)

    def to_bytes(self) -> bytes:
        """All secrets in the clear: for the site's encrypted disk, overwriting what was there."""
        return canonical.encode(
            {
                "wardround": _FORMAT,
                "name": self.name,
                "plan": self._plan.hex(),
                "position": self.position,
                "keys": {name: key.hex() for name, key in self._keys.items()},
                "chains": {name: key.hex() for name, key in self._chains.items()},
                "issued": [label.hex() for label in sorted(self._issued)],
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> PairChains:
        """Read what `to_bytes` wrote; raises `KeptKeysError`."""
        members = {"name", "plan", "position", "keys", "chains", "issued"}
        document = kept_document(data, form=_FORMAT, members=members)
        name, position, issued = document["name"], document["position"], document["issued"]
        keys, chains = kept_keys(document["keys"]), kept_keys(document["chains"])
        if not isinstance(name, str) or chains.keys() | {name} != keys.keys() or name in chains:
            raise KeptKeysError("kept pair keys are not of one site with its peers")
        if type(position) is not int or not 0 <= position <= MAXIMUM_POSITION or not isinstance(issued, list):
            raise KeptKeysError("kept pair keys stand at no step")
        return cls(
            name=name,
            plan=kept_key(document["plan"]),
            keys=keys,
            chains=chains,
            position=position,
            issued=frozenset(kept_key(label) for label in issued),
        )

    def __repr__(self) -> str:
        return f"PairChains({self.name!r}, position={self.position})"

    def __reduce__(self) -> NoReturn:
        raise MaskingKeyCopyError("pair keys are never pickled")


def _plan_label(*, origin: str, study: str, plan_digest: str) -> bytes:
    document: canonical.JsonValue = {"origin": origin, "study": study, "plan": plan_digest}
    return hashlib.sha256(canonical.encode(document)).digest()
