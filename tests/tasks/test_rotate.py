"""What an institution says when it puts its next key on the ledger. With the ledger itself: tests/flows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from adapters.home import Home, SiteConfig, SourceConfig
from adapters.key_rotation import KeyRotation
from ledger.keys import Signer
from policies.events import Body, IdentityRotated
from policies.federation import Federation, Pool
from tasks.found import FoundingSite, found
from tasks.rotate import rotate_key
from tests.consents import WAIVER

SITE = "site-a"


class Speaker:
    """A site that only says things, and keeps what it said."""

    name = SITE

    def __init__(self, home: Home, federation: Federation) -> None:
        self.home, self.federation = home, federation
        self.config = home.read(SiteConfig)
        self.signer = home.signer("signing", SITE)
        self.said: list[Body] = []

    def tell(self, step: str) -> None:
        pass

    def keep_diagnostics(self, text: str) -> None:
        raise AssertionError(text)

    async def say(self, body: Body, *, final: bool, also: Sequence[Signer]) -> int:
        assert final
        self.said.append(body)
        return 1


@pytest.mark.parametrize("valid_until_s", [None, 1_900_000_000])
async def test_a_rotation_keeps_the_end_of_the_credential(tmp_path: Path, valid_until_s: int | None) -> None:
    sources = tuple(
        FoundingSite(name, SourceConfig(kind="npz", path="none"), WAIVER)
        for name in (SITE, "site-b", "site-c")
    )
    pool = Pool.of(epsilon_cap_micro=1, delta=1e-5)
    founded = found(tmp_path / "federation", sources, name="wards", pool=pool)
    member = founded.federation.member(SITE)
    assert member is not None
    party = Speaker(Home(founded.sites[SITE]), founded.federation.with_key(SITE, member.key, valid_until_s))
    made = KeyRotation(party.home, party.config).begin()
    await rotate_key(party)
    (body,) = party.said
    assert isinstance(body, IdentityRotated)
    assert body.valid_until_s == valid_until_s
    assert party.signer.public == body.key.verification_key() == made.public
    party.home.close()
