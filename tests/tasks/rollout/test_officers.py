"""Officers' folders, and who signs where nobody says otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.home import HomeError, SourceConfig
from adapters.officer import OfficerConfig, OfficerFolder
from ledger.errors import CodedError
from policies.federation import Pool
from policies.rollout.sign_off import SignOffStatement, faulty, sign_off
from tasks.found import FoundingSite, found
from tasks.rollout.officers import default_officers, default_sign_offs
from tests.consents import WAIVER
from tests.consortium import SITES
from tests.policies.founding import named


def test_officers_of_a_new_federation_sign_with_the_keys_that_it_was_founded_with(tmp_path: Path) -> None:
    source = SourceConfig(kind="npz", path=str(tmp_path / "none.npz"))
    founded = found(
        tmp_path,
        tuple(FoundingSite(site, source, WAIVER) for site in SITES),
        name="test",
        pool=Pool.of(epsilon_cap_micro=1_000_000, delta=1e-5),
        officers=default_officers(SITES, coordinator="coordinator"),
        sign_offs=default_sign_offs(len(SITES)),
    )
    federation = founded.federation
    assert federation.sign_offs_for("foundation") == {"data-steward": 3, "compliance-officer": 1}
    for phase in ("expansion", "clinical"):
        assert federation.sign_offs_for(phase).keys() == {
            "data-steward", "compliance-officer", "clinical-lead", "regulatory-officer",
        }  # fmt: skip
    statement = SignOffStatement(
        schema_version=1, origin=federation.origin, phase="pilot", measured=named("m"),
        evidence_digest=named("e"), policy_digest=federation.policy_digest,
    )  # fmt: skip
    signed = []
    for name, root in founded.officers.items():
        folder = OfficerFolder(root)
        officer = federation.officer(name)
        assert officer is not None and folder.read().role == officer.role
        signed.append(sign_off(statement, officer, folder.signer()))
    wrong, counted = faulty(federation, statement, signed)
    assert wrong == [] and counted["data-steward"] == len(SITES)


def test_no_key_of_an_officer_is_ever_overwritten(tmp_path: Path) -> None:
    config = OfficerConfig(name="steward", role="data-steward", institution="hospital-a")
    OfficerFolder(tmp_path / "steward").make(config)
    before = (tmp_path / "steward" / "keys" / "signing.pem").read_bytes()
    with pytest.raises((OSError, CodedError)):
        OfficerFolder(tmp_path / "steward").make(config)
    assert (tmp_path / "steward" / "keys" / "signing.pem").read_bytes() == before


def test_a_folder_that_is_no_officer_s_is_named(tmp_path: Path) -> None:
    with pytest.raises(HomeError) as caught:
        OfficerFolder(tmp_path).read()
    assert caught.value.code == "officer.folder"
    (tmp_path / "officer.yaml").write_bytes("name: müller\n".encode("latin-1"))
    with pytest.raises(HomeError) as caught:
        OfficerFolder(tmp_path).read()
    assert caught.value.code == "officer.folder"


def test_names_of_long_sites_stay_names() -> None:
    officers = default_officers(["h" * 63, "hospital-b"], coordinator="coordinator")
    assert [one.name for one in officers[:2]] == ["steward-1", "steward-of-hospital-b"]
