"""Who signs that a phase may end, where nobody says otherwise; and their folders, where a federation is founded.

A data steward a site and three officers of the coordinator. To end a phase takes stewards of a quorum of the sites
and the compliance officer; to begin the clinical one, and to promote a model in it, the clinical lead and the
regulatory officer besides. Between institutions each names its own people, and nobody else ever holds their keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from adapters.officer import OfficerConfig, OfficerFolder
from ledger.policy import quorum
from policies.federation import PHASES, Officer, OfficerRole, PublicKey, SignOffRule

_LONGEST_NAME = 63
_FOR_THE_CLINIC = PHASES[-2:]
_OF_THE_COORDINATOR: tuple[OfficerRole, ...] = ("compliance-officer", "clinical-lead", "regulatory-officer")


def default_officers(sites: Sequence[str], *, coordinator: str) -> tuple[OfficerConfig, ...]:
    stewards = (
        OfficerConfig(name=_steward(site, number), role="data-steward", institution=site)
        for number, site in enumerate(sites, start=1)
    )
    others = (
        OfficerConfig(name=f"the-{role}", role=role, institution=coordinator) for role in _OF_THE_COORDINATOR
    )
    return (*stewards, *others)


def default_sign_offs(sites: int) -> tuple[SignOffRule, ...]:
    """For every phase; the last ends with a promotion."""
    return tuple(
        SignOffRule(phase=phase, role=role, signatures=count)
        for phase in PHASES
        for role, count in (
            ("data-steward", quorum(sites)),
            ("compliance-officer", 1),
            *((("clinical-lead", 1), ("regulatory-officer", 1)) if phase in _FOR_THE_CLINIC else ()),
        )
    )


def make_officers(root: Path, officers: Sequence[OfficerConfig]) -> tuple[Officer, ...]:
    """A folder `root/<name>` with a new key for each; as the founding document lists them."""
    return tuple(
        Officer(
            name=one.name,
            role=one.role,
            institution=one.institution,
            key=PublicKey.of(OfficerFolder(root / one.name).make(one).public),
        )
        for one in officers
    )


def _steward(site: str, number: int) -> str:
    name = f"steward-of-{site}"
    return name if len(name) <= _LONGEST_NAME else f"steward-{number}"
