"""Who plays in the rollout demo, and with what: hospitals, their stays and X-rays, homes, officers, plans, terms.

Everything is written under one folder, in which a walk that was cut off is continued. What happens then lives in
`wardround.rollout.walk`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from adapters.home import Home, SourceConfig, write_atomically
from adapters.sources.medmnist import PUBLIC_TEST, write_shards
from adapters.sources.stays import write_stay_tables
from policies.federation import Federation, Phase, Pool
from policies.plan import Plan
from policies.rollout.statements import PhaseTerms
from privacy.accounting import MICRO
from tasks import progress
from tasks.enrol import consent_config, enrol
from tasks.found import COORDINATOR, OFFICERS, FoundingSite, found
from tasks.planning import approved, read_plan
from tasks.progress import Progress
from tasks.rollout.officers import default_officers, default_sign_offs
from tasks.rollout.terms import read_terms, with_change_plan
from wardround.examples import EXAMPLES

PILOT_SITES: Final = 5
SITES: Final = tuple(f"hospital-{letter}" for letter in "abcdef")
"""The last has X-rays alone: it joins with the expansion."""
POOL: Final = Pool.of(epsilon_cap_micro=14 * MICRO, delta=1e-5)
"""Wide: one pool holds the patients of both studies, and every night of the four phases draws on it."""
PLANS: Final[dict[Phase, str]] = {
    "foundation": "dry-round.yaml",
    "pilot": "readmission.yaml",
    "expansion": "rollout/xray-expansion.yaml",
    "clinical": "rollout/xray-clinical.yaml",
}
STAYS, IMAGES = "readmission", "pneumonia-xray"
"""Studies, as plans name them."""
EVEN: Final = 5.0
"""Hospitals of different sizes and prevalences, none of them tiny."""


def sites_of(phase: Phase) -> tuple[str, ...]:
    """Who takes part: the pilot is for those that have stays."""
    return SITES[:PILOT_SITES] if phase == "pilot" else SITES


@dataclass(frozen=True, slots=True)
class Cast:
    root: Path

    @property
    def coordinator(self) -> Path:
        return self.root / COORDINATOR

    @property
    def sites(self) -> dict[str, Path]:
        return {name: self.root / "sites" / name for name in SITES}

    @property
    def federation(self) -> Federation:
        return Home(self.coordinator).federation

    def officer(self, name: str) -> Path:
        return self.root / OFFICERS / name

    def plan(self, phase: Phase) -> Path:
        return self.root / "plans" / f"{phase}.yaml"

    @property
    def last_night(self) -> Path:
        """The pilot's plan with the evaluation that decides."""
        return self.root / "plans" / "pilot-last-night.yaml"

    def terms(self, phase: Phase) -> Path:
        return self.root / "terms" / f"{phase}.yaml"

    @property
    def stays(self) -> Path:
        """A table a hospital that takes part in the pilot, `<hospital>.csv`."""
        return self.root / "data" / "stays"

    @property
    def images(self) -> Path:
        """A shard of X-rays a hospital, `<hospital>.npz`."""
        return self.root / "data" / "images"

    @property
    def is_founded(self) -> bool:
        # Written last of all.
        return self.terms("clinical").exists()


def cast(root: Path, *, stays: Path, images: Path, seed: int) -> Cast:
    """Lay out the data, found the federation in its first phase, take in the consents, write plans and terms."""
    made = Cast(root)
    sources = _sources(made, stays=stays, images=images, seed=seed)
    plans = {phase: approved(read_plan(EXAMPLES / name)) for phase, name in PLANS.items()}
    consent = consent_config(EXAMPLES / "consent-2026-1.md", plans["pilot"].consent)
    found(
        root,
        tuple(FoundingSite(name, None, consent, sources[name]) for name in SITES),
        name="rollout",
        pool=POOL,
        phase="foundation",
        public_test=SourceConfig(kind="npz", path=str(made.images / f"{PUBLIC_TEST}.npz")),
        model_families=tuple({plan.network.name for plan in plans.values()}),
        officers=default_officers(SITES, coordinator=COORDINATOR),
        sign_offs=default_sign_offs(len(SITES)),
    )
    for name, home in made.sites.items():
        progress.tell(Progress(name, "take in consents"))
        for study in sources[name]:
            plan = next(plan for plan in plans.values() if plan.study == study)
            enrol(home, plan, now_s=int(time.time()))
    _write(made.last_night, approved(read_plan(EXAMPLES / "rollout" / "readmission-last-night.yaml")))
    for phase, plan in plans.items():
        _write(made.plan(phase), plan)
    for phase in PLANS:
        terms = read_terms(EXAMPLES / "rollout" / f"{phase}.yaml")
        if phase == "clinical":
            change_plan = EXAMPLES / "rollout" / "change-plan.yaml"
            terms = with_change_plan(terms, change_plan, Home(made.coordinator))
        least = plans[phase].participation.select or len(sites_of(phase))
        _write(made.terms(phase), terms.with_fields({"minimum_sites": least}))
    return made


def _sources(made: Cast, *, stays: Path, images: Path, seed: int) -> dict[str, dict[str, SourceConfig]]:
    """By hospital, the source of each study that it takes part in."""
    progress.tell(Progress("data", "split stays by patient and X-rays by hospital"))
    tables = write_stay_tables(stays, made.stays, sites=SITES[:PILOT_SITES], seed=seed)
    shards = write_shards(
        images, sites=SITES, seed=seed, concentration=EVEN, out=made.images, invent_sexes=True
    ).shards
    sources = {name: {IMAGES: SourceConfig(kind="npz", path=str(shards[name]))} for name in SITES}
    for name, path in tables.items():
        sources[name][STAYS] = SourceConfig(kind="table", path=str(path))
    return sources


def _write(path: Path, document: Plan | PhaseTerms) -> None:
    write_atomically(path, yaml.safe_dump(document.to_json(), sort_keys=False).encode())
