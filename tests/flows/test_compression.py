"""A plan that sends a tenth of each update: what travels, what stays behind, and in which round it comes back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from adapters.home import Home
from adapters.sealed_files import SealedFileError, SealedFiles
from policies.plan import Plan
from privacy.error_feedback import ErrorFeedback
from tasks.aggregate import lane_count, model_size
from tasks.summing import SumTerms
from tasks.worker.site_session import Protected, SiteSession
from tasks.worker.sum_session import SealedKey
from tests.consortium import SITES, Consortium, site_worker
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-3")

D = SITES[3]
HEADER = 64


class Watched(SiteSession):
    """Notes what each round carried, and spoils its report of round 2 so that it does not count."""

    carried_by_round: dict[int, int]
    sent_bytes: dict[int, int]
    residuals: dict[int, bytes]

    def protect_update(
        self,
        plan: Plan,
        terms: SumTerms,
        base: bytes,
        previous: bytes | None,
        *,
        carried: int,
        sealed: SealedKey | None,
    ) -> Protected:
        number = terms.context.round
        type(self).carried_by_round[number] = carried
        protected = super().protect_update(plan, terms, base, previous, carried=carried, sealed=sealed)
        type(self).sent_bytes[number] = len(protected.update)
        file = self._home.root / "residual" / plan.content_digest() / str(number)
        type(self).residuals[number] = file.read_bytes()
        return replace(protected, update=protected.update[:-1]) if number == 2 else protected


async def test_a_tenth_of_an_update_travels_and_what_stays_belongs_to_the_round_that_counted(
    tmp_path: Path,
) -> None:
    Watched.carried_by_round, Watched.sent_bytes, Watched.residuals = {}, {}, {}
    consortium = Consortium.found(tmp_path)
    consortium.workers[D] = site_worker(Watched)
    plan = tiny_plan(rounds=3, compression={"keep": 0.1})
    digest = plan.content_digest()
    outcome = await consortium.run(plan)
    # Every site recomputed every round's model from a sum of a tenth of its coordinates, or would have stopped.
    assert outcome.errors == {}
    assert consortium.registered_versions() == 3
    models = {outcome.state.released[digest, number].model_digest for number in (1, 2, 3)}
    assert len(models) == 3
    whole, sent = model_size(plan), lane_count(plan, "training")
    assert 0.05 * whole <= sent <= 0.15 * whole + 1
    assert set(Watched.sent_bytes.values()) == {HEADER + 4 * sent}
    # Its second report was refused: what it did not send in the third is counted from the first.
    assert outcome.missing(plan, 2) == {D: "privacy.masked-update"}
    assert Watched.carried_by_round == {1: 0, 2: 1, 3: 1}
    # What stays behind is encrypted under this site's own key, and opens as no other round's.
    assert len({data[:5] for data in Watched.residuals.values()}) == 1
    home = Home(consortium.founded.sites[D])
    purpose = f"residual/{digest}"
    for name, data in {"1": Watched.residuals[1], "2": Watched.residuals[2]}.items():
        files = SealedFiles(home, "again", purpose=purpose)
        (home.root / "again").mkdir(exist_ok=True)
        (home.root / "again" / name).write_bytes(data)
        opened = files.read(name)
        assert opened is not None and opened not in data
        ErrorFeedback.from_bytes(opened, dimension=whole, plan_digest=digest, noise="local")
    (home.root / "again" / "1").write_bytes(Watched.residuals[2])
    with pytest.raises(SealedFileError):
        SealedFiles(home, "again", purpose=purpose).read("1")
    with pytest.raises(SealedFileError):
        SealedFiles(Home(consortium.founded.sites[SITES[0]]), str(home.root / "again"), purpose=purpose).read(
            "2"
        )
    # Nothing of it is left once the plan is over.
    assert not list(home.root.glob(f"residual/{digest}/*"))
