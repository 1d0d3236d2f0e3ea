"""A plan that survives one hostile site among twelve: sums by cluster, and a liar's cluster left out and kept out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from policies.clusters import SMALLEST_CLUSTER
from policies.plan import Plan
from policies.protection import groups_of, outlying_sites
from privacy.packing import Lanes
from privacy.protected_sum import Report
from tasks.aggregate import encoding_of
from tasks.summing import SumTerms
from tasks.worker.site_session import SiteSession
from tasks.worker.sum_session import SealedKey
from tests.consortium import Consortium, site_worker
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-2")


def sites(number: int) -> tuple[str, ...]:
    return tuple(f"hospital-{index:02d}" for index in range(number))


class Lying(SiteSession):
    """Trains honestly and sends something else: every lane as large as a lane may be, far beyond the signed bound."""

    def _report(self, plan: Plan, terms: SumTerms, lanes: Lanes, sealed: SealedKey | None) -> Report:
        if terms.context.step == "training":
            lanes = np.full(len(lanes), encoding_of(plan).packing.site_limit, np.int32)
        return super()._report(plan, terms, lanes, sealed)


@pytest.mark.slow
async def test_a_liars_cluster_is_left_out_and_quarantined_and_the_plan_goes_no_further(
    tmp_path: Path,
) -> None:
    consortium, liar = (
        Consortium.found(tmp_path, sites=sites(12), patients=dict.fromkeys(sites(12), 60)),
        "hospital-07",
    )
    consortium.workers[liar] = site_worker(Lying)
    plan = tiny_plan(
        rounds=2,
        robust={"hostile": 1},
        participation={"required": [], "minimum_sites": 3, "deadline_s": 60},
    )
    outcome = await consortium.run(plan, wait_s=60.0)
    digest, state = plan.content_digest(), outcome.state
    clusters = groups_of(state, digest, "training")
    assert [len(cluster) for cluster in clusters] == [SMALLEST_CLUSTER] * 3
    spoilt = next(number for number, cluster in enumerate(clusters) if liar in cluster)
    # Round 1: the ledger's figures are by cluster, and the liar's is told apart. The model passed without it.
    released = state.released[digest, 1]
    assert len(released.cosines_micro) == 3
    assert released.outliers == (spoilt,)
    assert state.verdicts[digest, 1].passed and consortium.registered_versions() == 1
    # Its whole cluster is in quarantine, on the evidence of the released aggregate.
    evidence = next(entry for entry, about in state.release_entries.items() if about == (digest, 1))
    assert outlying_sites(state, evidence) == set(clusters[spoilt])
    assert state.quarantined == dict.fromkeys(clusters[spoilt], "robust.outlier")
    assert set(outcome.missing(plan, 1, "evaluation")) == set(clusters[spoilt])
    # Round 2: two clusters are left, and two are no majority against one. Everybody hears of it.
    assert {party: outcome.code(party) for party in outcome.errors} == {
        "coordinator": "robust.too-few-clusters"
    }
    assert not state.verdicts[digest, 2].passed
    assert (digest, 2) not in state.released
    assert (digest, 2, "training") not in state.closed


async def test_eleven_sites_are_too_few_for_one_hostile(tmp_path: Path) -> None:
    consortium = Consortium.found(tmp_path, sites=sites(11))
    plan = tiny_plan(robust={"hostile": 1})
    outcome = await consortium.run(plan, wait_s=60.0)
    assert outcome.code("coordinator") == "plan.robust-sites"
    assert outcome.state.verdicts[plan.content_digest(), 0].violations == ("plan.robust-sites",)
    assert not outcome.state.approvals and not outcome.state.spent
