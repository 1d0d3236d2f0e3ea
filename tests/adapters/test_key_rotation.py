"""The next signing key: as a file or on the token, through a crash at any step. With the ledger: tests/flows."""

from __future__ import annotations

from pathlib import Path

import pytest

import adapters.key_rotation
from adapters.home import Home, SiteConfig, SourceConfig
from adapters.key_rotation import KeyRotation
from ledger.keys import KeyFileError, Signer
from policies.federation import Pool
from tasks.found import COORDINATOR, FoundingSite, found
from tests.consents import WAIVER
from tests.soft_token import PIN, SoftTokens

SITES = ("site-a", "site-b", "site-c")


class PowerCut(BaseException):
    pass


@pytest.fixture(params=["file", pytest.param("token", marks=pytest.mark.xdist_group("token"))])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site's home, its keys in files or on a token."""
    module = None
    if request.param == "token":
        tokens: SoftTokens = request.getfixturevalue("soft_tokens")
        tokens.make(COORDINATOR, *SITES)
        monkeypatch.setenv("WARDROUND_TOKEN_PIN", PIN)
        module = tokens.module
    sources = tuple(FoundingSite(name, SourceConfig(kind="npz", path="none"), WAIVER) for name in SITES)
    pool = Pool.of(epsilon_cap_micro=1, delta=1e-5)
    founded = found(tmp_path / "federation", sources, name="wards", pool=pool, token_module=module)
    return founded.sites["site-a"]


def public_of(signer: Signer | None) -> str | None:
    return None if signer is None else signer.public.keyid


class Opened:
    """A home as a process has it open, and no longer."""

    def __init__(self, root: Path) -> None:
        self.home = Home(root)
        self.rotation = KeyRotation(self.home, self.home.read(SiteConfig))

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.home.close()

    def in_force(self) -> str | None:
        return public_of(self.home.signer("signing", "site-a"))


def test_two_rotations_one_after_the_other(root: Path) -> None:
    seen = []
    for _ in range(2):
        with Opened(root) as opened:
            seen.append(opened.in_force())
            made = public_of(opened.rotation.begin())
        with Opened(root) as opened:
            assert public_of(opened.rotation.pending()) == made
            opened.rotation.finish()
        with Opened(root) as opened:
            assert opened.in_force() == made
            assert opened.rotation.pending() is None
            opened.rotation.finish()  # again, to no effect
            seen.append(made)
    assert len({*seen}) == 3
    with Opened(root) as opened:
        assert opened.in_force() == seen[-1]


@pytest.mark.parametrize("broken", ["write_atomically", "make_signer"])
def test_a_crash_while_the_key_is_made_leaves_the_old_one_in_force(
    root: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Opened(root) as opened:
        old = opened.in_force()
        on_token = opened.home.token is not None

    def cut(*_: object, **__: object) -> None:
        raise PowerCut

    where = adapters.key_rotation if broken == "write_atomically" else adapters.key_rotation.key_token
    with monkeypatch.context() as patched, Opened(root) as opened:
        patched.setattr(where, broken, cut)
        if on_token:
            with pytest.raises(PowerCut):
                opened.rotation.begin()
    with Opened(root) as opened:
        assert opened.in_force() == old
        assert opened.rotation.pending() is None
        opened.rotation.begin()
        assert opened.rotation.pending() is not None


def test_a_crash_after_the_key_took_its_place_is_harmless(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Opened(root) as opened:
        made = public_of(opened.rotation.begin())

    def cut(*_: object) -> None:
        raise PowerCut

    with monkeypatch.context() as patched, Opened(root) as opened:
        if opened.home.token is None:
            patched.setattr(adapters.key_rotation, "_sync", cut)
        else:
            patched.setattr(Path, "unlink", cut)
        with pytest.raises(PowerCut):
            opened.rotation.finish()
    with Opened(root) as opened:
        assert opened.in_force() == made
        assert opened.rotation.pending() is None


# -- a next key that cannot be opened --------------------------------------------------------------------------


@pytest.fixture
def in_files(tmp_path: Path) -> Path:
    """A site's home, its keys in files and a next key among them."""
    sources = tuple(FoundingSite(name, SourceConfig(kind="npz", path="none"), WAIVER) for name in SITES)
    pool = Pool.of(epsilon_cap_micro=1, delta=1e-5)
    home = found(tmp_path / "federation", sources, name="wards", pool=pool).sites["site-a"]
    with Opened(home) as opened:
        opened.rotation.begin()
    return home


@pytest.mark.parametrize("kept_bytes", [0, 100])
def test_a_damaged_next_key_is_set_aside_and_another_can_be_made(in_files: Path, kept_bytes: int) -> None:
    following = in_files / "keys" / "signing-next.pem"
    for name in ("signing-next.damaged.pem", "signing-next.damaged-2.pem"):
        damaged = following.read_bytes()[:kept_bytes]
        following.write_bytes(damaged)
        with Opened(in_files) as opened:
            old = opened.in_force()
            assert opened.rotation.pending() is None
            opened.rotation.finish()  # to no effect
            assert opened.in_force() == old
        assert not following.exists()
        assert following.with_name(name).read_bytes() == damaged
        with Opened(in_files) as opened:
            made = public_of(opened.rotation.begin())
    with Opened(in_files) as opened:
        opened.rotation.finish()
        assert opened.in_force() == made


def test_a_wrong_passphrase_sets_no_key_aside(in_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = in_files / "keys"
    before = {path.name: path.read_bytes() for path in keys.iterdir()}
    with monkeypatch.context() as patched, Opened(in_files) as opened:
        patched.setenv("WARDROUND_PASSPHRASE", "wrong")
        for call in (opened.rotation.pending, opened.rotation.begin, opened.rotation.finish):
            with pytest.raises(KeyFileError) as refused:
                call()
            assert refused.value.code == "ledger.key.file"
    assert {path.name: path.read_bytes() for path in keys.iterdir()} == before
    with Opened(in_files) as opened:
        assert opened.rotation.pending() is not None


def test_a_next_key_that_others_may_read_is_named_and_left_where_it_is(in_files: Path) -> None:
    following = in_files / "keys" / "signing-next.pem"
    following.chmod(0o640)
    with Opened(in_files) as opened, pytest.raises(KeyFileError) as refused:
        opened.rotation.pending()
    assert refused.value.code == "ledger.key.file-mode"
    assert following.exists()


def test_a_damaged_next_key_never_takes_the_place_of_the_one_in_force(in_files: Path) -> None:
    keys = in_files / "keys"
    (keys / "signing-next.pem").write_bytes(b"")
    before = {path.name: path.read_bytes() for path in keys.iterdir()}
    with Opened(in_files) as opened, pytest.raises(KeyFileError) as refused:
        opened.rotation.finish()
    assert refused.value.code == "ledger.key.file"
    assert {path.name: path.read_bytes() for path in keys.iterdir()} == before
