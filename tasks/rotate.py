"""Put an institution's next signing key on the ledger, if it made one, and sign with it from then on.

Sites and the coordinator do it alike, at the beginning of a run, when nothing of theirs is under way: an entry that
the old key signed and the log had not taken yet would be lost. How the keys are kept is `adapters.key_rotation`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from adapters.home import CoordinatorConfig, Home, SiteConfig
from adapters.key_rotation import KeyRotation
from ledger.keys import Signer
from policies.events import Body, IdentityRotated
from policies.federation import Federation, PublicKey
from tasks.step import step


class Party(Protocol):
    """A site or the coordinator."""

    home: Home
    signer: Signer

    @property
    def config(self) -> SiteConfig | CoordinatorConfig: ...

    @property
    def name(self) -> str: ...

    @property
    def federation(self) -> Federation: ...

    def tell(self, step: str) -> None: ...

    def keep_diagnostics(self, text: str) -> None: ...

    async def say(self, body: Body, *, final: bool, also: Sequence[Signer]) -> int: ...


@step
async def rotate_key(party: Party) -> None:
    rotation = KeyRotation(party.home, party.config)
    following = rotation.pending()
    if following is None:
        return
    party.tell("rotate the key")
    member = party.federation.member(party.name)
    if member is None or member.key.verification_key() != following.public:
        rotated = IdentityRotated(
            purpose="identity",
            name=party.name,
            key=PublicKey.of(following.public),
            # Left out, it would make a credential that ends into one that never does.
            valid_until_s=None if member is None else member.valid_until_s,
        )
        await party.say(rotated, final=True, also=(following,))
    rotation.finish()
    party.signer = following
