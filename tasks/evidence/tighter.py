"""The tighter epsilon of every pool, from privacy loss distributions: for people, and never a part of the evidence.

Computed in floats by a library (`privacy.loss_distribution`), so two machines may differ in its last digit. A figure
that cannot be computed is left out rather than guessed.
"""

from __future__ import annotations

from ledger.errors import CodedError
from policies.recount import PoolAccount
from privacy.mechanisms import Mechanism


def tighter_figures(accounts: tuple[PoolAccount, ...]) -> dict[str, str]:
    """{site: epsilon to three digits, rounded up} at the pool's own delta. Seconds for each different account."""
    from privacy.loss_distribution import pld_epsilon

    known: dict[tuple[tuple[Mechanism, ...], float], str | None] = {}
    found: dict[str, str] = {}
    for account in accounts:
        key = account.mechanisms, account.terms.delta
        if key not in known:
            try:
                known[key] = f"{pld_epsilon(*key):.3f}"
            except CodedError:
                known[key] = None
        figure = known[key]
        if figure is not None:
            found[account.site] = figure
    return found
