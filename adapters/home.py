"""An institution's home: the folder that holds its configuration, keys and own records.

    <home>/institution.yaml     who this is, where its data and the exchange are (`SiteConfig`, `CoordinatorConfig`)
    <home>/federation.json      the founding document that it signed: its root of trust, not the exchange's copy
    <home>/keys/                encrypted private keys, one file a purpose, and the secret that keys patients
    <home>/pool/                what was drawn on the register (`adapters.pool_journal`), unless the configuration
                                names a folder that several homes of the hospital share
    <home>/consent/             the patients' consents, encrypted (`adapters.consent`)
    <home>/outbox/              releases, kept before they are sent and resent byte for byte
    <home>/site.log             diagnostics; they never leave this folder
    <home>/report.json          what only this institution may see of its own results

The passphrase of the keys comes from WARDROUND_PASSPHRASE, else from keys/passphrase (demo and development).
Keys that sign may be on a token instead (`adapters.key_token`); a home closes the ones that it opened. How keys
are made lives in `tasks.found`; nothing here opens a patient's file.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

import yaml
from pydantic import Field, field_validator, model_validator

from adapters import key_token
from adapters.key_token import Purpose, TokenConfig
from ledger import postgresql
from ledger.errors import InputError
from ledger.keys import FileSigner, Signer
from ledger.token_signer import TokenSigner
from policies.document import Digest, Document, Name, mapping_of
from policies.federation import ConsentPolicy, Federation
from policies.site_policy import SitePolicy

CONFIG = "institution.yaml"
IN_USE = "home.in-use"


class HomeError(InputError):
    code = "home.invalid"


class NoSourceError(InputError):
    code = "site.no-source"


class ConsentConfig(Document):
    """On what basis patients are taken in. `records`: only who consented (`adapters.consent`). `waiver`: an ethics
    board waived consent for the whole source, and the hospital answers for it."""

    basis: Literal["records", "waiver"]
    policies: tuple[ConsentPolicy, ...] = ()
    """The versions of the consent policy that this site publishes on the ledger with its next run."""


class TableLayout(Document):
    """What a site's table calls things."""

    patient_column: Annotated[str, Field(min_length=1)] = "patient_id"
    columns: dict[Name, str] = Field(default_factory=dict)
    """The plan's or inquiry's name for a column → its header in the file, where the two differ."""
    missing: tuple[str, ...] = ()
    """Words that stand for a missing value, besides an empty field."""


class TableConfig(TableLayout):
    """Where a site's table for joint statistics lies (`adapters.sources.table`); `path` is absolute or relative to
    the home."""

    path: str


class FeatureLayout(TableLayout):
    """Of a table that is learned from (`adapters.sources.feature_table`)."""

    words: dict[Name, dict[str, str]] = Field(default_factory=dict)
    """By the plan's name for a column: what a field says → what the plan says for it (`{disease: {yes: "1"}}`)."""
    sex_column: str | None = None
    """Header of the column with the sex, for subgroups; else the one that is called sex, if there is one."""
    age_column: str | None = None
    """The same of the age in years."""
    race_column: str | None = None


class SourceConfig(Document):
    """Where a site's cohort comes from; see `adapters.sources.discovery`."""

    kind: Literal["dicom", "npz", "nifti", "table"]
    path: str
    table: FeatureLayout | None = None
    """Of `table` alone, where the file has other words or headers than the plan."""


class SiteConfig(Document):
    """A site's own configuration. Paths are absolute or relative to the home."""

    role: Literal["site"]
    name: Name
    exchange: str
    source: SourceConfig | None = None
    """Where the data lie of every study that `sources` does not name."""
    sources: dict[Name, SourceConfig] = Field(default_factory=dict)
    """By study, where a hospital has data of several kinds."""
    approval: Literal["automatic", "listed"]
    """`automatic`: a standing approval of plans that meet every other check. `listed`: only `approved_plans`."""
    approved_plans: tuple[Digest, ...] = ()
    approved_bundles: dict[Digest, Digest] = Field(default_factory=dict)
    """MONAI bundles that plans may name: the digest of each → that of the network in it. `wardround plan bundle`
    prints the line."""
    approved_policies: tuple[Digest, ...] = ()
    """With `listed`: the policies that this site votes for (`policies.code`), once the code that it runs has them."""
    policy: SitePolicy
    """The limits that this hospital sets, whatever plan comes."""
    consent: ConsentConfig
    statistics: TableConfig | None = None
    """The table from which joint statistics are answered; without one the site declines them."""
    pool: str = "pool"
    """Folder of the journal of everything drawn on the register; the homes of one hospital in several federations
    name the same one."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"
    """In which private training runs the network forward; `bfloat16` on a GPU alone. Clips, sums and noise are not
    affected by it."""
    token: TokenConfig | None = None

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if self.source is None and not self.sources:
            raise ValueError("neither source nor sources: name where the hospital's data lie")
        return self

    def source_of(self, study: str) -> SourceConfig:
        """Where this hospital keeps the data of a study. Raises NoSourceError where it has none."""
        found = self.sources.get(study, self.source)
        if found is None:
            raise NoSourceError(
                f"{self.name} names no source of the study {study} in its institution.yaml",
                remedy="Name one under sources, by the study, or one for all studies under source.",
            )
        return found


class CoordinatorConfig(Document):
    role: Literal["coordinator"]
    name: Name
    exchange: str
    public_test: SourceConfig | None = None
    """Public images of nobody's training data, on which a model may be scored in the clear."""
    token: TokenConfig | None = None
    ledger: str | None = None
    """The ledger's database, postgresql://user@host/database (`ledger.postgresql`); else a SQLite file here."""

    @field_validator("ledger")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                postgresql.parse_url(value)
            except postgresql.DatabaseUrlError as error:
                raise ValueError(f"{error.public_message}. {error.remedy}") from None
        return value


Config = TypeVar("Config", SiteConfig, CoordinatorConfig)


class Home:
    """Paths and secrets of one institution."""

    def __init__(self, root: Path, *, token: TokenConfig | None = None) -> None:
        """`token` while the home is made and has no institution.yaml that could name one."""
        self.root = root.resolve()
        self._founding_token = token
        self._on_token: list[TokenSigner] = []

    @property
    def log(self) -> Path:
        return self.root / "site.log"

    @property
    def report(self) -> Path:
        return self.root / "report.json"

    @property
    def outbox(self) -> Path:
        return self.root / "outbox"

    def key(self, purpose: str) -> Path:
        return self.root / "keys" / f"{purpose}.pem"

    def read(self, kind: type[Config]) -> Config:
        """The configuration; every wrong field is named at once."""
        try:
            text = self._text()
        except FileNotFoundError:
            raise HomeError(
                f"no readable {CONFIG} in {self.root}", remedy="Create one with `wardround federation new`."
            ) from None
        fields = mapping_of(text, what=CONFIG)
        self._require_role(fields.get("role"), kind)
        return kind.from_value(fields, what=CONFIG)

    def _text(self) -> str:
        """Of institution.yaml; FileNotFoundError where there is none, HomeError if what is there cannot be read."""
        path = self.root / CONFIG
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            # A link to what is not there is a configuration that got lost, not a home that has none yet.
            if isinstance(error, FileNotFoundError) and not path.is_symlink():
                raise
            raise HomeError(
                f"no readable {CONFIG} in {self.root}: what lies there is no UTF-8 text that this user may read",
                remedy="Mend the file, or bring it back from a backup.",
            ) from None

    def _require_role(self, role: object, kind: type[Config]) -> None:
        """Before the other fields: of another role's home every one of them is wrong."""
        wanted = "site" if kind is SiteConfig else "coordinator"
        if role in ("site", "coordinator") and role != wanted:
            raise HomeError(
                f"{self.root} is a {role}'s home; this command works with a {wanted}'s",
                remedy=f"Give the home of a {wanted}, or use `wardround {role}`.",
                code="home.role",
            )

    def write(self, config: SiteConfig | CoordinatorConfig, federation: Federation) -> None:
        write_atomically(self.root / CONFIG, yaml.safe_dump(config.to_json(), sort_keys=False).encode())
        write_atomically(self.root / "federation.json", federation.canonical_bytes())

    def resolve(self, path: str) -> Path:
        return (self.root / path).resolve()

    @cached_property
    def federation(self) -> Federation:
        try:
            data = (self.root / "federation.json").read_bytes()
        except OSError:
            raise HomeError(f"no federation.json in {self.root}") from None
        return Federation.from_canonical(data, what="federation.json")

    @cached_property
    def passphrase(self) -> bytes:
        given = os.environb.get(b"WARDROUND_PASSPHRASE")
        if given:
            return given
        try:
            return (self.root / "keys" / "passphrase").read_bytes()
        except OSError:
            raise HomeError(
                f"no passphrase for the keys in {self.root}", remedy="Set WARDROUND_PASSPHRASE."
            ) from None

    @cached_property
    def token(self) -> TokenConfig | None:
        """The token that institution.yaml names."""
        if self._founding_token is not None:
            return self._founding_token
        # What cannot be read is an error, and never a way to the files: an older key may lie there.
        try:
            text = self._text()
        except FileNotFoundError:
            return None
        named = mapping_of(text, what=CONFIG).get("token")
        return None if named is None else TokenConfig.from_value(named, what=f"{CONFIG} token")

    def signer(self, purpose: Purpose, name: str) -> Signer:
        """The key of that purpose, from the token if it is there. `close` lets tokens go."""
        label = None if self.token is None else self.token.label_of(purpose)
        if self.token is None or label is None:
            return FileSigner.load(self.key(purpose), name=name, passphrase=self.passphrase)
        return self.keep(key_token.open_signer(self.token, label, name=name, keys=self.root / "keys"))

    def make_signer(self, purpose: Purpose, name: str) -> Signer:
        """Make the key of that purpose where `signer` will look for it; none is ever overwritten."""
        label = None if self.token is None else self.token.label_of(purpose)
        if self.token is None or label is None:
            return FileSigner.generate(self.key(purpose), name=name, passphrase=self.passphrase)
        return self.keep(key_token.make_signer(self.token, label, name=name, keys=self.root / "keys"))

    def keep(self, signer: TokenSigner) -> TokenSigner:
        """Close it together with the others."""
        self._on_token.append(signer)
        return signer

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the home for one run; HomeError (home.in-use) if another does. A crash leaves nothing to clean up."""
        with (self.root / "run.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise HomeError(
                    f"another run with the home {self.root} is under way",
                    remedy="Wait until it ends, or stop it.",
                    code=IN_USE,
                ) from None
            yield

    def close(self) -> None:
        """Close the signers that were opened here; those of files need nothing."""
        while self._on_token:
            self._on_token.pop().close()

    def patient_secret(self) -> bytes:
        """32 bytes that key patients' identifiers. They never leave the site."""
        try:
            return (self.root / "keys" / "patient.secret").read_bytes()
        except OSError:
            raise HomeError(f"no patient.secret in {self.root / 'keys'}") from None


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace `path` whole and durably: written beside, fsynced, renamed, folder fsynced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
