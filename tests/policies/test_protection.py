"""What a plan's sums are bound to, as every party reads it off the ledger: rosters, groups, contexts, closed sets."""

from __future__ import annotations

import pytest

from policies import facts
from policies.events import Absence
from policies.plan import DEFAULT_SCHEME, Plan, RiskTier, Scheme
from policies.protection import (
    ATTEMPT,
    candidates,
    closed_receipts,
    groups_of,
    is_encrypted,
    is_masked,
    is_masking_key,
    norm_bound_micro,
    opened_groups,
    roster_of,
    smallest_set,
    sum_context,
    sum_key_digest,
)
from policies.rego import installed_rules
from policies.state import FederationState
from privacy.masking.pair_keys import MaskingKey
from tests.policies.assembly import Assembly, at, plan
from tests.policies.founding import BASE, COORDINATOR, MANY, ORIGIN, SITES, named

A, B, C, D = SITES
TWELVE = MANY[:12]
ROBUST = plan(
    rounds=2, robust={"hostile": 1}, participation={"minimum_sites": 11, "deadline_s": 30}
)  # fmt: skip


def label(state: FederationState, digest: str, *, round_number: int = 1, model: str = BASE) -> bytes:
    return sum_context(state, digest, round_number, "training", model_digest=model).label("masks")


@pytest.fixture(scope="module")
def rostered() -> Assembly:
    return at("rostered")


def test_all_that_a_key_must_be_bound_to_changes_the_context(rostered: Assembly) -> None:
    """Two sites that read any of these differently derive keys whose masks do not cancel."""
    state, digest = rostered.state, rostered.digest
    whole = label(state, digest)
    others = {
        "round": label(state, digest, round_number=2),
        "step": sum_context(state, digest, 1, "evaluation", model_digest=BASE).label("masks"),
        "model": label(state, digest, model=named("another model")),
        "purpose": sum_context(state, digest, 1, "training", model_digest=BASE).label("shares"),
    }
    for what in ("origin", "key", "roster"):
        changed = state.fork()
        if what == "origin":
            changed.origin = "wardround/other/term-1"
        elif what == "key":
            changed.masking_keys[digest, C] = named("another key")
        else:
            changed.rosters[digest] = SITES[:3]
        others[what] = label(changed, digest)
    # Another plan is another digest, whichever of its fields differs; study and scheme are named besides.
    for what, fields in {
        "plan": {"edition": "2"},
        "study": {"study": "another-study"},
        "scheme": {"protection": {"scheme": "homomorphic"}},
    }.items():
        different = at("rostered", plan=rostered.plan.with_fields(fields))
        others[what] = label(different.state, different.digest)
        same_digest = state.fork()
        same_digest.plans[digest] = different.state.plans[different.digest]
        if what != "plan":
            others[f"{what} alone"] = label(same_digest, digest)
    assert len({whole, *others.values()}) == 1 + len(others)
    assert label(at("rostered").state, digest) == whole, "the same at every party"


def test_a_context_says_what_the_ledger_does(rostered: Assembly) -> None:
    context = sum_context(rostered.state, rostered.digest, 2, "evaluation", model_digest=named("model 2"))
    assert (context.origin, context.study, context.plan_digest) == (
        ORIGIN,
        rostered.plan.study,
        rostered.digest,
    )
    assert (context.round, context.step, context.attempt, context.group) == (2, "evaluation", ATTEMPT, 0)
    assert (context.scheme, context.model_digest) == ("masked", named("model 2"))
    assert context.roster == roster_of(rostered.state, rostered.digest)
    assert context.roster.names == SITES
    assert context.minimum_sites == rostered.plan.participation.minimum_sites


def test_each_cluster_has_a_context_of_its_own_and_evaluation_one_for_all() -> None:
    assembly = at("rostered", plan=ROBUST, sites=TWELVE)
    state, digest = assembly.state, assembly.digest
    drawn = groups_of(state, digest, "training")
    contexts = [
        sum_context(state, digest, 1, "training", model_digest=BASE, group=number) for number in range(3)
    ]
    assert [context.roster.names for context in contexts] == list(drawn)
    assert sorted(site for group in drawn for site in group) == list(TWELVE)
    assert [context.group for context in contexts] == [0, 1, 2]
    assert len({context.label("masks") for context in contexts}) == 3
    assert [context.minimum_sites for context in contexts] == [3] * 3, "two honest sites beside one hostile"
    assert groups_of(state, digest, "evaluation") == (TWELVE,)
    whole = sum_context(state, digest, 1, "evaluation", model_digest=BASE)
    assert whole.roster.names == TWELVE
    assert whole.minimum_sites == ROBUST.participation.minimum_sites


def test_the_draw_rests_on_every_site_s_key_and_on_nothing_that_the_coordinator_writes() -> None:
    """Nobody knows the clusters before the last key is on the ledger, and the coordinator has none."""
    assembly = at("rostered", plan=ROBUST, sites=TWELVE)
    state, digest = assembly.state, assembly.digest
    drawn = {groups_of(state, digest, "training")}
    for site in TWELVE:
        other = state.fork()
        other.masking_keys[digest, site] = named("another key")
        drawn.add(groups_of(other, digest, "training"))
    assert len(drawn) == 13
    assert {groups_of(at("rostered", plan=ROBUST, sites=TWELVE).state, digest, "training")} < drawn


def test_a_roster_holds_the_keys_that_its_sites_announced_for_this_plan(rostered: Assembly) -> None:
    state, first = rostered.state.fork(), rostered.digest
    both = Assembly(state=state, plan=rostered.plan.with_fields({"edition": "2"}))
    for stage in ("published", "passed", "approved", "rostered"):
        both._take(stage)
    one, other = roster_of(state, first), roster_of(state, both.digest)
    assert one.names == other.names == SITES
    for mine, others in zip(one.participants, other.participants, strict=True):
        assert mine.masking_key == bytes.fromhex(state.masking_keys[first, mine.name])
        assert mine.masking_key != others.masking_key
    assert roster_of(state, first, (A, C, D)).names == (A, C, D)


def test_the_receipts_of_a_closed_set_stand_in_the_order_of_names_whoever_was_first() -> None:
    assembly = at("reserved")
    for site in (D, B, A):
        assembly.say(site, assembly.receipt(site))
    assembly.say(COORDINATOR, assembly.closing(missing=(Absence(site=C, code="site.silent"),)))
    ((*closed,),) = closed_receipts(assembly.state, assembly.digest, 1, "training")
    assert [receipt.site for receipt in closed] == [A, B, D]
    assert opened_groups(assembly.state, assembly.digest, 1, "training") == ((0, (A, B, D)),)


def test_only_receipts_that_the_closing_names_are_in_the_set() -> None:
    """Neither one that was refused, nor one that some later rule should ever let in."""
    assembly = at("reported")
    assembly.say(COORDINATOR, assembly.refusal(B))
    assembly.say(COORDINATOR, assembly.closing(missing=(Absence(site=B, code="test.refused"),)))
    late = assembly.state.fork()
    del late.refusals[assembly.digest, 1, "training", B]
    for state in (assembly.state, late):
        ((*closed,),) = closed_receipts(state, assembly.digest, 1, "training")
        assert [receipt.site for receipt in closed] == [A, C, D]
        assert opened_groups(state, assembly.digest, 1, "training") == ((0, (A, C, D)),)


def test_the_receipts_of_clusters_stand_by_cluster() -> None:
    assembly = at("closed", plan=ROBUST, sites=TWELVE)
    found = closed_receipts(assembly.state, assembly.digest, 1, "training")
    groups = groups_of(assembly.state, assembly.digest, "training")
    assert [tuple(one.site for one in group) for group in found] == list(groups)
    assert opened_groups(assembly.state, assembly.digest, 1, "training") == tuple(enumerate(groups))


def test_the_candidates_are_all_who_approved_and_may_take_part() -> None:
    assembly = at("passed")
    assert candidates(assembly.state, assembly.digest) == ()
    for site in (C, A, B):
        assembly.say(site, assembly.approval(site))
    assert candidates(assembly.state, assembly.digest) == (A, B, C)
    assembly.say(B, assembly.refusal(B, round_number=0))
    assert candidates(assembly.state, assembly.digest) == (A, C)
    assembly.say(C, assembly.refusal(C, round_number=1))  # of a step, not of the plan
    assert candidates(assembly.state, assembly.digest) == (A, C)


@pytest.mark.parametrize(
    ("sites", "minimum", "least"),
    [(3, 3, 2 + 1), (4, 3, 3), (4, 4, 4), (5, 3, 4), (7, 3, 5), (10, 3, 7), (12, 3, 8), (12, 11, 11)],
)
def test_the_smallest_set_is_the_largest_of_what_plan_and_scheme_ask_for(
    sites: int, minimum: int, least: int
) -> None:
    """t > (n + c)/2 with c = floor((n - 1)/3), c + 2, and the plan's minimum."""
    terms = plan(participation={"minimum_sites": minimum, "deadline_s": 30})
    state = FederationState(ORIGIN)
    assembly = Assembly(plan=terms, state=state)
    state.plans[assembly.digest] = assembly.published()
    state.rosters[assembly.digest] = MANY[:sites]
    assert smallest_set(state, assembly.digest) == least


TIERS: tuple[tuple[RiskTier, Scheme], ...] = (
    ("minimal", "masked"),
    ("limited", "masked"),
    ("high", "homomorphic"),
)


@pytest.mark.parametrize(("tier", "scheme"), TIERS)
def test_where_a_plan_does_not_say_its_tier_decides_and_the_rules_permit_it(
    tier: RiskTier, scheme: Scheme
) -> None:
    silent = plan(risk_tier=tier, protection={})
    assert silent.scheme == DEFAULT_SCHEME[tier] == scheme
    told = facts.plan_facts(silent, sites=4, unknown=(), phase="clinical")
    assert "plan.scheme" not in installed_rules().decide("plan", told)
    assert plan(risk_tier=tier, protection={"scheme": "shared"}).scheme == "shared"


@pytest.mark.parametrize(
    ("tier", "scheme"), [("limited", "homomorphic-unmasked"), ("high", "homomorphic-unmasked"), ("high", "shared")]
)  # fmt: skip
def test_a_plan_that_protects_less_than_its_tier_asks_never_passes_its_gate(tier: str, scheme: str) -> None:
    assembly = at("passed", plan=plan(risk_tier=tier, protection={"scheme": scheme}))
    assert "plan.scheme" in assembly.state.verdicts[assembly.digest, 0].violations


@pytest.mark.parametrize(
    ("scheme", "masked", "encrypted"),
    [
        ("masked", True, False),
        ("homomorphic", True, True),
        ("homomorphic-unmasked", False, True),
        ("shared", False, False),
    ],
)
def test_what_a_scheme_has_beside_its_updates(scheme: str, masked: bool, encrypted: bool) -> None:
    terms = plan(protection={"scheme": scheme})
    assert (is_masked(terms), is_encrypted(terms)) == (masked, encrypted)


def test_the_bound_that_a_site_signs_is_the_plan_s_clip_of_updates_and_none_of_counts() -> None:
    terms: Plan = plan()
    assert norm_bound_micro(terms, "training") == 8_000_000
    assert norm_bound_micro(terms, "evaluation") is None


def test_a_key_belongs_to_a_plan_that_needs_one() -> None:
    encrypted = at("keyed", plan=plan(protection={"scheme": "homomorphic"}))
    assert sum_key_digest(encrypted.state, encrypted.digest) == named("sum key")
    waiting = at("rostered", plan=encrypted.plan)
    assert sum_key_digest(waiting.state, waiting.digest) is None
    masked = at("keyed")
    masked.state.sum_keys[masked.digest] = encrypted.key(plan_digest=masked.digest)
    assert sum_key_digest(masked.state, masked.digest) is None


def test_no_secret_is_shared_with_a_point_of_low_order() -> None:
    """The seven encodings below 2^255 of the points of order 1, 2, 4 and 8 (X25519, RFC 7748)."""
    prime = 2**255 - 19
    eighth = 325606250916557431795983626356110631294008115727848805560023387167927233504
    other = 39382357235489614581723060781553021112529911719440698176882885853963445705823
    low = (0, 1, prime - 1, prime, prime + 1, eighth, other)
    assert [is_masking_key(point.to_bytes(32, "little").hex()) for point in low] == [False] * 7
    assert is_masking_key(MaskingKey.generate().public_bytes().hex())
