"""An institution whose keys are on tokens: configuration, PIN, and a ledger from founding to finality."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from adapters.clock import FixedClock
from adapters.exchange import DirectoryExchange
from adapters.home import Home, SourceConfig
from adapters.institution_log import open_replica, open_sequencer, policy_of
from adapters.key_token import TokenConfig
from ledger.errors import InputError
from ledger.keys import FileSigner
from ledger.token_signer import TokenSigner
from ledger.verify import verify_directory
from policies.events import ConsentPublished
from policies.federation import Pool
from tasks.found import COORDINATOR, Founded, FoundingSite, found
from tasks.speech import next_entry
from tests.consents import POLICY, WAIVER
from tests.soft_token import PIN, SoftTokens

NOW_S = 1_800_000_000
SITES = ("site-a", "site-b", "site-c")
CLOCK = FixedClock(NOW_S)


@pytest.fixture
def founded(soft_tokens: SoftTokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Founded:
    soft_tokens.make(COORDINATOR, *SITES)
    monkeypatch.setenv("WARDROUND_TOKEN_PIN", PIN)
    sources = tuple(FoundingSite(name, SourceConfig(kind="npz", path="none"), WAIVER) for name in SITES)
    return found(
        tmp_path / "federation",
        sources,
        name="wards",
        pool=Pool.of(epsilon_cap_micro=1, delta=1e-5),
        token_module=soft_tokens.module,
        clock=CLOCK,
    )


@pytest.fixture
def homes(founded: Founded) -> Iterator[dict[str, Home]]:
    homes = {name: Home(root) for name, root in {COORDINATOR: founded.coordinator, **founded.sites}.items()}
    yield homes
    for home in homes.values():
        home.close()


def test_a_federation_whose_keys_are_all_on_tokens(founded: Founded, homes: dict[str, Home]) -> None:
    """Founding, an event of a site, cosignatures of all, a final checkpoint, and the offline verifier."""
    federation, exchange = founded.federation, DirectoryExchange(founded.exchange)
    sequencer = open_sequencer(homes[COORDINATOR], federation, exchange)
    replicas = {
        name: open_replica(homes[name], federation, exchange, name=name, clock=CLOCK) for name in SITES
    }

    def turn() -> None:
        for _ in range(6):
            sequencer.turn()
            for replica in replicas.values():
                replica.turn()

    turn()
    published = POLICY.with_fields({"policy_version": "2026-2"})
    body = ConsentPublished.from_value(published.to_json(), what="consent policy")
    signer = homes["site-a"].signer("signing", "site-a")
    assert isinstance(signer, TokenSigner)
    entry = next_entry(replicas["site-a"].state, body, name="site-a", signers=(signer,), clock=CLOCK)
    sequencer.submit(entry)
    turn()
    assert sequencer.refused == {}
    assert sequencer.final_size == 2
    assert all(replica.halted is None and replica.final_state.size == 2 for replica in replicas.values())
    report = verify_directory(
        founded.exchange / "ledger", log_vkey=federation.log_vkey, policy=policy_of(federation)
    )
    assert report.ok and report.size == 2
    for name, home in homes.items():
        kept = {path.name for path in (home.root / "keys").iterdir() if path.suffix == ".pem"}
        assert kept == (set() if name == COORDINATOR else {"sealing.pem"})
        assert PIN not in (home.root / "institution.yaml").read_text()


def test_only_the_purposes_named_are_on_the_token(
    founded: Founded, homes: dict[str, Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = homes["site-a"]
    assert home.token is not None
    value = yaml.safe_load((home.root / "institution.yaml").read_text())
    del value["token"]["keys"]["signing"]
    (home.root / "institution.yaml").write_text(yaml.safe_dump(value))
    mixed = Home(home.root)
    made = mixed.make_signer("signing", "site-a")
    opened = mixed.signer("signing", "site-a")
    witness = mixed.signer("witness", "site-a")
    assert (
        isinstance(made, FileSigner) and isinstance(opened, FileSigner) and isinstance(witness, TokenSigner)
    )
    mixed.close()
    with pytest.raises(InputError) as refused:
        witness.sign(b"x")
    assert refused.value.code == "ledger.token.closed"
    opened.sign(b"x")


def test_the_pin_comes_from_the_environment_or_a_private_file(
    founded: Founded, homes: dict[str, Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = homes["site-a"]
    monkeypatch.delenv("WARDROUND_TOKEN_PIN")

    def refused() -> str:
        with pytest.raises(InputError) as caught:
            home.signer("witness", "site-a")
        assert PIN not in str(caught.value)
        return caught.value.code

    assert refused() == "home.pin"
    path = home.root / "keys" / "pin"
    path.write_text(f"{PIN}\n")
    path.chmod(0o640)
    assert refused() == "home.pin-mode"
    path.chmod(0o600)
    signer = home.signer("witness", "site-a")
    assert any(file.suffix == ".lock" for file in (home.root / "keys").iterdir())
    signer.public.verify(signer.sign(b"x"), b"x")
    path.write_bytes(b"\xff\xfe")
    assert refused() == "home.pin"


def test_a_broken_configuration_never_falls_back_to_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WARDROUND_PASSPHRASE", "secret")
    (tmp_path / "keys").mkdir()
    Home(tmp_path).make_signer("signing", "site-a")
    assert Home(tmp_path).signer("signing", "site-a")
    for text in ("token: [", "token: {module: relative.so, label: a, keys: {signing: x}}"):
        (tmp_path / "institution.yaml").write_text(text)
        with pytest.raises(InputError):
            Home(tmp_path).signer("signing", "site-a")


@pytest.mark.parametrize(
    "wrong",
    [
        {"module": "relative.so"},
        {"label": ""},
        {"keys": {}},
        {"keys": {"sealing": "x"}},
        {"keys": {"signing": ""}},
        {"pin": "1234"},
    ],
)
def test_a_token_configuration_that_names_too_little_or_too_much(wrong: dict[str, object]) -> None:
    right = {"module": "/lib/token.so", "label": "ward", "keys": {"signing": "x"}}
    assert TokenConfig.from_value(right, what="token").label_of("signing") == "x"
    with pytest.raises(InputError):
        TokenConfig.from_value({**right, **wrong}, what="token")
