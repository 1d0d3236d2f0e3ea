"""The canary: patients' data planted at four hospitals, a real round through real Prefect, and a search for it.

Planted are names, identifiers and birth dates in every DICOM header, and texts in what a site's training and
its release raise. Searched is everything that is not the site's own home or data folder: exchange, ledger and its
static export, Prefect's database and server log, MLflow's store and artifacts, the coordinator's home, the other
sites' homes, stdout, stderr and all Python logging; for the texts themselves, their base64, UTF-16 and hex forms,
and the SHA-256 of every identifier. A second run without the protections must find what the first may not.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import inspect
import logging
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
import pytest
import pytest_asyncio
from prefect import flow
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

import tasks.site.release
import tasks.step
from adapters.home import Home, SiteConfig, SourceConfig
from adapters.outbox import Slot
from adapters.prefect_server import PrefectServer
from adapters.sources.dialects import SIZE_PX, Header, Template
from flows.coordinator import run_plan
from flows.site import take_part
from ledger.errors import CodedError
from ledger.export import static_files
from ledger.log import Log
from ledger.sqlite import SqliteStorage
from policies.federation import Pool
from policies.plan import Plan
from tasks.coordinator.party import opened_coordinator
from tasks.found import Founded, FoundingSite, found
from tasks.site.party import Site, opened_site
from tasks.worker.process import Worker, WorkerProcess
from tasks.worker.site_session import SiteSession
from tests.canary_site import Planted
from tests.consents import WAIVER
from tests.consortium import SITES, coordinator_worker, site_worker
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("canary")

PATIENTS = 80
BIRTH_DATE = "19110317"
TROUBLED = "hospital-c"


@dataclass
class Canary:
    """What is planted in one run, at each site: stems that all texts of a kind begin with, and whole values."""

    run: str
    values: dict[str, list[str]] = field(default_factory=dict)

    def stems(self, site: str) -> list[str]:
        letter = site[-1].upper()
        return [f"{self.run}{letter}NAME", f"{self.run}{letter}IDENT", f"{self.run}{letter}RAISED"]

    def raised(self, where: str) -> str:
        return f"{self.stems(TROUBLED)[2]}-{where}"

    def write_studies(self, folder: Path, site: str) -> None:
        """DICOM files of two vendors' dialects whose headers hold the markers."""
        name, ident, _ = self.stems(site)
        template = Template(site, "A" if SITES.index(site) % 2 == 0 else "B")
        random = np.random.default_rng(SITES.index(site))
        rows, self.values[site] = ["patient_id,label"], []
        for number in range(PATIENTS):
            image = np.clip(random.random((SIZE_PX, SIZE_PX)) * 0.5 + 0.4 * (number % 2), 0, 1)
            path = folder / f"study-{number}" / "IM0.dcm"
            path.parent.mkdir(parents=True)
            path.write_bytes(template.file(Header(number, 0, f"{site} {number}"), image))
            data = pydicom.dcmread(path)
            data.PatientName, data.PatientID = f"{name}{number:04d}^MARIA", f"{ident}{number:04d}"
            data.PatientBirthDate = BIRTH_DATE
            data.save_as(path)
            rows.append(f"{data.PatientID},{number % 2}")
            self.values[site] += [str(data.PatientName), str(data.PatientID)]
        (folder / "labels.csv").write_text("\n".join(rows) + "\n")

    def needles(self, site: str) -> dict[str, list[bytes]]:
        """Every form in which each stem may show, by stem."""
        return {stem: list(forms(stem)) for stem in [*self.stems(site), BIRTH_DATE]}


def forms(text: str) -> Iterator[bytes]:
    raw = text.encode()
    yield raw
    yield text.encode("utf-16-le")
    yield text.encode("utf-16-be")
    yield raw.hex().encode()
    for offset in range(3):  # base64 of a longer text that holds this one, at each alignment
        padded = base64.b64encode(b"\0" * offset + raw)
        yield padded[-(-offset * 4 // 3) + (offset > 0) : (offset + len(raw)) * 4 // 3]


def hashes_in(data: bytes) -> set[bytes]:
    """Every SHA-256 in hex that the bytes hold, wherever it starts in a run of hex digits."""
    return {
        run[start : start + 64].lower()
        for run in re.findall(rb"[0-9a-fA-F]{64,}", data)
        for start in range(len(run) - 63)
    }


def files_below(root: Path) -> dict[str, bytes]:
    """Every file by its path, which is searched too; databases with their write-ahead logs folded in."""
    for database in (*root.rglob("*.sqlite"), *root.rglob("*.db")):
        with sqlite3.connect(database) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
    return {
        path.relative_to(root).as_posix(): path.relative_to(root).as_posix().encode()
        + b"\n"
        + path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def leaks(canary: Canary, surfaces: dict[str, bytes]) -> dict[str, set[str]]:
    """{what leaked: where}, over everything but a site's own data folder and home."""
    hashes = {name: hashes_in(data) for name, data in surfaces.items()}
    found: dict[str, set[str]] = {}
    for site in SITES:
        outside = {
            name: data
            for name, data in surfaces.items()
            if not name.startswith((f"data/{site}/", f"sites/{site}/"))
        }
        digests = {hashlib.sha256(value.encode()).hexdigest().encode() for value in canary.values[site]}
        for name, data in outside.items():
            for stem, needles in canary.needles(site).items():
                # All sites share the birth date: each other site's data folder holds it, rightly.
                if stem == BIRTH_DATE and name.startswith("data/"):
                    continue
                if any(needle in data for needle in needles):
                    found.setdefault(stem, set()).add(name)
            if digests & hashes[name]:
                found.setdefault(f"SHA-256 of an identifier of {site}", set()).add(name)
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def prefect(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PrefectServer]:
    """One private Prefect server; both runs' markers differ, so that they can share it."""
    patch = pytest.MonkeyPatch()
    patch.delenv("PREFECT_API_URL", raising=False)
    for name in ("PREFECT_HOME", "PREFECT_CLIENT_MAX_RETRIES", "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED"):
        patch.setenv(name, "")  # the server sets them; undone below
        patch.delenv(name)
    patch.syspath_prepend(str(Path(__file__).resolve().parent.parent))  # spawned processes import `tests`
    server = PrefectServer(tmp_path_factory.mktemp("prefect"))
    server.start()
    await asyncio.to_thread(server.wait)
    with temporary_settings({PREFECT_API_URL: server.url, PREFECT_HOME: server.home}):
        yield server
        await delivered()
    server.stop()
    patch.undo()


async def delivered() -> None:
    """Wait until Prefect's own senders have sent every log line and event: only then is the database whole.
    What they still held at exit they would retry long after the server is gone."""
    await APILogHandler.aflush()
    waiting = EventsWorker.drain_all(at_exit=False)
    if inspect.isawaitable(waiting):
        await waiting


def founded_with(canary: Canary, root: Path) -> Founded:
    for site in SITES:
        canary.write_studies(root / "data" / site, site)
    sources = tuple(
        FoundingSite(site, SourceConfig(kind="dicom", path=str(root / "data" / site)), WAIVER)
        for site in SITES
    )
    return found(root, sources, name="canary", pool=Pool.of(epsilon_cap_micro=100_000_000, delta=1e-5))


async def run_round(
    founded: Founded, plan: Plan, planted: Planted, *, spawned: tuple[str, ...]
) -> dict[str, BaseException]:
    """Real flows of all parties; sites in `spawned` work in processes of their own, the others in threads,
    whose output nothing redirects."""

    def worker(home: Home, config: SiteConfig) -> Worker[SiteSession]:
        if config.name not in spawned:
            return site_worker()(home, config)
        preparation = planted if config.name == TROUBLED else None
        return WorkerProcess(SiteSession, home.root, party=config.name, log=home.log, preparation=preparation)

    @flow(name="canary-site", persist_result=False, validate_parameters=False)
    async def site_flow(home: str) -> None:
        async with opened_site(Path(home), worker=worker) as site:
            await take_part(site, plan_digest=plan.content_digest(), wait_s=90.0)

    @flow(name="canary-coordinator", persist_result=False, validate_parameters=False)
    async def coordinator_flow(home: str) -> None:
        async with opened_coordinator(Path(home), worker=coordinator_worker()) as coordinator:
            await run_plan(coordinator, plan)

    running = {site: asyncio.create_task(site_flow(str(home))) for site, home in founded.sites.items()}
    running["coordinator"] = asyncio.create_task(coordinator_flow(str(founded.coordinator)))
    outcomes = await asyncio.gather(*running.values(), return_exceptions=True)
    return {
        name: outcome
        for name, outcome in zip(running, outcomes, strict=True)
        if isinstance(outcome, BaseException)
    }


def canary_plan(*, rounds: int, deadline_s: int) -> Plan:
    return tiny_plan(
        rounds=rounds,
        participation={"required": [], "minimum_sites": 3, "deadline_s": deadline_s},
        data={
            "image": {"height_px": 16, "width_px": 16, "modalities": ["CR", "DX"]},
            "labels": [0, 1],
            "minimum_patients": 20,
            "held_out_fraction": 0.5,
        },
    )


def raise_in_release(canary: Canary, round_number: int) -> Callable[..., object]:
    """`tasks.site.release.build`, which fails in the flow's own process at one site in one round."""
    build = tasks.site.release.build

    def failing(site: Site, published: object, slot: Slot, *rest: object, **named: object) -> object:
        if site.name == TROUBLED and (slot.round, slot.step) == (round_number, "training"):
            raise ValueError(canary.raised("release"))
        return build(site, published, slot, *rest, **named)  # type: ignore[arg-type]

    return failing


def everything(
    root: Path, prefect: PrefectServer, captured: pytest.CaptureResult[str], logs: list[logging.LogRecord]
) -> dict[str, bytes]:
    surfaces = files_below(root)
    surfaces |= {f"prefect/{name}": data for name, data in files_below(prefect.home).items()}
    log = Log.open(SqliteStorage(root / "coordinator" / "ledger.sqlite"))
    surfaces |= {f"export/{name}": data for name, data in static_files(log, 0, log.size)}
    surfaces["stdout"], surfaces["stderr"] = captured.out.encode(), captured.err.encode()
    formatter = logging.Formatter()
    surfaces["logging"] = "\n".join(f"{formatter.format(one)} {one.__dict__}" for one in logs).encode()
    return surfaces


@pytest.fixture
def listening(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """All of Python's logging, from DEBUG on, also of loggers that do not propagate."""
    caplog.set_level(logging.DEBUG)
    return caplog


async def test_nothing_of_a_patient_leaves_its_site(
    tmp_path: Path,
    prefect: PrefectServer,
    monkeypatch: pytest.MonkeyPatch,
    listening: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    canary = Canary("ZQX")
    founded = founded_with(canary, tmp_path)
    planted = Planted(plain=canary.raised("plain"), coded=canary.raised("coded"))
    monkeypatch.setattr(tasks.site.release, "build", raise_in_release(canary, 3))
    plan = canary_plan(rounds=4, deadline_s=60)
    errors = await run_round(founded, plan, planted, spawned=(TROUBLED, "hospital-d"))
    assert errors == {}
    await delivered()
    surfaces = everything(tmp_path, prefect, capfd.readouterr(), listening.records)

    # The faults happened, and the round named the site by code alone.
    log = Log.open(SqliteStorage(founded.coordinator / "ledger.sqlite"))
    said = b"".join(log.entries(0, log.size))
    texts = b"".join(base64.b64decode(part) for part in re.findall(rb'"payload":"([A-Za-z0-9+/=]+)"', said))
    assert b"site.withheld" in texts and b"train.planted" not in texts and b"step.failed" not in texts
    # What was searched is what there is: each store holds this run.
    for name, sign in {
        "prefect/prefect.db": b"canary-site",
        "prefect/server.log": b"",
        "coordinator/mlflow.db": plan.content_digest().encode(),
        "coordinator/ledger.sqlite": b"payload",
        "exchange/ledger/checkpoint": founded.federation.origin.encode(),
    }.items():
        assert sign in surfaces[name], name
    assert any(name.startswith("export/tile/entries") and b"payload" in surfaces[name] for name in surfaces)
    assert any(name.startswith("coordinator/artifacts/") for name in surfaces)
    assert any(name.startswith("exchange/objects/") for name in surfaces)
    assert any(name.startswith("exchange/answers/") for name in surfaces)
    objects = [data for name, data in surfaces.items() if name.startswith("exchange/objects/")]
    for magic in (b"\nWRMU", b"\nWRMS", b"\nWRMA"):  # masked updates, the shares beside them, what answers
        assert any(magic in data[:200] for data in objects), magic
    # Masking keys are at home alone, and after the plan not even there.
    assert not [name for name in surfaces if "masking/" in name]
    assert any(name.startswith("coordinator/evidence/") for name in surfaces)
    assert surfaces["logging"]

    assert leaks(canary, surfaces) == {}

    # And the search can find: at home every raised text is kept for the site's own people.
    kept = surfaces[f"sites/{TROUBLED}/site.log"]
    for where in ("plain", "coded", "release"):
        assert canary.raised(where).encode() in kept, where
    for site in SITES:
        name, ident, _ = canary.stems(site)
        headers = b"".join(data for path, data in surfaces.items() if path.startswith(f"data/{site}/"))
        assert name.encode() in headers
        assert ident.encode() in headers
        assert BIRTH_DATE.encode() in headers


async def test_without_the_protections_the_search_finds_what_leaves(
    tmp_path: Path,
    prefect: PrefectServer,
    monkeypatch: pytest.MonkeyPatch,
    listening: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The same run with the two guards taken away: errors leave the process as they are, and steps as well."""
    canary = Canary("ZQY")
    founded = founded_with(canary, tmp_path)
    planted = Planted(plain=canary.raised("plain"), coded="", scrubbed=False)
    monkeypatch.setattr(tasks.site.release, "build", raise_in_release(canary, 2))
    monkeypatch.setattr(tasks.step, "CodedError", (CodedError, ValueError))
    await run_round(founded, canary_plan(rounds=2, deadline_s=40), planted, spawned=(TROUBLED,))
    await delivered()
    surfaces = everything(tmp_path, prefect, capfd.readouterr(), listening.records)
    stem = canary.stems(TROUBLED)[2]
    found = leaks(canary, surfaces)
    assert set(found) == {stem}
    assert "prefect/prefect.db" in found[stem]
    # Each guard alone kept something in: the process's, and the step's.
    assert canary.raised("plain").encode() in surfaces["prefect/prefect.db"]
    assert canary.raised("release").encode() in surfaces["prefect/prefect.db"]


def test_the_search_knows_every_form(tmp_path: Path) -> None:
    canary = Canary("ZQZ")
    canary.write_studies(tmp_path / "data" / SITES[0], SITES[0])
    canary.values |= {site: [] for site in SITES[1:]}
    value = canary.values[SITES[0]][1]
    disguises = {
        "plain": value.encode(),
        "utf-16": value.encode("utf-16"),
        "hex": value.encode().hex().encode(),
        "sha-256": hashlib.sha256(value.encode()).hexdigest().encode(),
        **{f"base64 after {n}": base64.b64encode(b"x" * n + value.encode()) for n in range(5)},
    }
    for name, data in disguises.items():
        assert leaks(canary, {name: b"{" + data + b"}"}), name
    assert not leaks(canary, {f"sites/{SITES[0]}/site.log": value.encode(), "other": b"nothing"})
