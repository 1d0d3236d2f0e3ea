"""A site's place in a plan's sums: the roster, the keys that follow from it, and the terms of each of its own sums.

Before any round the roster is awaited, pair keys are agreed on and, where sums are encrypted, the plan's key is made
by one of its holders. What the keys do is `tasks.worker.sum_session`; reporting is `tasks.site.contribute`, answering
`tasks.site.opening`.
"""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import Literal

from adapters import mail, objects
from adapters.exchange import ExchangeTooLargeError
from ledger import canonical
from ledger.errors import PolicyViolation
from policies.events import Published, SumKeyRotated
from policies.protection import groups_of, is_encrypted, roster_of
from policies.receipt import Step
from policies.state import FederationState
from privacy.sealing import SEALING_BYTES
from privacy.study_key import MAXIMUM_CONTEXT_BYTES
from tasks.background import DeadlineError
from tasks.site.party import Site, patience_s
from tasks.step import step
from tasks.summing import SumTerms, sum_terms
from tasks.worker.site_session import SiteSession
from tasks.worker.sum_session import SealedKey

TURN_S = 10.0
"""How long a key holder waits for the one before it to make the plan's key."""


@step
async def join_roster(site: Site, published: Published) -> bool:
    """Wait until the roster is final and agree on keys with it. False if the plan ended without one, or without this
    site."""
    digest = published.plan_digest
    site.tell("wait for the roster")

    def fixed(state: FederationState) -> tuple[str, ...] | Literal[False] | None:
        ended = any((digest, number) in state.verdicts for number in range(1, published.plan.rounds + 1))
        return state.rosters.get(digest) or (False if ended else None)

    names: tuple[str, ...] | Literal[False] = await site.until(
        fixed, timeout_s=patience_s(published.plan), waiting_for="the plan's roster"
    )
    if names is False or site.name not in names:
        return False
    await site.worker.call(
        SiteSession.begin_sums, published.plan, roster_of(site.state, digest), origin=site.state.origin
    )
    if is_encrypted(published.plan):
        await _agree_on_key(site, published)
    return True


@step
async def stand_by(site: Site, published: Published) -> None:
    """Witness a plan that this site is not selected for, to its end: a quorum may need it. Nothing is drawn, opened
    or trained. Ends too where nothing is said for as long as anybody may take."""
    digest = published.plan_digest
    with suppress(DeadlineError):
        while not site.state.is_over(digest):
            await site.until(
                partial(_grown, site.state.size),
                timeout_s=patience_s(published.plan),
                waiting_for="the plan's next word",
            )
    await leave_roster(site, published)


def _grown(seen: int, state: FederationState) -> bool | None:
    return state.size > seen or None


@step
async def leave_roster(site: Site, published: Published) -> None:
    """Forget the plan's keys, once it is final that no round of it is left; else a later run will."""
    if site.state.is_over(published.plan_digest):
        await site.worker.call(SiteSession.end_sums, published.plan_digest)


async def _agree_on_key(site: Site, published: Published) -> None:
    """The first holder in the roster makes the plan's key; the next one if it does not come, and so on."""
    digest = published.plan_digest
    roster = site.state.rosters[digest]
    holders = [name for name in site.federation.key_holders if name in roster]
    turn_s = time.monotonic() + TURN_S * holders.index(site.name) if site.name in holders else None

    def made_or_due(state: FederationState) -> bool | None:
        if digest in state.sum_keys:
            return True
        return False if turn_s is not None and time.monotonic() >= turn_s else None

    patience = patience_s(published.plan)
    if not await site.until(made_or_due, timeout_s=patience, waiting_for="the plan's key"):
        site.tell("make the plan's key")
        await _make_key(site, published, tuple(holders))


async def _make_key(site: Site, published: Published, holders: tuple[str, ...]) -> None:
    recipients = {
        member.name: member.sealing_key
        for member in site.federation.sites()
        if member.name in holders and member.sealing_key is not None
    }
    public, sealed = await site.worker.call(
        SiteSession.make_key, recipients, context=_key_context(site, published)
    )
    digest = canonical.digest(public)
    for name, secret in sealed.items():
        site.exchange.put(mail.sealed(digest, name), secret)
    objects.store(site.exchange, public)
    try:
        await site.say(
            SumKeyRotated(
                purpose="study-sum",
                study=published.plan.study,
                plan_digest=published.plan_digest,
                public_key_digest=digest,
            ),
            final=True,
        )
    except PolicyViolation as refused:
        if refused.code != "sum-key.twice":  # another holder was faster
            raise


def _key_context(site: Site, published: Published) -> bytes:
    """What the sealed key of a plan is bound to, so that it opens nowhere else."""
    return f"wardround/sum-key/v2\n{site.state.origin}\n{published.plan_digest}\n".encode()


def sealed_key(site: Site, published: Published) -> SealedKey | None:
    """The plan's secret key as it was sealed to this site; None where it holds none."""
    key = site.state.sum_keys.get(published.plan_digest)
    if key is None or site.name not in site.federation.key_holders:
        return None
    place = mail.sealed(key.public_key_digest, site.name)
    try:
        sealed = site.exchange.get(place, at_most_bytes=MAXIMUM_CONTEXT_BYTES + SEALING_BYTES)
    except ExchangeTooLargeError:  # no key of ours; as when there is none
        return None
    return None if sealed is None else SealedKey(sealed, _key_context(site, published))


def own_terms(
    site: Site, published: Published, round_number: int, kind: Step, *, model_digest: str
) -> SumTerms:
    """The terms of the sum that this site reports to; `model_digest` is that of the model it has in hand."""
    groups = groups_of(site.state, published.plan_digest, kind)
    return sum_terms(
        site.state,
        site.exchange,
        published,
        round_number,
        kind,
        model_digest=model_digest,
        group=next(number for number, group in enumerate(groups) if site.name in group),
    )
