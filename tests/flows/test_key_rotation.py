"""A hospital and the coordinator change their signing keys between two plans, and once in the middle of a crash."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.home import CoordinatorConfig, Home, SiteConfig
from adapters.key_rotation import KeyRotation, RotationPendingError
from ledger.keys import Signer, VerificationKey
from tests.consortium import SITES, Consortium, PowerCut
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-2")

SITE = SITES[1]


def rotation_of(consortium: Consortium, name: str) -> KeyRotation:
    if name == "coordinator":
        home = Home(consortium.founded.coordinator)
        return KeyRotation(home, home.read(CoordinatorConfig))
    home = Home(consortium.founded.sites[name])
    return KeyRotation(home, home.read(SiteConfig))


def key_in_force(consortium: Consortium, name: str) -> VerificationKey:
    member = consortium.state().founded().member(name)
    assert member is not None
    return member.key.verification_key()


def keys_folder(consortium: Consortium, name: str) -> Path:
    root = consortium.founded.coordinator if name == "coordinator" else consortium.founded.sites[name]
    return root / "keys"


async def test_the_next_run_puts_the_new_keys_on_the_ledger_and_signs_with_them(
    consortium: Consortium,
) -> None:
    made: dict[str, Signer] = {name: rotation_of(consortium, name).begin() for name in (SITE, "coordinator")}
    old = {name: key_in_force(consortium, name) for name in made}
    outcome = await consortium.run(tiny_plan())
    assert outcome.errors == {}
    for name, signer in made.items():
        assert key_in_force(consortium, name) == signer.public != old[name]
        assert rotation_of(consortium, name).pending() is None
        kept = keys_folder(consortium, name) / f"signing-{old[name].keyid[:16]}.pem"
        assert kept.exists()
    again = await consortium.run(tiny_plan(edition="2"))
    assert again.errors == {}


async def test_one_rotation_at_a_time(consortium: Consortium) -> None:
    rotation_of(consortium, SITE).begin()
    with pytest.raises(RotationPendingError):
        rotation_of(consortium, SITE).begin()


async def test_a_crash_between_the_ledger_and_the_key_file_is_made_good_by_the_next_run(
    consortium: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = rotation_of(consortium, SITE).begin()

    def cut(self: KeyRotation) -> None:
        raise PowerCut

    with monkeypatch.context() as patched:
        patched.setattr(KeyRotation, "finish", cut)
        outcome = await consortium.run(tiny_plan())
    assert isinstance(outcome.errors[SITE], PowerCut)
    assert key_in_force(consortium, SITE) == made.public
    assert rotation_of(consortium, SITE).pending() is not None
    again = await consortium.run(tiny_plan())
    assert again.errors == {}
    assert rotation_of(consortium, SITE).pending() is None
