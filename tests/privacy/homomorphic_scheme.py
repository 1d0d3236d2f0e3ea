"""All ends of homomorphic sums, for the contract suite and for the tests of this scheme."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from privacy.homomorphic_sum import HomomorphicSum
from privacy.masking.mask_secrets import AnswerKeys, MaskSecrets
from privacy.protected_sum import ProtectedSum
from privacy.study_key import PublicContext, StudyKey
from privacy.sum_context import SumContext, colluding_of
from tests.privacy.masking.rosters import Sites, sites

if TYPE_CHECKING:  # the contract suite imports this module
    from tests.privacy.sum_contract import Ends, Terms


@cache
def study_key() -> StudyKey:
    """One key for all tests that do not need two."""
    return StudyKey.generate()


def public_of(key: StudyKey) -> PublicContext:
    return PublicContext.from_bytes(key.public_context())


class HomomorphicEnds:
    """Three in four sites hold the key, and f + 1 of them must open alike."""

    def __init__(self, told: Sites, *, masked: bool = True, key: StudyKey | None = None) -> None:
        self.told = told
        self.context: SumContext = told.context
        self.key = key or study_key()
        self.public = public_of(self.key)
        self.openings_required = colluding_of(len(told.names)) + 1
        self.holders = tuple(name for number, name in enumerate(told.names) if number % 4 != 2)
        self.masked = masked
        self._kept: dict[tuple[str, bytes], AnswerKeys] = {}

    def site(self, name: str, terms: Terms) -> HomomorphicSum:
        return HomomorphicSum(
            terms.context,
            terms.packing,
            terms.lane_count,
            public=self.public,
            holders=self.holders,
            openings_required=self.openings_required,
            name=name,
            key=self.key if name in self.holders else None,
            secrets=self._secrets(name, terms) if self.masked else None,
            masked=self.masked,
        )

    def coordinator(self, terms: Terms) -> ProtectedSum:
        return HomomorphicSum(
            terms.context,
            terms.packing,
            terms.lane_count,
            public=self.public,
            holders=self.holders,
            openings_required=self.openings_required,
            masked=self.masked,
        )

    def _secrets(self, name: str, terms: Terms) -> MaskSecrets | AnswerKeys:
        place = (name, terms.context.label("kept"))
        if place in self._kept:
            return self._kept[place]
        secrets = self.told.secrets(name, context=terms.context)
        self._kept[place] = secrets.answering()
        return secrets


@dataclass(frozen=True)
class Homomorphic:
    name: str = "homomorphic"
    largest: int = 20
    recovers: bool = True

    def ends(self, count: int) -> Ends:
        return HomomorphicEnds(sites(count, scheme="homomorphic"))
