"""The gate of a build: would this plan be admitted, judged without data, before anybody publishes it?

The rules are those that every site and witness asks (`policies.gates`); here is what a build must know besides: that
the code and the policy which run here are the approved ones, and what the ledger says of this very edition. Pure
functions of the folded state; reading files and ledgers, and saying the verdict, is `wardround.gate`'s affair.

What a build cannot know: a hospital's own policy and its steward's approval, its cohort, whether its data pass the
contract. An admitted plan can still be refused at a hospital.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import policies
from ledger.errors import Violation
from policies.code import policy_digest_of, running_code_digest, running_policy_digest
from policies.forecast import (
    PLAN,
    PoolOutlook,
    has_ended,
    nights_left,
    pool_outlooks,
    remaining_cost,
    violations_by_site,
)
from policies.gates import lone_plan_violations
from policies.plan import Plan
from policies.rego import Rules, installed_rules

if TYPE_CHECKING:
    from policies.state import FederationState

OWN_CODES: Final = ("plan.code", "policy.not-adopted", "plan.published-twice")
"""What is asked here beside the rules' decision `plan`; the last three need a ledger."""
_RULE: Final = re.compile(r'^(\w+) contains "([a-z0-9.-]+)"', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Running:
    """What runs here, and would run the plan: the code, the policy that judges, and its rules."""

    code_digest: str
    policy_digest: str
    rules: Rules

    @classmethod
    def installed(cls) -> Running:
        return cls(running_code_digest(), running_policy_digest(), installed_rules())

    @classmethod
    def with_rules(cls, folder: Path) -> Running:
        """This installation, were the rules in `folder` its own. RulesInvalidError if they cannot be loaded."""
        rules = Rules.load(folder)
        return cls(running_code_digest(), _policy_digest_with(folder), rules)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the gate found of one plan."""

    plan: Plan
    plan_digest: str
    found: Mapping[str, tuple[Violation, ...]]
    """Whom it concerns (`forecast.PLAN`, or a site) → every violation. A key for everything that was asked."""
    pools: tuple[PoolOutlook, ...]
    runs_left: int | None
    """How many runs of the plan every pool admits (`forecast.nights_left`)."""
    notes: tuple[str, ...]

    @property
    def violations(self) -> tuple[Violation, ...]:
        return tuple(violation for listed in self.found.values() for violation in listed)

    @property
    def admitted(self) -> bool:
        return not self.violations


def judge(plan: Plan, running: Running, state: FederationState | None, *, now_s: int) -> Judgement:
    """Every reason why the plan would not be admitted at `now_s` (Unix seconds; log time if that is later).

    Without `state` the plan alone is judged, in the most favourable federation that it could hope for: what is then
    refused is refused everywhere.
    """
    found, notes = [*_code(plan, running)], list[str]()
    if state is None or state.federation is None:
        found = [*lone_plan_violations(plan, rules=running.rules), *found]
        notes.append(
            "judged by itself: without a ledger nobody can know of budgets, consent, phase, quarantine, approvals, "
            "editions or the policy in force"
        )
        return Judgement(plan, plan.content_digest(), {PLAN: tuple(found)}, (), None, tuple(notes))
    costs = {member.name: remaining_cost(state, plan, member.name) for member in state.federation.sites()}
    asked = violations_by_site(
        state, plan, costs, log_time_s=max(now_s, state.log_time_s), rules=running.rules
    )
    found += [*_policy(state, running), *_edition(state, plan)]
    notes += [*_progress(state, plan), *_approvals(state, plan)]
    return Judgement(
        plan=plan,
        plan_digest=plan.content_digest(),
        found={site: (*listed, *(found if site == PLAN else ())) for site, listed in asked.items()},
        pools=pool_outlooks(state, plan),
        runs_left=nights_left(state, plan),
        notes=tuple(notes),
    )


def codes_of(sources: Mapping[str, str], decision: str) -> tuple[str, ...]:
    """The codes that a decision of these rules' sources can give, in the order in which they are written."""
    text = sources.get("decisions.rego", "")
    return tuple(dict.fromkeys(code for name, code in _RULE.findall(text) if name == decision))


def _code(plan: Plan, running: Running) -> list[Violation]:
    """A draft, which approves no code at all, is the rules' own affair."""
    if not plan.code_digests or running.code_digest in plan.code_digests:
        return []
    approved = ", ".join(digest[:16] for digest in plan.code_digests)
    return [
        Violation(
            "plan.code",
            f"the code that runs here, {running.code_digest}, is not approved by the plan, which approves {approved}",
        )
    ]


def _policy(state: FederationState, running: Running) -> list[Violation]:
    if running.policy_digest == state.policy_digest:
        return []
    votes = len(state.policy_votes.get(running.policy_digest, frozenset()))
    return [
        Violation(
            "policy.not-adopted",
            f"the policy that judges here, {running.policy_digest}, is not in force on the ledger, where "
            f"{state.policy_digest} is; {votes} of {len(state.founded().sites())} sites voted for it",
        )
    ]


def _edition(state: FederationState, plan: Plan) -> list[Violation]:
    if not has_ended(state, plan):
        return []
    return [
        Violation(
            "plan.published-twice",
            f"edition {plan.edition} of the plan is on the ledger already and is over; give it another edition",
        )
    ]


def _progress(state: FederationState, plan: Plan) -> list[str]:
    digest = plan.content_digest()
    if digest in state.plans:
        if has_ended(state, plan):
            return []
        done = sum((digest, number) in state.registered for number in range(1, plan.rounds + 1))
        return [
            f"edition {plan.edition} is on the ledger already, with {done} of {plan.rounds} rounds done: a run "
            "continues it, and the pools are asked for what it has still to draw"
        ]
    same = (plan.study, plan.name, plan.edition)
    if any((old.plan.study, old.plan.name, old.plan.edition) == same for old in state.plans.values()):
        return [
            f"another plan {plan.name} of edition {plan.edition} is on the ledger: this one differs from it, and is "
            "to be approved anew"
        ]
    return []


def _approvals(state: FederationState, plan: Plan) -> list[str]:
    """For information: stewards approve what is published."""
    digest = plan.content_digest()
    if digest not in state.plans:
        return ["not published yet: the hospitals' stewards approve it afterwards"]
    approved = state.approvals.get(digest, frozenset())
    names = [member.name for member in state.founded().sites()]
    said = ", ".join(name for name in names if name in approved) or "nobody"
    left = ", ".join(name for name in names if name not in approved)
    return [f"approved by {said}" + (f"; not yet by {left}" if left else "")]


def _policy_digest_with(folder: Path) -> str:
    """The policy digest of this installation with the rules of `folder` in place of its own."""
    package = Path(policies.__file__).parent
    with tempfile.TemporaryDirectory(prefix="wardround-policy-") as made:
        copied = Path(made) / "policies"
        shutil.copytree(package, copied, ignore=shutil.ignore_patterns("rules", "__pycache__"))
        (copied / "rules").mkdir()
        for path in sorted(folder.glob("*.rego")):
            shutil.copyfile(path, copied / "rules" / path.name)
        return policy_digest_of(Path(made))
