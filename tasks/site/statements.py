"""Say what the site's people left to be said: agreements, conformance, incidents.

Between steps, never within one: a release that is built and not sent yet carries the next number of the site's chain,
and whatever was said before it would make it void. An entry is kept before it is sent, so that nothing is said twice.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from adapters.home import HomeError
from adapters.unsaid import Unsaid
from ledger.errors import CodedError, PolicyViolation, Violation
from ledger.event import entry_digest, parse_entry
from policies.events import Body
from tasks.background import DeadlineError
from tasks.deadline import Deadline
from tasks.site.party import Site, opened_site
from tasks.step import step

TWICE = frozenset(("agreement.twice", "conformance.twice", "quarantine.twice", "quarantine.voted-twice"))
"""Said by a run that was cut off."""
_OUR_CHAIN = "ledger.chain."
_LOOK_S = 0.2


class NotSaidYetError(CodedError):
    code = "site.unsaid"


def has_unsaid(site: Site) -> bool:
    """Whether something waits that can be said now."""
    return bool(Unsaid(site.home.root).waiting()) and not _release_waits(site)


@step
async def say_unsaid(site: Site, *, wait_s: float | None = None) -> None:
    """Say it all, the oldest first; what the ledger refuses is kept for whoever wanted it said.

    With `wait_s` for that long in all: the rest stays kept. Else as long as the ledger is given for each.
    """
    unsaid, deadline = Unsaid(site.home.root), None if wait_s is None else Deadline(wait_s)
    for name in unsaid.waiting():
        if _release_waits(site) or (deadline is not None and not deadline.left_s()):
            return
        await _say(site, unsaid, name, timeout_s=None if deadline is None else deadline.left_s())


async def say_or_leave(home: Path, body: Body, *, wait_s: float) -> None:
    """Leave it to the run that has this home, or say it in a run of its own; return once it stands on the ledger.

    PolicyViolation if the ledger refuses it, NotSaidYetError if nobody came to say it: the next run will.
    """
    unsaid = Unsaid(home)
    name, deadline = unsaid.put(body), Deadline(wait_s)
    while name in unsaid.waiting() and deadline.left_s():
        try:
            async with opened_site(home) as site:
                await say_unsaid(site, wait_s=deadline.left_s())
        except HomeError as busy:
            if busy.code != "home.in-use":
                raise
            await asyncio.sleep(min(_LOOK_S, deadline.left_s()))
    refused = unsaid.refusal(name)
    if refused:
        raise PolicyViolation(refused)
    if name in unsaid.waiting():
        raise NotSaidYetError(
            f"it is not on the ledger after {wait_s:g} s; it is kept in {home / 'unsaid'}",
            remedy="The next run of the site says it, once the coordinator runs.",
        )


async def _say(site: Site, unsaid: Unsaid, name: str, *, timeout_s: float | None) -> None:
    entry = unsaid.entry(name)
    if entry is not None and _is_void(site, entry):
        unsaid.forget_entry(name)
        entry = None
    if entry is None:
        try:
            body = unsaid.read(name)
        except CodedError as error:  # a file that is none of ours must not keep the site from its rounds
            unsaid.refuse(name, (Violation(error.code, error.public_message),))
            return
        site.tell("say what was left to be said")
        entry = site.entry(body)
        unsaid.keep_entry(name, entry)
    try:
        await site.send(entry, timeout_s=timeout_s)
    except PolicyViolation as refused:
        codes = {violation.code for violation in refused.violations}
        if any(code.startswith(_OUR_CHAIN) for code in codes):
            # The log has more of this site's than its witness has seen yet; said anew once it has.
            unsaid.forget_entry(name)
        elif codes <= TWICE:
            unsaid.said(name)
        else:
            unsaid.refuse(name, refused.violations)
    except DeadlineError:
        site.keep_diagnostics("what was left to be said waits for the ledger")
    else:
        unsaid.said(name)


def _is_void(site: Site, entry: bytes) -> bool:
    """It is not on the ledger, and something else took its number."""
    if entry_digest(entry) in site.latest.indices:
        return False
    return parse_entry(entry).event.sequence < site.latest.chain.position(site.name)[0]


def _release_waits(site: Site) -> bool:
    """A release was built, and its receipt continues this site's chain: it comes first."""
    sequence, _ = site.latest.chain.position(site.name)
    return any(
        parse_entry(entry).event.sequence == sequence
        for plan_digest, entry in site.outbox.entries()
        if site.latest.published(plan_digest) is not None and not site.latest.is_over(plan_digest)
    )
