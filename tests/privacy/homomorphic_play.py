"""Steps of homomorphic sums in which every site reported, and what attackers make and read of the reports."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from privacy import homomorphic
from privacy.ciphertext_frame import PUBLIC_KEY, SEEDED, CiphertextFrame, Form
from privacy.packing import (
    PLAIN_MODULUS,
    Lanes,
    Packing,
    Slots,
)
from privacy.protected_sum import (
    Report,
)
from privacy.study_key import StudyKey
from tests.privacy.homomorphic_scheme import HomomorphicEnds, study_key
from tests.privacy.masking.rosters import sites
from tests.privacy.sum_contract import Played, Terms

PACKING = Packing(lane_bits=22, maximum_sites=50)
LIMIT = PACKING.site_limit
LANES = 8192
"""One ciphertext, full."""


def ends_of(count: int = 5, *, masked: bool = True, key: StudyKey | None = None) -> HomomorphicEnds:
    return HomomorphicEnds(
        sites(count, scheme="homomorphic" if masked else "homomorphic-unmasked"), masked=masked, key=key
    )


def played(
    count: int = 5, *, masked: bool = True, lane_count: int = LANES, ends: HomomorphicEnds | None = None
) -> Played:
    ends = ends or ends_of(count, masked=masked)
    terms = Terms(context=ends.context, packing=PACKING, lane_count=lane_count)
    generator = np.random.default_rng(count)
    lanes: dict[str, Lanes] = {
        name: generator.integers(-LIMIT, LIMIT + 1, lane_count, dtype=np.int32) for name in ends.told.names
    }
    return Played(ends, terms, lanes)


def plain_slots(step: Played, name: str) -> Slots:
    return step.terms.packing.pack(step.lanes[name]) % PLAIN_MODULUS


def read_by_a_holder(step: Played, name: str) -> Slots:
    """What somebody with the key reads in one site's update."""
    frame = CiphertextFrame.from_bytes(step.reports[name].update)
    return homomorphic.decrypt_sum(
        [frame.ciphertexts], study_key(), slot_count=PACKING.slots_for(step.terms.lane_count)
    )


def sending(step: Played, name: str, ciphertexts: tuple[bytes, ...]) -> dict[str, Report]:
    """The closed set in which `name` sent these ciphertexts, under its own header and with its own shares."""
    frame = CiphertextFrame.from_bytes(step.reports[name].update)
    form: Form = SEEDED if len(ciphertexts[0]) < 40_000 else PUBLIC_KEY
    crafted = replace(frame, form=form, ciphertexts=ciphertexts).to_bytes()
    return {**step.reports, name: replace(step.reports[name], update=crafted)}


def ciphertexts_of(step: Played, name: str) -> tuple[bytes, ...]:
    return tuple(bytes(one) for one in CiphertextFrame.from_bytes(step.reports[name].update).ciphertexts)


def opened(step: Played, closed: dict[str, Report]) -> Lanes:
    answers = {name: answer for name in closed if (answer := step.sites[name].answer(closed)) is not None}
    return step.ends.coordinator(step.terms).open(closed, answers)


def looks_uniform(slots: Slots) -> bool:
    """Chi-square over 64 equal parts of Z_t: 63 degrees of freedom, exceeded by a uniform one once in 10^6 (130)."""
    counts = np.bincount(slots * 64 // PLAIN_MODULUS, minlength=64)
    expected = len(slots) / 64
    return bool(((counts - expected) ** 2 / expected).sum() < 130)
