"""Joint statistics over whole federations: real homes, ledger, consents and sums over invented tables."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import yaml

from adapters.clock import SystemClock
from adapters.consent.reading import patient_keys
from adapters.consent.store import ConsentStore
from adapters.home import ConsentConfig, Home, SiteConfig
from adapters.pool_journal import PoolJournal
from policies.consent import ConsentRecord
from policies.cost import plan_cost
from policies.inquiry import Inquiry
from policies.recount import Recount
from policies.state import FederationState
from privacy.packing import Lanes
from privacy.statistics_lanes import Table, exact_lanes
from tasks.coordinator.figures import figures_of, figures_path
from tasks.planning import approved, read_inquiry
from tasks.progress import Progress
from tasks.worker.site_session import SiteSession
from tests.consents import RECORDS, WAIVER
from tests.consortium import SITES, Consortium, Outcome, site_worker
from tests.inquiries import heart_inquiry
from wardround.examples import EXAMPLES

pytestmark = pytest.mark.xdist_group("statistics")

A, B, C, D = SITES
ROWS = 240
CAP = 1.2
"""Room for one inquiry, and not for two."""
Row = dict[str, str]


class Exact(SiteSession):
    """A site that draws no noise: what a sum is can then be said to the last unit. Bent for tests alone."""

    def _figures(self, inquiry: Inquiry, table: Table) -> Lanes:
        return exact_lanes(inquiry.queries, table).astype(np.int32)


def invented(site: str, *, rows: int = ROWS) -> list[Row]:
    random = np.random.default_rng(SITES.index(site))
    age = np.clip(np.rint(random.normal(60, 12, rows)), 20, 95).astype(int)
    risk = random.random(rows).round(3)
    disease = (random.random(rows) < risk).astype(int)
    return [
        {
            "patient_id": f"INVENTED-{site}-{number}",
            "age_years": "" if number % 40 == 0 else str(age[number]),
            "Risk": str(risk[number]),
            "disease": str(disease[number]),
            "sex": "female" if number % 3 else "male",
        }
        for number in range(rows)
    ]


def give_table(consortium: Consortium, site: str, rows: list[Row], **config: object) -> None:
    """Write the site's table, and name it in its institution.yaml."""
    home = consortium.founded.sites[site]
    with (home / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    path = home / "institution.yaml"
    value = yaml.safe_load(path.read_text())
    value["statistics"] = {"path": "table.csv", **config}
    path.write_text(yaml.safe_dump(value))


def tabled(
    root: Path, *, cap: float = 100.0, consent: ConsentConfig = WAIVER
) -> tuple[Consortium, dict[str, list[Row]]]:
    consortium = Consortium.found(root, cap=cap, consent=consent)
    tables = {site: invented(site) for site in SITES}
    for site, rows in tables.items():
        give_table(consortium, site, rows)
    return consortium, tables


def exactly(consortium: Consortium) -> Consortium:
    consortium.workers = dict.fromkeys(SITES, site_worker(Exact))
    return consortium


def figure(state: FederationState, inquiry: Inquiry, query: str, label: str) -> tuple[float, float]:
    """(value, half-width), as everybody reads them off the ledger."""
    (released,) = (one for one in figures_of(state, inquiry.content_digest()) if one.name == query)
    found = released.figure(label)
    assert found.value is not None and found.half_width is not None
    return found.value, found.half_width


def ages(tables: dict[str, list[Row]], *sites: str) -> npt.NDArray[np.float64]:
    return np.array([float(row["age_years"]) for site in sites for row in tables[site] if row["age_years"]])


def passed(outcome: Outcome, inquiry: Inquiry) -> bool:
    verdict = outcome.state.verdicts.get((inquiry.content_digest(), 1))
    return verdict is not None and verdict.passed


async def test_without_noise_the_joint_figures_are_those_of_all_rows_at_once(tmp_path: Path) -> None:
    consortium, tables = tabled(tmp_path)
    inquiry = heart_inquiry()
    outcome = await exactly(consortium).run(inquiry)
    assert outcome.errors == {} and passed(outcome, inquiry)
    state, known = outcome.state, ages(tables, *SITES)
    assert figure(state, inquiry, "patients", "patients")[0] == 4 * ROWS
    assert figure(state, inquiry, "years", "sum")[0] == known.sum()
    assert figure(state, inquiry, "years", "missing")[0] == 4 * ROWS - len(known)
    assert figure(state, inquiry, "mean-age", "mean")[0] == pytest.approx(known.mean())
    assert figure(state, inquiry, "sexes", "female")[0] == 4 * ROWS * 2 / 3
    assert figure(state, inquiry, "risk-score", "label 1")[0] == sum(
        int(row["disease"]) for rows in tables.values() for row in rows
    )


async def test_a_site_that_drops_is_named_and_the_others_answer_through_their_aggregators(
    tmp_path: Path,
) -> None:
    consortium, tables = tabled(tmp_path)
    terms = {"required": [], "minimum_sites": 3, "deadline_s": 4}
    inquiry = heart_inquiry(participation=terms, protection={"scheme": "shared", "aggregators": 2})
    outcome = await exactly(consortium).run(inquiry, absent=(D,))
    assert outcome.errors == {} and passed(outcome, inquiry)
    assert outcome.missing(inquiry, 1, "statistics") == {D: "roster.absent"}
    assert figure(outcome.state, inquiry, "patients", "patients")[0] == 3 * ROWS
    assert figure(outcome.state, inquiry, "years", "sum")[0] == ages(tables, A, B, C).sum()
    assert D not in outcome.state.spent


async def test_with_noise_the_figures_lie_within_their_half_widths_and_nothing_else_leaves(
    tmp_path: Path,
) -> None:
    consortium, tables = tabled(tmp_path, cap=CAP)
    for site, rows in tables.items():
        rows[3] |= {"patient_id": f"INVENTED-MARKED-{site}", "sex": "marked-word", "age_years": "91.8273645"}
        give_table(consortium, site, rows)
    inquiry = heart_inquiry()
    outcome = await consortium.run(inquiry)
    assert outcome.errors == {} and passed(outcome, inquiry)
    state, known = outcome.state, np.rint(ages(tables, *SITES))
    for query, label, truth in (
        ("patients", "patients", 4 * ROWS),
        ("years", "sum", known.sum()),
        ("mean-age", "mean", known.mean()),
        ("age", "variance", known.var()),
    ):
        value, half_width = figure(state, inquiry, query, label)
        # Four half-widths are 7.8 deviations: no honest run is beyond them.
        assert abs(value - truth) <= 4 * half_width, query
    lanes = state.statistics[inquiry.content_digest()].lanes
    assert lanes[:2] != (4 * ROWS, known.sum()), "there is noise"
    assert_drawn_once(consortium, state, inquiry)
    assert_nothing_of_patients(consortium, b"INVENTED-MARKED", b"marked-word", b"91.8273645")

    # A second run draws nothing, says nothing new, and comes to the same figures.
    path = figures_path(Home(consortium.founded.coordinator), inquiry.content_digest())
    before = path.read_bytes()
    kept = json.loads(before)
    assert kept["sites_reported"] == list(SITES) and kept["sites_missing"] == {}
    assert kept["queries"][0]["figures"][0]["value"] == lanes[0]
    again = await consortium.run(inquiry, wait_s=0.5)
    assert again.errors == {} and again.state.size == state.size
    assert path.read_bytes() == before

    # The pools hold one inquiry: a second one is refused before anything is drawn.
    other = heart_inquiry(edition="2")
    refused = await consortium.run(other)
    assert refused.code("coordinator") == "budget.pool-cap"
    assert not refused.state.verdicts[other.content_digest(), 0].passed
    assert_drawn_once(consortium, refused.state, inquiry)


def assert_drawn_once(consortium: Consortium, state: FederationState, inquiry: Inquiry) -> None:
    """On the ledger, in the hospitals' own journals, and by whoever does the accounting over."""
    recount = Recount()
    for entry in entries(consortium):
        recount.take(entry)
    recounted = {one.site: one.spent for one in recount.accounts()}
    for site in SITES:
        assert state.spent_by(site) == plan_cost(inquiry) == recounted[site]
        home = Home(consortium.founded.sites[site])
        config = home.read(SiteConfig)
        journal = PoolJournal(home.resolve(config.pool), config.policy.pool, owner=site)
        assert journal.epsilon_spent_micro() == config.policy.pool.epsilon_micro(plan_cost(inquiry))


def assert_nothing_of_patients(consortium: Consortium, *markers: bytes) -> None:
    shared = (consortium.founded.exchange, consortium.founded.coordinator)
    found = [path for folder in shared for path in folder.rglob("*") if path.is_file()]
    assert len(found) > 50
    for path in found:
        data = path.read_bytes()
        assert not any(marker in data for marker in markers), path


async def test_a_power_cut_after_the_release_was_built_sends_the_same_noise_again(tmp_path: Path) -> None:
    """Another draw would be another release: two of them tell more than one."""
    consortium, _ = tabled(tmp_path)
    inquiry = heart_inquiry()

    def as_it_submits(progress: Progress) -> bool:
        return progress.party == B and progress.step == "submit"

    await consortium.run(inquiry, cut_at=as_it_submits)
    outbox = consortium.founded.sites[B] / "outbox" / inquiry.content_digest()
    kept = {path.name: path.read_bytes() for path in outbox.iterdir()}
    outcome = await consortium.run(inquiry)
    assert outcome.errors == {} and passed(outcome, inquiry)
    assert {path.name: path.read_bytes() for path in outbox.iterdir()} == kept
    assert outcome.state.attempts[inquiry.content_digest(), 1, B] == 1
    assert outcome.state.spent_by(B) == plan_cost(inquiry)


async def test_who_withdraws_is_counted_no_more_even_after_the_budget_was_reserved(tmp_path: Path) -> None:
    """And that a site has too few patients stays there: the ledger hears one code for all that could tell of them."""
    consortium, tables = tabled(tmp_path, consent=RECORDS)
    patients = {site: [row["patient_id"] for row in tables[site]] for site in SITES}
    for site in SITES:
        consent(consortium, site, patients[site][:150])
    withdraw(consortium, A, patients[A][:30])
    give_table(consortium, B, tables[B][:19])

    def withdrawing(progress: Progress) -> bool:
        if progress.party == A and progress.step == "draw and protect":
            withdraw(consortium, A, patients[A][30:45])
        return False

    inquiry = heart_inquiry()
    outcome = await exactly(consortium).run(inquiry, cut_at=withdrawing)
    assert outcome.errors == {} and passed(outcome, inquiry)
    assert figure(outcome.state, inquiry, "patients", "patients")[0] == 3 * 150 - 45
    assert outcome.missing(inquiry, 1, "statistics") == {B: "site.withheld"}
    assert "site.cohort" in consortium.site_log(B)
    assert B not in outcome.state.spent


async def test_too_few_sites_fail_the_inquiry_and_each_is_named_with_what_it_may_say(tmp_path: Path) -> None:
    consortium, _ = tabled(tmp_path)
    configure(consortium, A, policy={"noise_multiplier_floor": 10.5})
    configure(consortium, C, statistics=None)
    inquiry = heart_inquiry()
    outcome = await consortium.run(inquiry, leave=True)
    assert outcome.code("coordinator") == "participation.too-few"
    assert (outcome.code(A), outcome.code(C)) == ("site.noise-floor", "site.no-table")
    said = str(outcome.errors["coordinator"])
    assert "hospital-a (site.noise-floor)" in said and "hospital-c (site.no-table)" in said
    assert inquiry.content_digest() not in outcome.state.statistics
    assert outcome.state.spent == {}


def configure(consortium: Consortium, site: str, **changed: object) -> None:
    path = consortium.founded.sites[site] / "institution.yaml"
    value = yaml.safe_load(path.read_text())
    for name, new in changed.items():
        value[name] = {**value[name], **new} if isinstance(new, dict) else new
    path.write_text(yaml.safe_dump(value))


def entries(consortium: Consortium) -> list[bytes]:
    from adapters.exchange import DirectoryExchange
    from adapters.institution_log import policy_of
    from ledger.finality import finalized
    from ledger.reader import TileReader

    exchange = DirectoryExchange(consortium.founded.exchange)
    federation = consortium.founded.federation
    note = exchange.get("ledger/checkpoint")
    assert note is not None
    final = finalized(note, log_vkey=federation.log_vkey, policy=policy_of(federation))
    reader = TileReader(lambda path: exchange.get(f"ledger/{path}"))
    return list(reader.at_checkpoint(final).entries(0, final.size))


def consent(consortium: Consortium, site: str, patients: list[str]) -> None:
    home = Home(consortium.founded.sites[site])
    records = [
        ConsentRecord(
            patient_key=key_of(home, site, patient),
            policy_version="2026-1",
            purposes=("research",),
            granted_at_s=1_700_000_000,
        )
        for patient in patients
    ]
    ConsentStore.open(home).add(records, now_s=SystemClock().now_s())


def withdraw(consortium: Consortium, site: str, patients: list[str]) -> None:
    home = Home(consortium.founded.sites[site])
    store = ConsentStore.open(home)
    for patient in patients:
        store.withdraw(key_of(home, site, patient), policy_version=None, now_s=SystemClock().now_s())


def key_of(home: Home, site: str, patient: str) -> str:
    key = patient_keys(site=site, secret=home.patient_secret())(patient)
    assert key is not None
    return key


HEART = Path(__file__).resolve().parents[3] / "shared" / "data" / "heart"
HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")


async def test_four_real_hospitals_answer_the_example(tmp_path: Path) -> None:
    if not HEART.is_dir():
        pytest.skip("the data sets are not on this machine")
    consortium, everybody = Consortium.found(tmp_path), []
    for site, hospital in zip(SITES, HOSPITALS, strict=True):
        lines = (HEART / f"processed.{hospital}.data").read_text().split()
        rows = [heart_row(f"{hospital}-{number}", line.split(",")) for number, line in enumerate(lines)]
        give_table(consortium, site, rows, missing=["?"], columns={"cholesterol": "chol"})
        everybody += rows
    inquiry = approved(read_inquiry(EXAMPLES / "heart-statistics.yaml"))
    outcome = await exactly(consortium).run(inquiry)
    assert outcome.errors == {}
    state, known = outcome.state, [float(row["age"]) for row in everybody]
    assert len(everybody) == 920
    assert figure(state, inquiry, "patients", "patients")[0] == 920
    assert figure(state, inquiry, "mean-age", "mean")[0] == pytest.approx(np.mean(known))
    assert figure(state, inquiry, "sexes", "male")[0] == sum(row["sex"] == "male" for row in everybody)
    without = sum(row["chol"] == "?" for row in everybody)
    assert figure(state, inquiry, "cholesterol-groups", "missing")[0] == without > 0


def heart_row(patient: str, fields: list[str]) -> Row:
    return {
        "patient_id": patient,
        "age": fields[0],
        "chol": fields[4],
        "sex": "male" if float(fields[1]) == 1 else "female",
        "disease": "1" if fields[13] != "0" else "0",
    }
