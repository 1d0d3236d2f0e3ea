"""A hospital of tests: one site's home and session, and what its patients do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adapters.clock import FixedClock
from adapters.consent.store import ConsentStore
from adapters.home import ConsentConfig, Home, SourceConfig
from adapters.sources.cohort import patient_key
from policies.consent import ConsentRecord
from policies.federation import Pool
from policies.plan import Plan
from policies.receipt import Step
from privacy.masking.pair_keys import MaskingKey
from privacy.sum_context import Participant, Roster, SumContext
from tasks.found import FoundingSite, found
from tasks.summing import SumTerms
from tasks.worker.site_session import Protected, SiteSession
from tests.consortium import write_shard

SITE, PATIENTS = "hospital-a", 60
NOW_S = 10_000
TRAINING = {
    "sampling_rate": 1.0, "steps": 3, "noise_multiplier": 2.0, "clip_l2": 1.0, "learning_rate": 0.1,
    "nominal_batch_patients": 10.0,
}  # fmt: skip


class Hospital:
    """One site's home, its session, and what its patients do."""

    def __init__(self, root: Path, consent: ConsentConfig) -> None:
        names = (SITE, "hospital-b", "hospital-c")
        self.shard = root / "data" / f"{SITE}.npz"
        write_shard(self.shard, patients=PATIENTS)
        source = SourceConfig(kind="npz", path=str(self.shard))
        pool = Pool.of(epsilon_cap_micro=100_000_000, delta=1e-5)
        sites = tuple(FoundingSite(name, source, consent) for name in names)
        self.home = Home(found(root, sites, name="test", pool=pool).sites[SITE])
        self.peers = {name: MaskingKey.generate().public_bytes() for name in names[1:]}
        self.store = ConsentStore.open(self.home)
        self.clock = FixedClock(NOW_S)
        self.session = self.open()
        self._begun: dict[str, Roster] = {}

    def open(self) -> SiteSession:
        session = SiteSession(self.home.root)
        session._clock = self.clock
        return session

    def terms(self, plan: Plan, step: Step, round_number: int = 1) -> SumTerms:
        """Of a masked sum with two others, whose keys this site has agreed on."""
        digest, origin = plan.content_digest(), self.home.federation.origin
        if digest not in self._begun:
            keys = {SITE: bytes.fromhex(self.session.announce(digest)), **self.peers}
            roster = Roster(tuple(Participant(name=name, masking_key=key) for name, key in keys.items()))
            self.session.begin_sums(plan, roster, origin=origin)
            self._begun[digest] = roster
        context = SumContext(
            origin=origin,
            study=plan.study,
            plan_digest=digest,
            round=round_number,
            step=step,
            attempt=1,
            scheme=plan.scheme,
            model_digest="ab" * 32,
            minimum_sites=3,
            roster=self._begun[digest],
        )
        return SumTerms(context=context, public=None, holders=(), openings_required=2, aggregators=())

    def evaluate(self, plan: Plan, base: bytes, round_number: int = 1) -> Protected:
        terms = self.terms(plan, "evaluation", round_number)
        return self.session.protect_evaluation(plan, terms, base, sealed=None)

    def update(self, plan: Plan, base: bytes, round_number: int = 1) -> Protected:
        terms = self.terms(plan, "training", round_number)
        return self.session.protect_update(plan, terms, base, None, carried=0, sealed=None)

    def key(self, number: int) -> str:
        name = f"invented-0-{number}"
        return patient_key(name, site=SITE, secret=self.home.patient_secret()).hex()

    def grant(self, *numbers: int, granted: int = 1, expires: int | None = None) -> None:
        self.store.add(
            [
                ConsentRecord(
                    patient_key=self.key(number),
                    policy_version="2026-1",
                    purposes=("research",),
                    granted_at_s=granted,
                    expires_at_s=expires,
                )
                for number in numbers
            ],
            now_s=NOW_S,
        )

    def withdraw(self, *numbers: int) -> None:
        for number in numbers:
            self.store.withdraw(self.key(number), policy_version=None, now_s=NOW_S)

    def after_step(self, after: int, act: Callable[[], None]) -> None:
        """Do something once a step of training is done."""

        def tell(step: str, round_number: int = 0, done: int = 0, total: int = 0) -> None:
            if step == "train" and done == after:
                act()

        setattr(self.session, "_tell", tell)  # noqa: B010 - a method of one object

    def sides(self) -> tuple[list[int], list[int]]:
        """(numbers of those trained on, of those held out) of the present cohort."""
        cohort = self.session._present()
        numbers = {self.key(number): number for number in range(PATIENTS)}
        train, held_out = (
            [numbers[key.hex()] for key in part.keys] for part in (cohort.train(), cohort.held_out())
        )
        return train, held_out
