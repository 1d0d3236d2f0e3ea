"""How a plan's sums are protected: among whom, in which groups, and what every key of a sum is bound to.

Readings of the folded state, the same at every party. The schemes themselves are `privacy.masked_sum`,
`privacy.homomorphic_sum` and `privacy.shared_sum`; which of them a risk tier permits is a rule; who builds one of
them out of a context is `tasks.summing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger import canonical
from ledger.errors import Violation
from policies.clusters import clusters_of, least_opened, required_sites, seed_of
from policies.facts import micro
from policies.federation import Federation
from policies.inquiry import AnyPlan
from policies.isolation import isolation_violations, openable
from policies.plan import Plan
from policies.receipt import Step
from privacy.masking.pair_keys import MaskingKey, MaskingKeyInvalidError
from privacy.sum_context import Participant, Roster, SumContext, least_present

if TYPE_CHECKING:
    from policies.receipt_record import Receipt
    from policies.state import FederationState

ATTEMPT = 1
"""A step is done once: what a run that was cut off built is sent again, and a second attempt is another plan."""

_ANY_PRIVATE_KEY = bytes(range(32))
"""Of a point of low order every X25519 private key makes zero, and of no other any."""


def is_masked(plan: AnyPlan) -> bool:
    """Whether updates come with shares of their masks."""
    return plan.scheme in ("masked", "homomorphic")


def is_encrypted(plan: AnyPlan) -> bool:
    """Whether the plan's sums need a key."""
    return plan.scheme in ("homomorphic", "homomorphic-unmasked")


def is_masking_key(public_key: str) -> bool:
    """Whether a secret can be shared with the holder of this X25519 key (hex). With a point of low order it would be
    zero, whoever else has a part in it, and a roster with such a key in it could not sum anything."""
    try:
        MaskingKey.from_bytes(_ANY_PRIVATE_KEY).agree(bytes.fromhex(public_key), info=b"")
    except MaskingKeyInvalidError:
        return False
    return True


def norm_bound_micro(plan: AnyPlan, step: Step) -> int | None:
    """The L2 bound that a site signs for its update; counts of patients and statistics have none."""
    return micro(plan.update.clip_l2) if isinstance(plan, Plan) and step == "training" else None


def sum_key_digest(state: FederationState, plan_digest: str) -> str | None:
    """Digest of the public key of the plan's sums; None where they need none, or have none yet."""
    if not is_encrypted(state.plan_of(plan_digest)):
        return None
    key = state.sum_keys.get(plan_digest)
    return None if key is None else key.public_key_digest


def candidates(state: FederationState, plan_digest: str) -> tuple[str, ...]:
    """Whom the roster can name now: all sites that approved the plan and may take part, by name. It names all of
    them unless the plan selects (`policies.selection`)."""
    step = state.plan_of(plan_digest).steps[0]
    return tuple(
        sorted(
            site.name
            for site in state.founded().sites()
            if site.name in state.approvals.get(plan_digest, frozenset())
            and site.name not in state.quarantined
            and (plan_digest, 0, step, site.name) not in state.refusals
        )
    )


def robust_violations(plan: AnyPlan, sites: int) -> list[Violation]:
    """Too few sites for the hostile ones that the plan wants to outvote."""
    if plan.robust is None or sites >= required_sites(plan.robust.hostile):
        return []
    needed = required_sites(plan.robust.hostile)
    message = (
        f"against {plan.robust.hostile} hostile sites a robust sum needs {needed} sites; there are {sites}"
    )
    return [Violation("robust.too-few-sites", message)]


def holders_needed(plan: AnyPlan, federation: Federation) -> int:
    """Without how many key holders in the roster the plan's sums could never be opened: of any scheme f + 1 have to
    find the same, and of one with shares every aggregator has to be one."""
    aggregators = plan.protection.aggregators if plan.scheme == "shared" else 0
    return max(federation.openings_required(), aggregators)


def holder_violations(plan: AnyPlan, federation: Federation, sites: tuple[str, ...]) -> list[Violation]:
    """Too few of the roster's sites hold keys for the scheme: its sums could never be opened."""
    holders = len(set(federation.key_holders) & set(sites))
    needed = holders_needed(plan, federation)
    if holders >= needed:
        return []
    message = f"{plan.scheme} sums need {needed} key holders in the roster; {holders} approved"
    return [Violation("roster.holders", message)]


def groups_of(state: FederationState, plan_digest: str, step: Step) -> tuple[tuple[str, ...], ...]:
    """The sites whose updates are summed together: of a robust plan's training its clusters, else all in one."""
    plan, roster = state.plan_of(plan_digest), state.rosters[plan_digest]
    if plan.robust is None or step != "training":
        return (roster,)
    # Not the roster entry's own digest: the coordinator composes that entry, and could try until it likes the draw.
    content = canonical.digest(canonical.encode({"plan_digest": plan_digest, "sites": list(roster)}))
    seed = seed_of(content, {site: state.masking_keys[plan_digest, site] for site in roster})
    return clusters_of(roster, hostile=plan.robust.hostile, seed_digest=seed)


def outlying_sites(state: FederationState, release_entry: str) -> frozenset[str]:
    """The sites of the clusters that a released aggregate, by its entry's digest, shows to be outliers."""
    key = state.release_entries.get(release_entry)
    if key is None:
        return frozenset()
    groups = opened_groups(state, *key, "training")
    return frozenset(
        site for number in state.released[key].outliers if number < len(groups) for site in groups[number][1]
    )


def smallest_set(state: FederationState, plan_digest: str) -> int:
    """How many receipts a step needs at least before it may be closed."""
    minimum = state.plan_of(plan_digest).participation.minimum_sites
    return least_present(len(state.rosters.get(plan_digest, ())), minimum_sites=minimum)


def roster_of(state: FederationState, plan_digest: str, members: tuple[str, ...] | None = None) -> Roster:
    """The plan's roster with the keys that its sites announced; of some of its `members` alone if they are given."""
    names = state.rosters[plan_digest] if members is None else members
    return Roster(
        tuple(
            Participant(name=name, masking_key=bytes.fromhex(state.masking_keys[plan_digest, name]))
            for name in names
        )
    )


def sum_context(
    state: FederationState,
    plan_digest: str,
    round_number: int,
    step: Step,
    *,
    model_digest: str,
    group: int = 0,
) -> SumContext:
    """What the keys of one sum are bound to. `model_digest` is that of the model that the site has in hand."""
    plan = state.plan_of(plan_digest)
    clustered = plan.robust is not None and step == "training"
    least = plan.participation.minimum_sites
    if clustered and plan.robust is not None:
        least = plan.robust.hostile + 2
    return SumContext(
        origin=state.origin,
        study=plan.study,
        plan_digest=plan_digest,
        round=round_number,
        step=step,
        attempt=ATTEMPT,
        scheme=plan.scheme,
        model_digest=model_digest,
        minimum_sites=least,
        group=group,
        roster=roster_of(state, plan_digest, groups_of(state, plan_digest, step)[group]),
    )


def opened_groups(
    state: FederationState, plan_digest: str, round_number: int, step: Step
) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """(number, sites) of every group whose sum the closed set lets be opened."""
    present = _present(state, plan_digest, round_number, step)
    return openable_groups(state, plan_digest, round_number, step, present=present)


def openable_groups(
    state: FederationState, plan_digest: str, round_number: int, step: Step, *, present: frozenset[str]
) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """(number, sites) of every group whose sum may be opened if these sites report. Of clusters those alone that
    single out nobody together with what earlier rounds opened (`policies.isolation`), and that have as many sites as
    their scheme needs."""
    plan = state.plan_of(plan_digest)
    if plan.robust is None:
        return ((0, tuple(sorted(present))),)
    if step != "training":
        # Whole clusters of this round or none of them: a sum over fewer would single out who is missing.
        clusters = opened_groups(state, plan_digest, round_number, "training")
        whole = [site for _, sites in clusters if present.issuperset(sites) for site in sites]
        return ((0, tuple(sorted(whole))),)
    published = _published(state, plan, plan_digest, round_number)
    return _opened_after(state, plan, plan_digest, published, present)


def _published(
    state: FederationState, plan: Plan, plan_digest: str, round_number: int
) -> tuple[tuple[str, ...], ...]:
    """The memberships of a robust plan's sums in the rounds before, each once."""
    published: dict[tuple[str, ...], None] = {}
    for earlier in range(1, round_number):
        if (plan_digest, earlier, "training") in state.closed:
            reported = _present(state, plan_digest, earlier, "training")
            opened = _opened_after(state, plan, plan_digest, tuple(published), reported)
            published.update(dict.fromkeys(sites for _, sites in opened))
    return tuple(published)


def _opened_after(
    state: FederationState,
    plan: Plan,
    plan_digest: str,
    published: tuple[tuple[str, ...], ...],
    present: frozenset[str],
) -> tuple[tuple[int, tuple[str, ...]], ...]:
    least = 0 if plan.robust is None else plan.robust.hostile + 2
    clusters = groups_of(state, plan_digest, "training")
    return tuple(
        (number, sites)
        for number, sites in openable(clusters, published, present, least=least)
        if len(sites) >= least_present(len(clusters[number]), minimum_sites=least)
    )


def _present(state: FederationState, plan_digest: str, round_number: int, step: Step) -> frozenset[str]:
    """The sites of a closed set."""
    closed = set(state.closed[plan_digest, round_number, step].receipts)
    found = state.usable_receipts(plan_digest, round_number, step)
    return frozenset(receipt.site for receipt in found if receipt.entry_digest in closed)


def closing_violations(
    state: FederationState, plan_digest: str, round_number: int, step: Step, *, present: frozenset[str]
) -> list[Violation]:
    """Why a step may not be closed with these sites; empty if it may."""
    plan, least = state.plan_of(plan_digest), smallest_set(state, plan_digest)
    found = []
    if len(present) < least:
        message = f"{len(present)} sites reported; the plan and its scheme need {least}"
        found.append(Violation("round.too-few", message))
    if plan.robust is None or plan_digest not in state.rosters:
        return found  # without a roster nobody has reported: there are too few
    if step != "training" and (plan_digest, round_number, "training") not in state.closed:
        return found  # out of order, which is said elsewhere
    groups = openable_groups(state, plan_digest, round_number, step, present=present)
    # What `openable` promises, checked by itself: all sums of the plan together single out nobody.
    published = _published(state, plan, plan_digest, round_number)
    found += isolation_violations(published, [sites for _, sites in groups], least=plan.robust.hostile + 2)
    stray = present - {site for _, sites in groups for site in sites}
    if stray:
        message = f"with the sums opened before, this one would single out {', '.join(sorted(stray))}"
        found.append(Violation("robust.isolated", message))
    if step == "training" and len(groups) < least_opened(plan.robust.hostile):
        message = (
            f"{len(groups)} clusters can be opened; against {plan.robust.hostile} hostile sites it takes "
        )
        found.append(Violation("robust.too-few-clusters", f"{message}{least_opened(plan.robust.hostile)}"))
    return found


def closed_receipts(
    state: FederationState, plan_digest: str, round_number: int, step: Step
) -> tuple[tuple[Receipt, ...], ...]:
    """The receipts of the closed set, by group and in the order of the sites' names."""
    closed = set(state.closed[plan_digest, round_number, step].receipts)
    found = state.usable_receipts(plan_digest, round_number, step)
    return tuple(
        tuple(receipt for receipt in found if receipt.site in group and receipt.entry_digest in closed)
        for group in groups_of(state, plan_digest, step)
    )
