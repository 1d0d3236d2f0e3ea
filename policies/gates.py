"""The gates: what a plan must meet before anything is trained, and a model before it is registered.

The rules decide (`policies/rules`, over `policies.facts`); this module asks them and says their verdict in words for
a data steward: sites, caps and figures that are on the ledger, nothing else. Pure functions of the folded state, so
that every witness recomputes them; every violation is collected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ledger.errors import Violation
from policies import facts
from policies.clusters import required_sites
from policies.cost import epsilon_micro, plan_cost
from policies.federation import PHASES, Member
from policies.inquiry import AnyPlan, Inquiry
from policies.plan import Plan
from policies.rego import Rules, installed_rules
from policies.selection import selection_violations, that_count
from privacy.accounting import MICRO, Curve

if TYPE_CHECKING:
    from policies.state import FederationState


def epsilon_text(micro: int) -> str:
    """Epsilon for people, rounded up to two digits: a budget never looks smaller than it is."""
    return f"{-(-micro // 10_000) / 100:.2f}"


def plan_violations(
    state: FederationState,
    plan: AnyPlan,
    *,
    site: str | None = None,
    cost: Curve | None = None,
    log_time_s: int | None = None,
    rules: Rules | None = None,
) -> list[Violation]:
    """Round 0: may this plan be trained at all? With `site`, only that site's pool and consents are asked.

    `cost` is what is still to be drawn, by default that of all rounds; `log_time_s` now, by default the log's.
    """
    federation = state.federation
    if federation is None:
        return [Violation("federation.not-founded", "the federation is not founded")]
    rules = rules or installed_rules()
    drawn = plan_cost(plan) if cost is None else cost
    now_s = state.log_time_s if log_time_s is None else log_time_s
    sites, unknown = len(federation.sites()), facts.unknown_sites(plan, federation)
    found = [
        Violation(code, plan_message(code, plan, sites=sites, unknown=unknown, phase=state.phase))
        for code in rules.decide(
            "plan", facts.plan_facts(plan, sites=sites, unknown=unknown, phase=state.phase)
        )
    ]
    found += selection_violations(plan, federation)
    by_site: dict[str, list[Violation]] = {}
    for member in federation.sites():
        if site in (None, member.name):
            told = facts.member_facts(state, plan, member, cost=drawn, log_time_s=now_s)
            by_site[member.name] = [
                Violation(code, member_message(code, state, plan, member, drawn))
                for code in rules.decide("member", told)
            ]
    if site is None:
        by_site = that_count(plan, by_site)
    return [*found, *(violation for listed in by_site.values() for violation in listed)]


def lone_plan_violations(
    plan: AnyPlan, *, sites: int | None = None, rules: Rules | None = None
) -> list[Violation]:
    """What the rules refuse of the plan by itself, in a federation that is in its last phase and has every site that
    the plan requires; `sites` many, by default as many as the plan needs."""
    robust = 0 if plan.robust is None else required_sites(plan.robust.hostile)
    least = max(plan.participation.minimum_sites, len(plan.participation.required), robust)
    count = least if sites is None else sites
    told = facts.plan_facts(plan, sites=count, unknown=(), phase=PHASES[-1])
    return [
        Violation(code, plan_message(code, plan, sites=count, unknown=(), phase=PHASES[-1]))
        for code in (rules or installed_rules()).decide("plan", told)
    ]


def release_violations(
    state: FederationState, plan_digest: str, round_number: int, *, rules: Rules | None = None
) -> list[Violation]:
    """May the model of this round be registered, or do an inquiry's figures count? After a round without an
    evaluation, may the next follow?"""
    plan = state.plan_of(plan_digest)
    if isinstance(plan, Inquiry):
        return _statistics_violations(state, plan, plan_digest, rules or installed_rules())
    if plan.evaluates(round_number):
        decision, told = "release", facts.release_facts(state, plan, plan_digest, round_number)
    else:
        decision, told = "continuation", facts.continuation_facts(state, plan, plan_digest, round_number)
    return [
        Violation(code, _release_message(code, state, plan, plan_digest, round_number))
        for code in (rules or installed_rules()).decide(decision, told)
    ]


def _statistics_violations(
    state: FederationState, plan: Inquiry, plan_digest: str, rules: Rules
) -> list[Violation]:
    told = facts.statistics_facts(state, plan, plan_digest)
    return [
        Violation(code, _statistics_message(code, state, plan, plan_digest))
        for code in rules.decide("statistics", told)
    ]


def plan_message(code: str, plan: AnyPlan, *, sites: int, unknown: tuple[str, ...], phase: str) -> str:
    """The verdict of the decision `plan`, in words."""
    least, most, has = plan.participation.minimum_sites, plan.maximum_sites, sites
    own = epsilon_text(epsilon_micro(plan_cost(plan), plan.budget.delta))
    strangers = ", ".join(unknown)
    robust = 0 if plan.robust is None else required_sites(plan.robust.hostile)
    return {
        "plan.no-code": "the plan approves no code",
        "plan.too-few-members": f"the plan needs {least} sites, the federation has {has}",
        "plan.too-many-members": f"the plan's encoding holds {most} sites at most",
        "plan.unknown-site": f"the plan requires {strangers}, which is not a member",
        "plan.scheme": f"protection.scheme {plan.scheme} is not for a plan of {plan.risk_tier} risk: choose another, "
        "masked is for all",
        "plan.robust-sites": f"robust sums against so many hostile sites need {robust} sites, the federation has "
        f"{has}",
        "budget.plan-cap": f"the plan costs ε={own} at δ={plan.budget.delta:g}, over its own cap of "
        f"{plan.budget.epsilon_cap:g}",
        "phase.risk-tier": f"the federation is in its phase {phase}, which permits no plan of "
        f"{plan.risk_tier} risk",
        "phase.patient-data": f"the federation is in its phase {phase}, in which nobody's data are used: data.source "
        "must be phantoms",
    }.get(code, f"the rule {code} refuses the plan")


def member_message(code: str, state: FederationState, plan: AnyPlan, member: Member, cost: Curve) -> str:
    """The verdict of the decisions `member` and `reservation` about one site, in words."""
    name, terms = member.name, plan.consent
    messages: dict[str, Callable[[], str]] = {
        "budget.pool-cap": lambda: _pool_message(state, member, cost),
        "consent.version": lambda: f"{name} has published no consent policy {terms.policy_version}",
        "consent.purpose": lambda: (
            f"the consent policy {terms.policy_version} of {name} does not cover the purpose {terms.purpose}"
        ),
        "consent.not-in-force": lambda: (
            f"the consent policy {terms.policy_version} of {name} is not in force now"
        ),
        "consent.state-missing": lambda: f"{name} has not published the state of its consents",
        "consent.state-stale": lambda: f"the state of its consents that {name} published last is too old",
        "plan.not-approved": lambda: f"{name} has not approved the plan",
        "site.quarantined": lambda: f"{name} is in quarantine ({state.quarantined.get(name, 'unknown')})",
    }
    return messages.get(code, lambda: f"the rule {code} refuses {name}")()


def _pool_message(state: FederationState, member: Member, cost: Curve) -> str:
    pool = member.pool
    if pool is None:
        return f"{member.name} has no data pool"
    spent = state.spent_by(member.name)
    return (
        f"{member.name} has spent ε={epsilon_text(pool.epsilon_micro(spent))} of its cap "
        f"{pool.epsilon_cap_micro / MICRO:g} at δ={pool.delta:g}; "
        f"with this it would be {epsilon_text(pool.epsilon_micro(spent + cost))}"
    )


def _release_message(
    code: str, state: FederationState, plan: Plan, plan_digest: str, round_number: int
) -> str:
    key, gates = (plan_digest, round_number), plan.gates
    reported = state.reported(plan_digest, round_number)
    said = _participation_message(code, state, plan, plan_digest, round_number)
    if said is not None:
        return said
    evaluated = state.evaluated.get(key)
    figure, kind = "none" if evaluated is None else figure_text(evaluated.figure_micro), plan.figure
    groups = () if evaluated is None else evaluated.subgroup_figures_micro
    return {
        "aggregate.missing": f"the sum of round {round_number} was not opened",
        "update.norm": f"the sum of round {round_number} is larger than {len(reported)} updates within the plan's "
        "clip can be",
        "evaluation.missing": f"round {round_number} has no federated evaluation",
        "evaluation.below-floor": f"the federated {kind} of round {round_number} is {figure}, under the plan's floor "
        f"of {plan.minimum_figure:g}",
        "evaluation.regression": f"the federated {kind} of round {round_number} is {figure}, more than "
        f"{gates.maximum_regression or 0:g} under {figure_text(state.figure_in_force(plan))} of the model in force",
        "evaluation.subgroups-missing": f"round {round_number} has no {kind} for every subgroup",
        "evaluation.subgroup-gap": f"the {kind}s of subgroups in round {round_number} are "
        f"{', '.join(map(figure_text, groups))}, further apart than {gates.maximum_subgroup_gap or 0:g}",
    }.get(code, f"the rule {code} refuses the model")


def _statistics_message(code: str, state: FederationState, plan: Inquiry, plan_digest: str) -> str:
    said = _participation_message(code, state, plan, plan_digest, 1)
    if said is not None:
        return said
    return {"aggregate.missing": "the sum of the inquiry was not opened"}.get(
        code, f"the rule {code} refuses the figures"
    )


def _participation_message(
    code: str, state: FederationState, plan: AnyPlan, plan_digest: str, round_number: int
) -> str | None:
    """Words for who is missing; None for another code."""
    reported = state.reported(plan_digest, round_number)
    missing = ", ".join(name for name in plan.participation.required if name not in reported)
    return {
        "participation.too-few": f"{len(reported)} sites reported in round {round_number}, the plan needs "
        f"{plan.participation.minimum_sites}{_absent(state, plan_digest, round_number, reported)}",
        "participation.required-missing": f"{missing}, which the plan requires, did not report",
    }.get(code)


def figure_text(micro: int | None) -> str:
    return "not defined" if micro is None else f"{micro / MICRO:.3f}"


def _absent(state: FederationState, plan_digest: str, round_number: int, reported: frozenset[str]) -> str:
    """ ": <site> (<code>), ..." for every site that did not report, as far as the ledger knows why."""
    gone = [site.name for site in state.founded().sites() if site.name not in reported]
    step = state.plan_of(plan_digest).steps[0]
    whole = {site: state.refusals.get((plan_digest, 0, step, site)) for site in gone}
    codes = {site: state.refusals.get((plan_digest, round_number, step, site)) for site in gone}
    # Who approved and is in no roster was not silent: the roster was never fixed, or without it.
    approved = state.approvals.get(plan_digest, frozenset()) - {*state.rosters.get(plan_digest, ())}
    told = {site: "roster.absent" if site in approved else "site.silent" for site in gone}
    named = [f"{site} ({codes[site] or whole[site] or told[site]})" for site in gone]
    return f"; missing: {', '.join(named)}" if named else ""
