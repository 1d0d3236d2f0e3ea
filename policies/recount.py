"""The accounting done over: what every data pool has spent, from the ledger's raw events and nothing else.

`policies.state` keeps running sums while it folds; a mistake there would be on every machine that folds. This
module shares none of that code: it reads the JSON of `federation.founded`, `plan.published`, `inquiry.published`,
`budget.reserved` and `budget.spent`, prices each mechanism (`privacy.accounting`), and adds up what was not given
back. Both must agree to the micro-unit, and every total that an event claims must be the one found here.

A settlement gives back the mechanisms of the steps that it does not name as released: nothing of theirs was
ever built. Whether an event was allowed is `policies.admission`'s affair, its signatures `ledger.chain`'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from ledger.canonical import JsonValue
from ledger.errors import VerificationError
from ledger.event import parse_entry
from policies.cost import mechanisms_of
from policies.inquiry import AnyPlan, Inquiry
from policies.plan import Plan
from privacy import accounting
from privacy.accounting import ORDERS, Curve
from privacy.mechanisms import Mechanism, mechanism_from_json

_Key = tuple[str, str, int, int]


class RecountError(VerificationError):
    """An event of the ledger does not add up; `index` is the entry's."""

    code = "recount.mismatch"

    def __init__(self, message: str, *, index: int) -> None:
        super().__init__(f"entry {index}: {message}")
        self.index = index


@dataclass(frozen=True, slots=True)
class PoolTerms:
    """What a site said of its pool when it joined. `order` is the Rényi order at which the pool is counted."""

    epsilon_cap_micro: int
    delta: float
    order: int

    def epsilon_micro(self, spent: Curve) -> int:
        """Epsilon at the pool's delta and order, in micro-units; nothing spent is nothing."""
        if spent == Curve.zero():
            return 0
        return accounting.epsilon_micro_at(spent, self.delta, order=self.order)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    index: int
    released: tuple[str, ...]
    given_back: tuple[Mechanism, ...]
    epsilon_total_micro: int
    """The pool's total after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One reservation, and what became of it."""

    index: int
    plan_digest: str
    round_number: int
    attempt: int
    mechanisms: tuple[Mechanism, ...]
    """As they were reserved."""
    epsilon_total_micro: int
    """The pool's total when they were reserved."""
    settlement: Settlement | None = None

    @property
    def drawn(self) -> tuple[Mechanism, ...]:
        """What counts against the pool: all that was not given back."""
        kept = list(self.mechanisms)
        for mechanism in () if self.settlement is None else self.settlement.given_back:
            kept.remove(mechanism)
        return tuple(kept)


@dataclass(frozen=True, slots=True)
class PoolAccount:
    site: str
    terms: PoolTerms
    uses: tuple[Use, ...]

    @property
    def spent(self) -> Curve:
        return sum((accounting.total(use.drawn) for use in self.uses), Curve.zero())

    @property
    def epsilon_micro(self) -> int:
        return self.terms.epsilon_micro(self.spent)

    @property
    def mechanisms(self) -> tuple[Mechanism, ...]:
        """Everything that was drawn, in the ledger's order."""
        return tuple(mechanism for use in self.uses for mechanism in use.drawn)

    def to_json(self) -> dict[str, JsonValue]:
        """Whole numbers, and decimal fractions as text."""
        uses: list[JsonValue] = [self._use(use) for use in self.uses]
        rdp: list[JsonValue] = list(self.spent.rdp_micro)
        return {
            "site": self.site,
            "epsilon_cap_micro": self.terms.epsilon_cap_micro,
            "delta": decimal_text(self.terms.delta),
            "order": self.terms.order,
            "spent_rdp_micro": rdp,
            "spent_rdp_micro_at_order": self.spent.rdp_micro[ORDERS.index(self.terms.order)],
            "spent_epsilon_micro": self.epsilon_micro,
            "uses": uses,
        }

    def _use(self, use: Use) -> dict[str, JsonValue]:
        drawn = accounting.total(use.drawn)
        settled: JsonValue = None
        if use.settlement is not None:
            back: list[JsonValue] = [one.to_json() for one in use.settlement.given_back]
            settled = {
                "index": use.settlement.index,
                "released": list(use.settlement.released),
                "given_back": back,
                "pool_epsilon_micro_after": use.settlement.epsilon_total_micro,
            }
        mechanisms: list[JsonValue] = [one.to_json() for one in use.mechanisms]
        return {
            "index": use.index,
            "plan_digest": use.plan_digest,
            "round": use.round_number,
            "attempt": use.attempt,
            "mechanisms": mechanisms,
            "drawn_rdp_micro_at_order": drawn.rdp_micro[ORDERS.index(self.terms.order)],
            "pool_epsilon_micro_after": use.epsilon_total_micro,
            "settled": settled,
        }


@dataclass(slots=True)
class Recount:
    """The pools after the entries that were taken so far, in the ledger's order."""

    size: int = 0
    _terms: dict[str, PoolTerms] = field(default_factory=dict)
    _plans: dict[str, AnyPlan] = field(default_factory=dict)
    _uses: dict[_Key, Use] = field(default_factory=dict)
    _running: dict[str, Curve] = field(default_factory=dict)

    def take(self, entry: bytes) -> None:
        """Count one more entry; RecountError if it does not add up."""
        index, self.size = self.size, self.size + 1
        event = parse_entry(entry).event
        site, body = event.institution, event.body
        match event.type:
            case "federation.founded":
                self._found(index, body)
            case "member.admitted":
                self._admit(index, body)
            case "plan.published":
                plan = Plan.from_value(body.get("plan"), what="plan")
                self._plans[plan.content_digest()] = plan
            case "inquiry.published":
                inquiry = Inquiry.from_value(body.get("inquiry"), what="inquiry")
                self._plans[inquiry.content_digest()] = inquiry
            case "budget.reserved":
                self._reserve(index, site, body)
            case "budget.spent":
                self._settle(index, site, body)

    def accounts(self) -> tuple[PoolAccount, ...]:
        """Every pool, sorted by site. Summed anew from its uses, not from the totals kept while counting."""
        return tuple(
            PoolAccount(site, terms, tuple(use for key, use in self._uses.items() if key[0] == site))
            for site, terms in sorted(self._terms.items())
        )

    def _found(self, index: int, body: Mapping[str, JsonValue]) -> None:
        members = body.get("members")
        for member in members if isinstance(members, list) else []:
            if isinstance(member, dict):
                self._admit(index, member)

    def _admit(self, index: int, member: Mapping[str, JsonValue]) -> None:
        name, pool = member.get("name"), member.get("pool")
        if pool is None or not isinstance(name, str):
            return
        if not isinstance(pool, dict):
            raise RecountError("a pool is an object", index=index)
        delta = pool.get("delta")
        if isinstance(delta, bool) or not isinstance(delta, int | float):
            raise RecountError("a pool's delta is a number", index=index)
        self._terms[name] = PoolTerms(
            _integer(index, pool, "epsilon_cap_micro"), float(delta), _integer(index, pool, "order")
        )

    def _reserve(self, index: int, site: str, body: Mapping[str, JsonValue]) -> None:
        key, terms = self._key(index, site, body), self._terms.get(site)
        if terms is None:
            raise RecountError(f"{site} has no pool to draw on", index=index)
        if key in self._uses:
            raise RecountError("this attempt has reserved already", index=index)
        listed = body.get("mechanisms")
        mechanisms = tuple(mechanism_from_json(one) for one in (listed if isinstance(listed, list) else []))
        spent = self._running.get(site, Curve.zero()) + accounting.total(mechanisms)
        claimed = self._claimed(index, body, terms.epsilon_micro(spent))
        self._running[site] = spent
        self._uses[key] = Use(
            index=index,
            plan_digest=key[1],
            round_number=key[2],
            attempt=key[3],
            mechanisms=mechanisms,
            epsilon_total_micro=claimed,
        )

    def _settle(self, index: int, site: str, body: Mapping[str, JsonValue]) -> None:
        key = self._key(index, site, body)
        use, plan = self._uses.get(key), self._plans.get(key[1])
        if use is None or plan is None:
            raise RecountError("it settles what nobody reserved", index=index)
        if use.settlement is not None:
            raise RecountError("it settles a reservation that is settled", index=index)
        released = body.get("released")
        planned = plan.steps_of(key[2])
        steps = [step for step in planned if not isinstance(released, list) or step not in released]
        back = tuple(
            mechanism for step in steps for mechanism in mechanisms_of(plan, step, round_number=key[2])
        )
        settlement = Settlement(
            index=index,
            released=tuple(step for step in planned if step not in steps),
            given_back=back,
            epsilon_total_micro=0,
        )
        if Counter(back) - Counter(use.mechanisms):
            raise RecountError("it gives back what was never reserved", index=index)
        settled = replace(use, settlement=settlement)
        before = self._running[site] - accounting.total(use.mechanisms)
        spent = before + accounting.total(settled.drawn)
        claimed = self._claimed(index, body, self._terms[site].epsilon_micro(spent))
        self._running[site] = spent
        self._uses[key] = replace(use, settlement=replace(settlement, epsilon_total_micro=claimed))

    def _claimed(self, index: int, body: Mapping[str, JsonValue], found: int) -> int:
        if body.get("epsilon_total_micro") != found:
            raise RecountError(
                f"the pool's total is {found} micro-epsilon, which is not what the event says", index=index
            )
        return found

    def _key(self, index: int, site: str, body: Mapping[str, JsonValue]) -> _Key:
        digest = body.get("plan_digest")
        if not isinstance(digest, str):
            raise RecountError("it names no plan", index=index)
        return site, digest, _integer(index, body, "round"), _integer(index, body, "attempt")


def decimal_text(value: float) -> str:
    """A fraction of the ledger as plain decimal text, the shortest that reads back the same: 0.00001, not 1e-05."""
    return format(Decimal(repr(float(value))), "f")


def _integer(index: int, body: Mapping[str, JsonValue], name: str) -> int:
    value = body.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise RecountError(f"{name} is not a whole number", index=index)
    return value
