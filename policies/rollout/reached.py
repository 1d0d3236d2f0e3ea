"""What there is of a phase's terms: the rounds, figures, checks, papers and drills that count under them.

Read off the folded state, in one place for the gate, for people and for evidence. Nothing is judged here
(`policies.rollout.gate`, and the rules).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger import canonical
from policies.comparison import Answers, answers_of
from policies.facts import uses_patients
from policies.federation import PHASES
from policies.plan import Plan
from policies.rollout.confidence import FigureLimits, figure_limits
from policies.rollout.record import Opened

if TYPE_CHECKING:
    from policies.state import FederationState

RoundKey = tuple[str, int]
"""Plan digest and round."""


@dataclass(frozen=True, slots=True)
class Reached:
    rounds: tuple[RoundKey, ...]
    """That count, in the order of their registration; the figures are of the last."""
    pending: tuple[RoundKey, ...]
    """Rounds that would count and whose patients were asked for figures, which nobody registered or refused yet."""
    figure_micro: int | None
    subgroup_figures_micro: tuple[int | None, ...]
    limits: FigureLimits | None
    """Of these figures, where the terms ask for a confidence."""
    reported: tuple[str, ...]
    """Of those that conform and agreed, the sites whose update is in that model and whose patients are in its
    figures."""
    before_micro: int | None
    """The figure of the study's champion, else the best of its models from before the terms."""
    conforming: tuple[str, ...]
    """Sites whose source met, since the terms were published, the contract under which the newest model learned, with
    code that its plan approves; before there is one, and in the foundation, whose models learn from phantoms, any."""
    agreed: tuple[str, ...]
    """Sites that have every agreement of the terms on record."""
    missing_drills: tuple[str, ...]
    better_off: Answers | None
    """What sites answered of the newest model; None if its plan did not ask them."""

    @property
    def newest(self) -> RoundKey | None:
        return self.rounds[-1] if self.rounds else None

    @property
    def judged_micro(self) -> int | None:
        """What the terms hold against their bounds: the figure, or with a confidence its lower limit."""
        if self.limits is None:
            return self.figure_micro
        return None if self.limits.whole is None else self.limits.whole.low

    @property
    def subgroups_judged_micro(self) -> tuple[int | None, ...]:
        """The same of subgroups, for their floor."""
        if self.limits is None:
            return self.subgroup_figures_micro
        return tuple(None if one is None else one.low for one in self.limits.subgroups)


def reached(state: FederationState, opened: Opened) -> Reached:
    terms, told = opened.terms, state.rollout
    sites = [site.name for site in state.founded().sites()]
    agreed = tuple(
        site for site in sites if all((site, kind) in told.agreements for kind in terms.agreements)
    )
    rounds = counted_rounds(state, opened)
    newest = state.plans[rounds[-1][0]].plan if rounds else None
    conforming = tuple(
        site for site in sites if conforms(state, site, None if terms.phase == PHASES[0] else newest)
    )
    evaluated = state.evaluated.get(rounds[-1]) if rounds else None
    figured = _in_figures(state, rounds[-1]) if rounds else frozenset()
    return Reached(
        rounds=rounds,
        pending=_pending(state, opened),
        figure_micro=None if evaluated is None else evaluated.figure_micro,
        subgroup_figures_micro=() if evaluated is None else evaluated.subgroup_figures_micro,
        limits=None
        if evaluated is None or terms.confidence is None
        else figure_limits(state, *rounds[-1], terms.confidence),
        reported=tuple(site for site in conforming if site in agreed and site in figured),
        before_micro=_figure_before(state, opened),
        conforming=conforming,
        agreed=agreed,
        missing_drills=tuple(
            one for one in terms.drills if one not in told.drills or told.drills[one].index < opened.index
        ),
        better_off=answers_of(state, *rounds[-1]) if rounds else None,
    )


def counted_rounds(state: FederationState, opened: Opened) -> tuple[RoundKey, ...]:
    """Of the study's models that were registered under plans published since the terms, in order."""
    return _registered(state, opened, since=True)


def source_contract(plan: Plan) -> str:
    """Names what a source conforms to. The suite of `policies.contract` would not do: it knows neither the study,
    which a hospital has a source each for, nor which columns a table has."""
    return canonical.digest(canonical.encode({"study": plan.study, "data": plan.data.to_json()}))


def conforms(state: FederationState, site: str, plan: Plan | None = None) -> bool:
    """Its source met this plan's contract since the terms were published, with code that the plan approves; of None,
    whichever contract it said."""
    opened, found = state.rollout.opened, state.rollout.conformance.get(site)
    if opened is None or found is None or found[0] <= opened.index:
        return False
    said = found[1]
    return plan is None or (
        said.contract_digest == source_contract(plan) and said.code_digest in plan.code_digests
    )


def began(state: FederationState, opened: Opened) -> bool:
    """A plan of the study was published since the terms."""
    return any(
        published.plan.study == opened.terms.study and state.published_at[digest] > opened.index
        for digest, published in state.plans.items()
    )


def _in_figures(state: FederationState, key: RoundKey) -> frozenset[str]:
    """Who counts in both of a round's sums: whoever was left out of the second is not judged by its figures."""
    closed = state.closed.get((*key, "evaluation"))
    evaluated = frozenset(
        receipt.site
        for receipt in state.usable_receipts(*key, "evaluation")
        if closed is not None and receipt.entry_digest in closed.receipts
    )
    return state.reported(*key) & evaluated


def _figure_before(state: FederationState, opened: Opened) -> int | None:
    champion = state.rollout.champion(opened.terms.study)
    if champion is not None:
        return state.evaluated[champion.body.plan_digest, champion.body.round].figure_micro
    figures = [
        state.evaluated[key].figure_micro
        for key in _registered(state, opened, since=False)
        if key in state.evaluated
    ]
    return max((figure for figure in figures if figure is not None), default=None)


def _registered(state: FederationState, opened: Opened, *, since: bool) -> tuple[RoundKey, ...]:
    """Rounds of the study's registered models whose plans were published since the terms, or before them. What was
    learned of phantoms counts in the foundation alone."""
    return tuple(key for key in state.registered if _is_of(state, opened, key[0], since=since))


def _pending(state: FederationState, opened: Opened) -> tuple[RoundKey, ...]:
    """Else the figure of a model that came off badly could be kept from the gate."""
    refused = {key for key, verdict in state.verdicts.items() if not verdict.passed}
    return tuple(
        (plan_digest, number)
        for plan_digest, number, step in state.closed
        if step == "evaluation"
        and (plan_digest, number) not in refused
        and (plan_digest, number) not in state.registered
        and _is_of(state, opened, plan_digest, since=True)
    )


def _is_of(state: FederationState, opened: Opened, plan_digest: str, *, since: bool) -> bool:
    """Whether a plan is of the terms' study, and was published since them, or before."""
    published = state.plans.get(plan_digest)
    return (
        published is not None
        and published.plan.study == opened.terms.study
        and (opened.terms.phase == PHASES[0] or uses_patients(published.plan))
        and (state.published_at[plan_digest] > opened.index) == since
    )
