"""`wardround federation`: found a federation on this machine, from folders of data that lie here already.

For trials and for institutions that share a machine; what is written is what separate institutions would write
(`tasks.found`). It appears whole or not at all.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from ledger.errors import InputError

if TYPE_CHECKING:
    from adapters.home import ConsentConfig, SourceConfig
    from policies.federation import Phase

NAME = re.compile(r"^[a-z][a-z0-9-]{0,62}$")
NAME_RULE = "lower case letters, digits and hyphens, beginning with a letter"
RESERVED = {"coordinator", "public-test"}
MICRO = 1_000_000
EXAMPLE_DOCUMENT = Path(__file__).resolve().parent.parent / "deployments" / "examples" / "consent-2026-1.md"

FAMILY = re.compile(r"^[A-Z][A-Za-z0-9]{0,62}$")
FILES = (".npz", ".csv", ".parquet")
DRY_ROUND_FAMILY = "Classifier"
"""The network of deployments/examples/dry-round.yaml."""
RECORDS = (
    "agreement PAPER --kind baa|dpa|irb",
    "conform --plan THE-PILOTS-PLAN",
)

app = App(name="federation", help="Found a federation; see who is in quarantine.")
app.command(
    "wardround.quarantine:quarantine",
    name="quarantine",
    help="Show who is in quarantine, why, and who voted to take them back.",
)


class FederationOptionError(InputError):
    code = "usage.option"


class FederationExistsError(InputError):
    code = "federation.exists"


@app.command
def new(
    *,
    out: Annotated[Path, Parameter(help="The folder to write: homes of all institutions and the exchange.")],
    site: Annotated[
        list[str],
        Parameter(
            help="NAME=PATH, once a hospital: its name, and its folder of DICOM files with labels.csv or of NIfTI "
            "files with patients.csv, its table (.csv, .parquet), or its .npz shard.",
            negative_iterable=(),
        ),
    ],
    name: Annotated[str, Parameter(help="Name of the federation.")] = "federation",
    epsilon_cap: Annotated[
        float, Parameter(help="The most that each hospital's patients may be charged.")
    ] = 8.0,
    delta: Annotated[float, Parameter(help="At most 1/(10 × patients).")] = 1e-5,
    consent: Annotated[
        Literal["records", "waiver"],
        Parameter(
            help="records: only patients whose consent was taken in (`wardround consent import`). waiver: an "
            "ethics board waived consent for all of the data given."
        ),
    ] = "records",
    consent_document: Annotated[
        Path, Parameter(help="What patients are given to read; the ledger holds its digest.")
    ] = EXAMPLE_DOCUMENT,
    consent_version: Annotated[str, Parameter(help="Its version, which plans name.")] = "2026-1",
    purpose: Annotated[str, Parameter(help="What they agree to, which plans name.")] = "research",
    public_test: Annotated[
        Path | None, Parameter(help="Public images of nobody's training data, to score models in the clear.")
    ] = None,
    family: Annotated[
        list[str] | None,
        Parameter(
            help="A network that the hospitals approve, by the name that plans have for it; once each. Else "
            "Classifier.",
            negative_iterable=(),
        ),
    ] = None,
    phase: Annotated[
        Literal["foundation", "pilot"],
        Parameter(
            help="Where the rollout begins. foundation: no patient's data are used before its gate; pilot: as if the "
            "foundation lay behind it."
        ),
    ] = "pilot",
    token: Annotated[
        Path | None,
        Parameter(
            help="A PKCS #11 library: make the keys that sign on tokens labelled like the institutions "
            "(coordinator, and each site's name), all under the PIN in WARDROUND_TOKEN_PIN."
        ),
    ] = None,
) -> None:
    """Make keys, homes, a ledger and its witnesses for the hospitals given. No data is read or copied."""
    wrong: list[str] = []
    sources = _sources(site, wrong)
    if not NAME.match(name):
        wrong.append(f"--name must be {NAME_RULE}")
    if not 0 < epsilon_cap <= 1e6:
        wrong.append("--epsilon-cap must be a positive number")
    if not 0 < delta <= 1e-3:
        wrong.append("--delta must be above 0 and at most 0.001")
    if public_test is not None and not public_test.exists():
        wrong.append("--public-test: the path does not exist")
    families = tuple(family or ("Classifier",))
    if phase == "foundation":  # whose dry round has a network of its own
        families = tuple(dict.fromkeys((*families, DRY_ROUND_FAMILY)))
    if not all(FAMILY.match(one) for one in families):
        wrong.append("--family: a network is named like Classifier, as in plans")
    if token is not None and not token.is_file():
        wrong.append("--token: there is no such library")
    if token is not None and not os.environ.get("WARDROUND_TOKEN_PIN"):
        wrong.append("--token: the PIN belongs in WARDROUND_TOKEN_PIN")
    if not consent_document.is_file():
        wrong.append("--consent-document: there is no such file")
    if wrong:
        raise FederationOptionError("; ".join(wrong), remedy="See `wardround federation new --help`.")
    from policies.plan import ConsentTerms
    from tasks.enrol import consent_config

    terms = ConsentTerms.from_value({"policy_version": consent_version, "purpose": purpose}, what="consent")
    basis = consent_config(consent_document, terms).model_copy(update={"basis": consent})
    _write(
        out.resolve(), sources, name=name, epsilon_cap=epsilon_cap, delta=delta, public_test=public_test,
        token=token, consent=basis, families=families, phase=phase,
    )  # fmt: skip


def _sources(given: list[str], wrong: list[str]) -> dict[str, Path]:
    sources: dict[str, Path] = {}
    for item in given:
        site, equals, path = item.partition("=")
        if not equals or not path:
            wrong.append(f"--site {site}: expected NAME=PATH")
        elif not NAME.match(site) or site in RESERVED:
            wrong.append(f"--site {site}: a name is {NAME_RULE}, and not {' or '.join(sorted(RESERVED))}")
        elif site in sources:
            wrong.append(f"--site {site}: given twice")
        elif not Path(path).exists():
            wrong.append(f"--site {site}: its path does not exist")
        elif Path(path).is_file() and Path(path).suffix.lower() not in FILES:
            wrong.append(f"--site {site}: its path is neither a folder nor a file of {', '.join(FILES)}")
        else:
            sources[site] = Path(path)
    if not wrong and not 3 <= len(sources) <= 50:
        wrong.append(f"{len(sources)} sites given; a protected sum needs 3 to 50")
    return sources


def _write(
    out: Path,
    sources: dict[str, Path],
    *,
    name: str,
    epsilon_cap: float,
    delta: float,
    public_test: Path | None,
    token: Path | None,
    consent: ConsentConfig,
    families: tuple[str, ...],
    phase: Phase,
) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FederationExistsError(f"{out} exists and is left as it is", remedy="Choose another --out.")
    from policies.federation import Pool
    from tasks.found import COORDINATOR, FoundingSite, found
    from tasks.rollout.officers import default_officers, default_sign_offs

    beside = out.with_name(f".{out.name}.founding-{os.getpid()}")
    try:
        beside.mkdir(parents=True)
        founded = found(
            beside,
            tuple(FoundingSite(site, _source(path), consent) for site, path in sources.items()),
            name=name,
            pool=Pool.of(epsilon_cap_micro=int(epsilon_cap * MICRO), delta=delta),
            public_test=None if public_test is None else _source(public_test),
            token_module=None if token is None else token.absolute(),
            model_families=families,
            phase=phase,
            officers=default_officers(tuple(sources), coordinator=COORDINATOR),
            sign_offs=default_sign_offs(len(sources)),
        )
        beside.replace(out)  # onto an empty folder or none
    except OSError as error:
        raise FederationOptionError(
            f"cannot write {out}: {os.strerror(error.errno or 0)}", remedy="Choose another --out."
        ) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    console = Console(highlight=False)
    table = Table(title=f"{founded.federation.name}, {founded.federation.origin}")
    for heading in ("institution", "home", "holds the sum key", "ε cap", "δ"):
        table.add_column(heading, overflow="fold")
    table.add_row("coordinator", "coordinator", "", "", "")
    for site in sources:
        holder = "yes" if site in founded.federation.key_holders else ""
        table.add_row(site, f"sites/{site}", holder, f"{epsilon_cap:g}", f"{delta:g}")
    console.print(table)
    console.print(
        f"Phase {phase}. Who signs that it may end, with keys under {out}/officers: "
        f"{', '.join(founded.officers)}",
        soft_wrap=True,
    )
    console.print(f"Founded in {out}. Next, each in a terminal of its own:", soft_wrap=True)
    if consent.basis == "records":
        console.print(
            f"  wardround consent import FILE --home {out}/sites/NAME     (every site)", soft_wrap=True
        )
    begun = f"coordinator run --home {out}/coordinator --plan plan.yaml"
    if phase == "foundation":  # its rules refuse every plan but the dry round's, which this brings along
        begun = f"phase run foundation --home {out}/coordinator"
    console.print(f"  wardround site run --home {out}/sites/NAME     (every site)", soft_wrap=True)
    console.print(f"  wardround {begun}", soft_wrap=True)
    if phase == "foundation":
        console.print("and while these run, at every site:")
        for record in RECORDS:
            console.print(f"  wardround site {record} --home {out}/sites/NAME", soft_wrap=True)


def _source(path: Path) -> SourceConfig:
    from adapters.home import SourceConfig
    from adapters.sources.discovery import source_kind

    return SourceConfig(kind=source_kind(path) or "npz", path=str(path.resolve()))
