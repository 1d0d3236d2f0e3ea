"""Every rule about rosters, keys of sums and what a protected update says of itself, broken once and alone.

Rules of robust sums are in tests/policies/test_robust_rounds.py, all others in tests/policies/test_admission.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from policies.events import Absence, Body, GateVerdict, SiteQuarantined
from policies.plan import Plan
from policies.receipt import Statement, Step
from tests.policies.assembly import Assembly, at, plan
from tests.policies.founding import COORDINATOR, MANY, SITES, named

A, B, C, D = SITES
Says = Callable[[Assembly], Body]

MASKED = plan(rounds=2)
ENCRYPTED = plan(rounds=2, protection={"scheme": "homomorphic"})
UNMASKED = plan(rounds=2, risk_tier="minimal", protection={"scheme": "homomorphic-unmasked"})
SHARED = plan(rounds=2, protection={"scheme": "shared"})
ALL_FOUR = plan(participation={"minimum_sites": 4, "deadline_s": 30})
NARROW = plan(update={"clip_l2": 8.0, "lane_bits": 22, "maximum_sites": 3, "server_learning_rate": 1.0})
LOW_ORDER = ("00" * 32, "01" + "00" * 31, "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")
"""Zero, one and a point of order eight (RFC 7748, section 7)."""


def after(*said: tuple[str, Says]) -> Callable[[Says], Says]:
    """A statement that is made after others."""

    def then(last: Says) -> Says:
        def body(a: Assembly) -> Body:
            for who, what in said:
                a.say(who, what(a))
            return last(a)

        return body

    return then


def approved_by(*sites: str) -> Callable[[Says], Says]:
    return after(*((site, lambda a, site=site: a.approval(site)) for site in sites))


def with_shares(a: Assembly, site: str, shares: str | None, step: Step = "training") -> Body:
    honest = a.receipt(site, step)
    statement = Statement.of(
        update_digest=honest.statement.update_digest,
        shares_digest=shares,
        predicate=honest.statement.predicate,
    )
    return honest.model_copy(update={"statement": statement})


def other_plan(a: Assembly) -> None:
    """Another plan of the study is published; what is said next is about it."""
    a.plan = a.plan.with_fields({"edition": "2"})
    a.say(COORDINATOR, a.published())


def approval_of_another_plan(a: Assembly, site: str) -> Body:
    key = a.approval(A).masking_key
    other_plan(a)
    return a.approval(site, masking_key=key)


def roster_of_a_plan_that_the_federation_outgrew(a: Assembly) -> Body:
    """No event admits members yet. The rule does not rest on that."""
    passed = GateVerdict(plan_digest=a.digest, round=0, passed=True, violations=())
    a.state.verdicts[a.digest, 0] = passed
    return a.roster()


def key_of_another_plan(a: Assembly) -> Body:
    a.say(A, a.key())
    other_plan(a)
    a.say(COORDINATOR, a.verdict(0))
    for site in SITES:
        a.say(site, a.approval(site))
    a.say(COORDINATOR, a.roster())
    return a.key()


REFUSED = (A, lambda a: a.refusal(A, round_number=0))
IN_QUARANTINE = (COORDINATOR, lambda a: SiteQuarantined(site=A, code="test.drill"))

# Plan, stage, who says it, what, and the codes.
RULES: list[tuple[Plan, str, str, Says, set[str]]] = [
    # approvals
    (MASKED, "approved", A, lambda a: a.approval(A, masking_key=named("new")), {"plan.approved-twice"}),
    (MASKED, "approved", A, lambda a: a.approval(A), {"plan.approved-twice", "plan.masking-key"}),
    (MASKED, "passed", B, approved_by(A)(lambda a: a.approval(B, masking_key=a.approval(A).masking_key)),
     {"plan.masking-key"}),
    (MASKED, "approved", A, lambda a: approval_of_another_plan(a, A), {"plan.masking-key"}),
    (MASKED, "approved", B, lambda a: approval_of_another_plan(a, B), {"plan.masking-key"}),
    *((MASKED, "passed", A, lambda a, key=key: a.approval(A, masking_key=key), {"plan.masking-key"})
      for key in LOW_ORDER),
    # rosters
    (MASKED, "approved", A, lambda a: a.roster(), {"event.role"}),
    (MASKED, "approved", COORDINATOR, lambda a: a.roster(plan_digest=named("other")), {"plan.unknown"}),
    (MASKED, "published", COORDINATOR, approved_by(*SITES)(lambda a: a.roster()), {"roster.not-open"}),
    (MASKED, "rostered", COORDINATOR, lambda a: a.roster(), {"roster.fixed-twice"}),
    (MASKED, "approved", COORDINATOR, lambda a: a.roster(sites=SITES[1:]), {"roster.sites"}),
    (MASKED, "approved", COORDINATOR, lambda a: a.roster(sites=(*SITES, "site-z")), {"roster.sites"}),
    (MASKED, "approved", COORDINATOR, lambda a: a.roster(sites=SITES[::-1]), {"roster.sites"}),
    (MASKED, "approved", COORDINATOR, lambda a: a.roster(sites=(A, *SITES)), {"roster.sites"}),
    (MASKED, "passed", COORDINATOR, approved_by(A, B, C)(lambda a: a.roster()), {"roster.sites"}),
    (MASKED, "approved", COORDINATOR, after(REFUSED)(lambda a: a.roster()), {"roster.sites"}),
    (MASKED, "approved", COORDINATOR, after(IN_QUARANTINE)(lambda a: a.roster()), {"roster.sites"}),
    (ALL_FOUR, "passed", COORDINATOR, approved_by(A, B, C)(lambda a: a.roster(sites=(A, B, C))),
     {"roster.too-few"}),
    (SHARED, "passed", COORDINATOR, approved_by(B, C, D)(lambda a: a.roster(sites=(B, C, D))), {"roster.holders"}),
    (NARROW, "approved", COORDINATOR, lambda a: a.roster(), {"roster.not-open", "roster.too-many"}),
    (NARROW, "approved", COORDINATOR, roster_of_a_plan_that_the_federation_outgrew, {"roster.too-many"}),
    # keys of sums
    (ENCRYPTED, "rostered", D, lambda a: a.key(), {"sum-key.not-holder"}),
    (ENCRYPTED, "rostered", COORDINATOR, lambda a: a.key(), {"event.role"}),
    (ENCRYPTED, "rostered", A, lambda a: a.key(plan_digest=named("other")), {"sum-key.plan"}),
    (ENCRYPTED, "rostered", A, lambda a: a.key(study="another-study"), {"sum-key.plan"}),
    (MASKED, "rostered", A, lambda a: a.key(), {"sum-key.plan"}),
    (SHARED, "rostered", A, lambda a: a.key(), {"sum-key.plan"}),
    (ENCRYPTED, "approved", A, lambda a: a.key(), {"sum-key.roster"}),
    (ENCRYPTED, "passed", C, after(
        (A, lambda a: a.approval(A)), (B, lambda a: a.approval(B)), (D, lambda a: a.approval(D)),
        (COORDINATOR, lambda a: a.roster(sites=(A, B, D))),
     )(lambda a: a.key()), {"sum-key.roster"}),
    (ENCRYPTED, "keyed", A, lambda a: a.key(public_key_digest=named("other")), {"sum-key.twice"}),
    (ENCRYPTED, "keyed", B, lambda a: a.key(public_key_digest=named("other")), {"sum-key.twice"}),
    (ENCRYPTED, "rostered", A, key_of_another_plan, {"sum-key.old"}),
    # reservations
    (MASKED, "passed", A, after(
        *((site, lambda a, site=site: a.approval(site)) for site in SITES),
        (A, lambda a: a.consents(A)),
     )(lambda a: a.reservation(A)), {"roster.absent"}),
    (MASKED, "passed", D, after(
        *((site, lambda a, site=site: a.approval(site)) for site in SITES[:3]),
        (COORDINATOR, lambda a: a.roster(sites=SITES[:3])),
        (D, lambda a: a.approval(D)),
        (D, lambda a: a.consents(D)),
     )(lambda a: a.reservation(D)), {"roster.absent"}),
    (MASKED, "approved", A, after(
        REFUSED, (COORDINATOR, lambda a: a.roster(sites=SITES[1:])), (A, lambda a: a.consents(A))
     )(lambda a: a.reservation(A)), {"roster.absent"}),
    # receipts
    *((each, "reserved", A, lambda a: with_shares(a, A, None), {"receipt.shares"})
      for each in (MASKED, ENCRYPTED)),
    *((each, "reserved", A, lambda a: with_shares(a, A, named("shares")), {"receipt.shares"})
      for each in (UNMASKED, SHARED)),
    (MASKED, "released", A, lambda a: with_shares(a, A, None, "evaluation"), {"receipt.shares"}),
    *((MASKED, "reserved", A, lambda a, bound=bound: a.receipt(A, norm_bound_micro=bound),
       {"receipt.norm-bound"}) for bound in (None, 0, 8_000_001, 7_999_999)),
    (MASKED, "released", A, lambda a: a.receipt(A, "evaluation", norm_bound_micro=8_000_000),
     {"receipt.norm-bound"}),
    *((each, "reserved", A, lambda a: a.receipt(A, sum_key_digest=named("sum key")), {"receipt.sum-key"})
      for each in (MASKED, SHARED)),
    *((each, "reserved", A, lambda a: a.receipt(A, sum_key_digest=None), {"receipt.sum-key"})
      for each in (ENCRYPTED, UNMASKED)),
    (ENCRYPTED, "reserved", A, lambda a: a.receipt(A, sum_key_digest=named("other")), {"receipt.sum-key"}),
    # what a plan that does not sum by cluster has none of
    (MASKED, "closed", COORDINATOR, lambda a: a.release(outliers=(0,)), {"aggregate.clusters"}),
    (MASKED, "closed", COORDINATOR, lambda a: a.release(cosines_micro=(1,)), {"aggregate.clusters"}),
    (MASKED, "released", COORDINATOR,
     lambda a: SiteQuarantined(site=A, code="test.drill", evidence=last_release(a)), {"quarantine.evidence"}),
]  # fmt: skip


def last_release(a: Assembly) -> str:
    (entry,) = a.state.release_entries
    return entry


@pytest.mark.parametrize(
    ("terms", "stage", "who", "what", "codes"),
    RULES,
    ids=[f"{'+'.join(sorted(codes))}-{terms.scheme}-{stage}" for terms, stage, _, _, codes in RULES],
)
def test_a_statement_that_breaks_one_rule_is_refused_by_that_rule_and_changes_nothing(
    terms: Plan, stage: str, who: str, what: Says, codes: set[str]
) -> None:
    assembly = at(stage, plan=terms)
    assert assembly.refusals(assembly.entry(who, what(assembly))) == codes


@pytest.mark.parametrize("terms", [MASKED, ENCRYPTED, UNMASKED, SHARED], ids=lambda terms: terms.scheme)
def test_a_whole_round_is_admitted_under_every_scheme(terms: Plan) -> None:
    assembly = at("registered", plan=terms)
    assert assembly.state.verdicts[assembly.digest, 1].passed


@pytest.mark.parametrize(
    "names", [("shares",), ("shares", "update"), ("update", "update"), ("shares", "shares")]
)
def test_a_receipt_names_its_update_first_and_then_its_shares(names: tuple[str, ...]) -> None:
    """Whoever reads the one for the other would check the wrong bytes."""
    assembly = at("reserved")
    honest = assembly.receipt(A)
    value = honest.to_json()
    statement = value["statement"]
    assert isinstance(statement, dict)
    subjects = [{"name": name, "digest": {"sha256": named(f"{name} {at}")}} for at, name in enumerate(names)]
    changed = {"statement": {**statement, "subject": subjects}}
    assert assembly.refusals(assembly.entry(A, honest, body=changed)) == {"event.malformed"}


def test_nothing_is_reported_under_a_key_before_there_is_one() -> None:
    """The update of a site that did not wait would be one that nobody can open, or that everybody can read."""
    assembly = at("rostered", plan=ENCRYPTED)
    for stage in ("consented", "reserved"):
        assembly._take(stage)
    for digest in (None, named("sum key")):
        early = assembly.receipt(A, sum_key_digest=digest)
        assert assembly.refusals(assembly.entry(A, early)) == {"receipt.sum-key"}
    assembly._take("keyed")
    assembly.say(A, assembly.receipt(A))


def test_who_is_in_quarantine_or_refused_is_left_out_and_the_others_go_on() -> None:
    for said in (REFUSED, IN_QUARANTINE):
        assembly = at("approved")
        assembly.say(said[0], said[1](assembly))
        assembly.say(COORDINATOR, assembly.roster(sites=SITES[1:]))
        assert assembly.state.rosters[assembly.digest] == SITES[1:]


@pytest.mark.parametrize(("sites", "needed"), [(MANY[:4], 3), (MANY[:5], 4), (MANY[:7], 5)])
@pytest.mark.parametrize("terms", [MASKED, SHARED], ids=lambda terms: terms.scheme)
def test_a_step_is_closed_with_as_many_sites_as_its_scheme_needs(
    terms: Plan, sites: tuple[str, ...], needed: int
) -> None:
    """The plan asks for three. With c that collude, t > (n + c)/2 must answer."""
    assembly = at("reserved", plan=terms, sites=sites)
    for number, site in enumerate(sites[:needed], start=1):
        assembly.say(site, assembly.receipt(site))
        absent = tuple(Absence(site=name, code="site.silent") for name in sites[number:])
        closing = assembly.entry(COORDINATOR, assembly.closing(missing=absent))
        assert assembly.refusals(closing) == ({"round.too-few"} if number < needed else set())


def test_the_plan_can_ask_for_more_sites_than_the_scheme() -> None:
    assembly = at("reserved", plan=ALL_FOUR)
    for site in SITES[:3]:
        assembly.say(site, assembly.receipt(site))
    closing = assembly.closing(missing=(Absence(site=D, code="site.silent"),))
    assert assembly.refusals(assembly.entry(COORDINATOR, closing)) == {"round.too-few"}


def test_the_coordinator_cannot_refuse_a_site_for_the_whole_plan_and_so_choose_the_roster() -> None:
    """It could refuse one site after another until it likes the clusters that the others are drawn into."""
    assembly = at("approved")
    refusing = assembly.entry(COORDINATOR, assembly.refusal(A, round_number=0))
    assert assembly.refusals(refusing) == {"refusal.foreign"}
    assert assembly.refusals(assembly.entry(A, assembly.refusal(A, round_number=0))) == set()
