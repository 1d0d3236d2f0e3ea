"""A home: what is missing or malformed is said in one error, and secrets are files of their owner alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.home import (
    CONFIG,
    CoordinatorConfig,
    Home,
    HomeError,
    NoSourceError,
    SiteConfig,
    write_atomically,
)
from adapters.outbox import Outbox, Slot
from ledger.errors import InputError
from policies.document import MalformedDocumentError

SLOT = Slot("ab" * 32, 3, "training", 1)


def test_an_empty_folder_is_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WARDROUND_PASSPHRASE", raising=False)
    home = Home(tmp_path)
    for missing in (
        lambda: home.read(SiteConfig),
        lambda: home.federation,
        lambda: home.passphrase,
        lambda: home.patient_secret(),
    ):
        with pytest.raises(HomeError) as refused:
            missing()
        assert refused.value.code == "home.invalid"
    monkeypatch.setenv("WARDROUND_PASSPHRASE", "from the environment")
    assert Home(tmp_path).passphrase == b"from the environment"


def test_every_wrong_field_of_a_configuration_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "institution.yaml").write_text(
        "role: site\nname: Upper Case\nexchange: x\napproval: never\nsource: {kind: paper}\nextra: 1\n"
    )
    with pytest.raises(InputError) as refused:
        Home(tmp_path).read(SiteConfig)
    for field in ("name", "approval", "source.kind", "source.path", "extra"):
        assert f"{field}:" in refused.value.public_message, field
    assert "Upper Case" not in str(refused.value)


SITE = (
    "role: site\nname: a\nexchange: x\napproval: automatic\nconsent: {basis: waiver}\n"
    "policy: {epsilon_cap: 1.0, delta: 1.0e-5, plan_epsilon_cap: 1.0, model_families: [Classifier]}\n"
)


def test_a_site_names_a_source_for_all_studies_or_one_for_each(tmp_path: Path) -> None:
    file = tmp_path / "institution.yaml"
    file.write_text(SITE)
    with pytest.raises(InputError, match="neither source nor sources"):
        Home(tmp_path).read(SiteConfig)
    file.write_text(f"{SITE}sources: {{stays: {{kind: table, path: stays.csv}}}}\n")
    config = Home(tmp_path).read(SiteConfig)
    assert config.source_of("stays").path == "stays.csv"
    with pytest.raises(NoSourceError) as refused:
        config.source_of("x-rays")
    assert refused.value.code == "site.no-source" and "x-rays" in refused.value.public_message
    with file.open("a") as more:
        more.write("source: {kind: npz, path: all.npz}\n")
    config = Home(tmp_path).read(SiteConfig)
    assert [config.source_of(study).kind for study in ("stays", "x-rays")] == ["table", "npz"]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "secret"
    write_atomically(target, b"old", mode=0o600)
    assert target.stat().st_mode & 0o777 == 0o600

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(target, b"new", mode=0o600)
    assert target.read_bytes() == b"old"


def test_a_release_counts_as_built_only_when_all_of_it_is_there(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    assert outbox.kept(SLOT) is None
    for piece in ("entry", "shares", "update"):
        outbox.keep(SLOT, update=b"update", shares=b"shares", entry=b"entry")
        assert Outbox(tmp_path).kept(SLOT) == (b"update", b"shares", b"entry")
        (kept,) = tmp_path.rglob(f"*.{piece}")
        assert kept.stat().st_mode & 0o777 == 0o600
        kept.unlink()  # the crash came before it
        assert outbox.kept(SLOT) is None
    outbox.keep(SLOT, update=b"made again", shares=b"", entry=b"entry 2")
    assert outbox.kept(SLOT) == (b"made again", b"", b"entry 2")


def test_a_crash_before_the_entry_leaves_nothing_that_would_be_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is written last, a release that exists names an update and shares that are on the disk."""
    written: list[Path] = []

    def crashes(path: Path, data: bytes, *, mode: int) -> None:
        if path.suffix == ".entry":
            raise OSError(28, "No space left on device")
        written.append(path)
        write_atomically(path, data, mode=mode)

    monkeypatch.setattr("adapters.outbox.write_atomically", crashes)
    with pytest.raises(OSError, match="No space"):
        Outbox(tmp_path).keep(SLOT, update=b"update", shares=b"shares", entry=b"entry")
    assert {path.suffix for path in written} == {".update", ".shares"}
    assert Outbox(tmp_path).kept(SLOT) is None


@pytest.mark.parametrize(("kind", "role"), [(SiteConfig, "coordinator"), (CoordinatorConfig, "site")])
def test_a_home_of_the_other_role_is_named_as_such(
    tmp_path: Path, kind: type[SiteConfig] | type[CoordinatorConfig], role: str
) -> None:
    (tmp_path / "institution.yaml").write_text(f"role: {role}\nname: somebody\n")
    with pytest.raises(HomeError) as refused:
        Home(tmp_path).read(kind)
    assert refused.value.code == "home.role" and f"is a {role}'s home" in refused.value.public_message


def test_one_run_at_a_time_has_a_home(tmp_path: Path) -> None:
    with Home(tmp_path).alone():
        with pytest.raises(HomeError) as refused, Home(tmp_path).alone():
            raise AssertionError("two runs")
        assert refused.value.code == "home.in-use"
    with Home(tmp_path).alone():
        pass


@pytest.mark.parametrize("text", ["token: {\n", "token: {library: a}\ntoken: {library: b}\n", "- token\n"])
def test_a_configuration_that_cannot_be_read_never_leads_to_the_key_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("WARDROUND_PASSPHRASE", "a passphrase")
    (tmp_path / "keys").mkdir()
    Home(tmp_path).make_signer("signing", "hospital-a")
    assert Home(tmp_path).signer("signing", "hospital-a").name == "hospital-a"
    (tmp_path / CONFIG).write_text(text)
    with pytest.raises(MalformedDocumentError):
        Home(tmp_path).signer("signing", "hospital-a")


UNREADABLE: dict[str, Callable[[Path], object]] = {
    "a folder": lambda path: path.mkdir(),
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nothing": lambda path: path.symlink_to(path.parent / "unmounted" / CONFIG),
    "Latin-1": lambda path: path.write_bytes("role: site\nname: münchen\n".encode("latin-1")),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_lies_there_and_is_no_text_is_an_error_and_never_leads_to_the_key_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("WARDROUND_PASSPHRASE", "a passphrase")
    (tmp_path / "keys").mkdir()
    Home(tmp_path).make_signer("signing", "hospital-a")
    UNREADABLE[kind](tmp_path / CONFIG)
    for wanted in (
        lambda: Home(tmp_path).signer("signing", "hospital-a"),
        lambda: Home(tmp_path).make_signer("witness", "hospital-a"),
        lambda: Home(tmp_path).read(SiteConfig),
    ):
        with pytest.raises(HomeError) as refused:
            wanted()
        assert refused.value.code == "home.invalid" and CONFIG in refused.value.public_message


def test_a_configuration_without_a_token_is_written_with_an_empty_one(tmp_path: Path) -> None:
    """So `token: null` has to mean the key files."""
    (tmp_path / CONFIG).write_text(f"{SITE}source: {{kind: npz, path: a.npz}}\n")
    assert Home(tmp_path).read(SiteConfig).to_json()["token"] is None
