"""Rounds of plans that sum by cluster: who may be in them, which sets are closed, and who is put in quarantine on
what evidence. The draw is tests/policies/test_clusters.py's, what isolates a site tests/policies/test_isolation.py's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import pytest

from policies import isolation, protection
from policies.events import Absence, RoundClosed, SiteQuarantined, SiteReleased, UpdateRefused
from policies.protection import groups_of, opened_groups, outlying_sites, sum_context
from tests.policies.assembly import Assembly, at, plan
from tests.policies.founding import COORDINATOR, MANY, SITES, named

TWELVE, FIFTEEN = MANY[:12], MANY[:15]
ROBUST = plan(rounds=3, robust={"hostile": 1})


def robust(stage: str, sites: Sequence[str] = TWELVE) -> Assembly:
    return at(stage, plan=ROBUST, sites=tuple(sites))


def clusters(a: Assembly) -> tuple[tuple[str, ...], ...]:
    return groups_of(a.state, a.digest, "training")


def report(a: Assembly, sites: Iterable[str], number: int = 1) -> None:
    for site in sites:
        if (a.digest, number, site) not in a.state.attempts:
            a.say(site, a.reservation(site, round=number))
        a.say(site, a.receipt(site, round=number))


def closing(a: Assembly, number: int = 1) -> RoundClosed:
    """Of all who reported; the others are named."""
    here = {one.site for one in a.state.usable_receipts(a.digest, number, "training")}
    absent = tuple(Absence(site=site, code="site.silent") for site in a.sites if site not in here)
    return a.closing(round=number, missing=absent)


def finish(a: Assembly) -> None:
    """The rest of the first round, once its training is closed."""
    here = [one.site for one in a.state.usable_receipts(a.digest, 1, "training")]
    a.say(COORDINATOR, a.release())
    for site in here:
        a.say(site, a.receipt(site, "evaluation"))
    absent = tuple(Absence(site=site, code="site.silent") for site in a.sites if site not in here)
    a.say(COORDINATOR, a.closing("evaluation", missing=absent))
    a.say(COORDINATOR, a.evaluation())
    a.say(COORDINATOR, a.verdict(1))


def refused(a: Assembly, number: int = 1) -> set[str]:
    return a.refusals(a.entry(COORDINATOR, closing(a, number)))


def test_a_whole_robust_round_is_admitted() -> None:
    assembly = robust("registered")
    assert assembly.state.verdicts[assembly.digest, 1].passed
    assert [len(sites) for _, sites in opened_groups(assembly.state, assembly.digest, 1, "training")] == [
        4
    ] * 3


def test_a_roster_of_too_few_sites_for_the_hostile_ones_is_refused() -> None:
    assembly = robust("passed")
    for site in TWELVE[:11]:
        assembly.say(site, assembly.approval(site))
    roster = assembly.entry(COORDINATOR, assembly.roster(sites=TWELVE[:11]))
    assert assembly.refusals(roster) == {"robust.too-few-sites"}


def test_a_plan_that_wants_more_sites_than_there_are_does_not_pass_its_gate() -> None:
    assembly = robust("passed", TWELVE[:11])
    assert "plan.robust-sites" in assembly.state.verdicts[assembly.digest, 0].violations


def test_one_site_away_leaves_its_cluster_three_and_the_round_goes_on() -> None:
    assembly = robust("reserved")
    report(assembly, TWELVE[1:])
    assert refused(assembly) == set()


def test_a_cluster_of_two_is_not_opened_and_two_clusters_are_no_majority() -> None:
    assembly = robust("reserved")
    first = clusters(assembly)[0]
    report(assembly, [site for site in TWELVE if site not in first[:2]])
    assert refused(assembly) == {"robust.isolated", "robust.too-few-clusters"}


def test_a_cluster_that_stays_away_whole_leaves_too_few_clusters_and_isolates_nobody() -> None:
    assembly = robust("reserved")
    report(assembly, [site for site in TWELVE if site not in clusters(assembly)[0]])
    assert refused(assembly) == {"robust.too-few-clusters"}


def test_a_site_that_comes_back_after_its_cluster_was_opened_without_it_would_be_singled_out() -> None:
    assembly = robust("reserved")
    late = clusters(assembly)[1][2]
    report(assembly, [site for site in TWELVE if site != late])
    assembly.say(COORDINATOR, closing(assembly))
    finish(assembly)
    report(assembly, TWELVE, 2)
    # Its cluster is opened again with the three that it was opened with.
    assert refused(assembly, 2) == {"robust.isolated"}
    returned = assembly.refusal(late, round_number=2)
    assembly.say(COORDINATOR, returned)
    assert refused(assembly, 2) == set()


def test_a_choice_of_clusters_that_is_wrong_is_caught_by_the_check_of_all_memberships(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The two are written apart, so that one mistake does not open a difference."""
    assembly = robust("reserved")
    late = clusters(assembly)[1][2]
    report(assembly, [site for site in TWELVE if site != late])
    assembly.say(COORDINATOR, closing(assembly))
    finish(assembly)

    def careless(
        drawn: Sequence[Sequence[str]],
        published: Sequence[isolation.Membership],
        present: Collection[str],
        *,
        least: int,
    ) -> tuple[tuple[int, tuple[str, ...]], ...]:
        return tuple(
            (number, tuple(site for site in sites if site in present)) for number, sites in enumerate(drawn)
        )

    report(assembly, TWELVE, 2)
    monkeypatch.setattr(protection, "openable", careless)
    assert refused(assembly, 2) == {"robust.isolated"}


def test_a_cluster_waits_for_a_site_that_it_was_opened_with() -> None:
    assembly = robust("reserved")
    report(assembly, TWELVE)
    assembly.say(COORDINATOR, closing(assembly))
    finish(assembly)
    report(assembly, TWELVE[1:], 2)
    assert refused(assembly, 2) == {"robust.isolated", "robust.too-few-clusters"}


def test_evaluation_is_one_sum_of_whole_clusters_and_isolates_nobody() -> None:
    """Histograms of two rounds, one over a site more than the other, would differ by that site's patients."""
    assembly = robust("released")
    assert groups_of(assembly.state, assembly.digest, "evaluation") == (TWELVE,)
    first, second, third = clusters(assembly)
    told = [*first, *second, third[0]]
    for site in told:
        assembly.say(site, assembly.receipt(site, "evaluation"))

    def closing_without(*gone: str) -> set[str]:
        absent = tuple(Absence(site=site, code="site.silent") for site in gone)
        return assembly.refusals(assembly.entry(COORDINATOR, assembly.closing("evaluation", missing=absent)))

    assert closing_without(*third[1:]) == {"robust.isolated"}
    alone = UpdateRefused(
        plan_digest=assembly.digest, round=1, step="evaluation", site=third[0], code="robust.isolated"
    )
    assembly.say(COORDINATOR, alone)
    assert closing_without(*third) == set()


def test_a_cluster_of_five_is_opened_with_the_four_that_its_scheme_needs() -> None:
    """Of five sites one may collude, and four must answer. Three could be closed and never be opened."""
    assembly = robust("reserved", FIFTEEN)
    five = clusters(assembly)[0]
    assert len(five) == 5
    context = sum_context(assembly.state, assembly.digest, 1, "training", model_digest=named("base model"))
    assert context.least_present == 4
    report(assembly, [site for site in FIFTEEN if site not in five[:2]])
    assert refused(assembly) == {"robust.isolated", "robust.too-few-clusters"}
    report(assembly, five[1:2])
    assert refused(assembly) == set()


def test_a_closing_before_the_roster_is_refused_and_breaks_nobody() -> None:
    """There are no clusters to ask about yet."""
    assembly = robust("passed")
    absent = tuple(Absence(site=site, code="site.silent") for site in TWELVE)
    entry = assembly.entry(COORDINATOR, assembly.closing(receipts=(named("x"),), missing=absent))
    assert assembly.refusals(entry) == {"round.receipts", "round.too-few"}


@pytest.mark.parametrize(
    "changed",
    [
        {"cosines_micro": ()},
        {"cosines_micro": (1, 2)},
        {"cosines_micro": (1, 2, 3, 4)},
        {"outliers": (3,)},
        {"outliers": (1, 0)},
        {"outliers": (1, 1)},
    ],
)
def test_the_figures_of_a_robust_sum_are_those_of_its_clusters(changed: dict[str, tuple[int, ...]]) -> None:
    assembly = robust("closed")
    assert assembly.refusals(assembly.entry(COORDINATOR, assembly.release(**changed))) == {
        "aggregate.clusters"
    }


def test_a_site_is_quarantined_on_evidence_only_if_its_cluster_is_the_outlier() -> None:
    assembly = robust("closed")
    suspect, other, _ = clusters(assembly)
    shown = assembly.say(COORDINATOR, assembly.release(outliers=(0,)))
    assert outlying_sites(assembly.state, shown) == frozenset(suspect)

    def quarantine(site: str, evidence: str | None) -> set[str]:
        body = SiteQuarantined(site=site, code="robust.outlier", evidence=evidence)
        return assembly.refusals(assembly.entry(COORDINATOR, body))

    assert quarantine(suspect[0], shown) == set()
    assert quarantine(other[0], shown) == {"quarantine.evidence"}
    assert quarantine(suspect[0], named("no such entry")) == {"quarantine.evidence"}
    closed = next(
        digest for digest, index in assembly.state.indices.items() if index == assembly.state.size - 2
    )
    assert quarantine(suspect[0], closed) == {"quarantine.evidence"}
    assert quarantine(other[0], None) == {"quarantine.evidence"}, "the code says that something shows it"
    own_word = SiteQuarantined(site=other[0], code="audit.asked")
    assert assembly.refusals(assembly.entry(COORDINATOR, own_word)) == set()


def test_what_was_held_against_a_site_before_its_release_counts_no_more() -> None:
    assembly = robust("closed")
    suspect = clusters(assembly)[0][0]
    shown = assembly.say(COORDINATOR, assembly.release(outliers=(0,)))
    again = SiteQuarantined(site=suspect, code="robust.outlier", evidence=shown)
    quarantine = assembly.say(COORDINATOR, again)
    for site in [site for site in TWELVE if site != suspect][:8]:
        assert suspect in assembly.state.quarantined
        assembly.say(site, SiteReleased(site=suspect, quarantine=quarantine))
    assert not assembly.state.quarantined
    assert assembly.refusals(assembly.entry(COORDINATOR, again)) == {"quarantine.evidence"}


def test_the_evidence_counts_the_clusters_that_were_opened() -> None:
    """The second of those opened is not the second of those drawn, where one was not opened."""
    sites = MANY[:16]
    assembly = robust("reserved", sites)
    drawn = clusters(assembly)
    assert len(drawn) == 4
    report(assembly, [site for site in sites if site not in drawn[0]])
    assembly.say(COORDINATOR, closing(assembly))
    shown = assembly.say(COORDINATOR, assembly.release(outliers=(1,)))
    assert outlying_sites(assembly.state, shown) == frozenset(drawn[2])


def test_an_aggregate_without_outliers_is_evidence_against_nobody() -> None:
    assembly = robust("released")
    (shown,) = assembly.state.release_entries
    for site in SITES:
        body = SiteQuarantined(site=site, code="robust.outlier", evidence=shown)
        assert assembly.refusals(assembly.entry(COORDINATOR, body)) == {"quarantine.evidence"}


def test_what_earlier_rounds_opened_is_worked_out_once_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Worked out anew for every round before, thirty rounds would take a thousand million steps at every witness."""
    assembly = robust("closed")
    state, digest = assembly.state, assembly.digest
    for number in range(2, 31):
        for site in TWELVE:
            receipt = state.receipts[digest, 1, "training", site]
            state.receipts[digest, number, "training", site] = receipt
        state.closed[digest, number, "training"] = state.closed[digest, 1, "training"]
    steps = 0

    def counted(
        drawn: Sequence[Sequence[str]],
        published: Sequence[isolation.Membership],
        present: Collection[str],
        *,
        least: int,
    ) -> tuple[tuple[int, tuple[str, ...]], ...]:
        nonlocal steps
        steps += 1
        assert steps <= 30
        return isolation.openable(drawn, published, present, least=least)

    monkeypatch.setattr(protection, "openable", counted)
    assert len(opened_groups(state, digest, 30, "training")) == 3
    assert steps == 30
