"""What the folded state keeps of a receipt, and of the chain that a site's receipts make.

What a receipt says is `policies.receipt`; whether it may stand, `policies.rounds`.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from policies.events import TrainingReceipt
from policies.receipt import FIRST_RECEIPT, Statement, Step


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt on the ledger. `entry_digest` names it in `round.closed`."""

    site: str
    index: int
    entry_digest: str
    body_json: bytes
    """The event's body, canonical. There are more receipts than of anything else, and few are ever read again: kept
    as objects, a million of them would cost more than all the rest of the state."""

    @property
    def statement(self) -> Statement:
        return TrainingReceipt.model_validate_json(self.body_json).statement


class Place(TypedDict):
    """What a receipt is about, of its predicate's fields."""

    plan_digest: str
    round: int
    step: Step
    receipt_sequence: int


class _Predicated(TypedDict):
    predicate: Place


class _Stated(TypedDict):
    statement: _Predicated


PLACED: TypeAdapter[_Stated] = TypeAdapter(_Stated)
"""Reads of a `TrainingReceipt` its place alone."""


@dataclass(frozen=True, slots=True)
class ReceiptChain:
    sequence: int = 0
    previous: str = FIRST_RECEIPT
