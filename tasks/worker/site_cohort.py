"""A site's patients during a run: who is trained on and who is held out, under the consent in force at each moment.

Consent is asked when the cohort is selected, again when a round begins (whoever consented since joins then, and the
contract is checked anew), before every step of training and before an evaluation. Within a round patients only leave,
also where its training is cut off and goes on later (`sealed_checkpoint`).
Its cost stays what was reserved and its rates stay what the plan says, whoever leaves. No learning lives here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from adapters.consent.in_force import ConsentInForce
from adapters.sources.cohort import Cohort, CohortSource
from policies.data_contract import DataContract
from tasks.select import ReadOnce, select
from tasks.validate import require, validate


class SiteCohort:
    def __init__(
        self,
        source: CohortSource,
        contract: DataContract,
        *,
        consent: ConsentInForce,
        tell: Callable[[str], None],
    ) -> None:
        """Select and validate; raises with everything that is wrong with the data or the contract.

        `tell` is given the name of each step as it begins.
        """
        self._source, self._contract = ReadOnce(source), contract
        self._register: frozenset[bytes] | None = None
        self._consent, self._tell = consent, tell
        self._select()

    @property
    def suite_digest(self) -> str:
        """The checks that the cohort passed."""
        return self._suite_digest

    def size(self) -> tuple[int, int]:
        """(patients of the register, those of them selected last). They stay at the site."""
        return self._source.load(self._contract).patient_count, self._selected.patient_count

    def begin_round(self) -> Cohort:
        """Whom the round may train on: selected and judged anew if somebody joined or left since the last time."""
        if self._permitted() & self._all() != frozenset(self._selected.keys):
            self._select()
        return self._train

    def train(self) -> Cohort:
        """Those selected for training who consent now, possibly nobody."""
        return self._still(self._train)

    def held_out(self) -> Cohort:
        """Those held out for evaluation who consent now, possibly nobody."""
        return self._still(self._held_out)

    def withdrawn_from(self, cohort: Cohort) -> Callable[[], npt.NDArray[np.int64]]:
        """What training asks before every step: patients of `cohort`, by number, who consent no more."""
        known = frozenset(cohort.keys)
        gone = np.zeros(0, np.int64)

        def withdrawn() -> npt.NDArray[np.int64]:
            nonlocal known, gone
            # The same object means the same answer.
            if (keys := self._permitted()) is not known:
                known = keys
                gone = np.flatnonzero([key not in keys for key in cohort.keys]).astype(np.int64)
            return gone

        return withdrawn

    def _select(self) -> None:
        self._tell("select")
        selected = select(self._source, self._contract, self._permitted())
        self._tell("validate")
        verdict = validate(selected, self._contract)
        require(verdict, self._contract)
        self._train, self._held_out = selected.split(self._contract.held_out_fraction)
        self._selected, self._suite_digest = selected, verdict.suite_digest

    def _still(self, cohort: Cohort) -> Cohort:
        return cohort.among(self._permitted())

    def _permitted(self) -> frozenset[bytes]:
        return self._consent.keys(self._all())

    def _all(self) -> frozenset[bytes]:
        """Keys of the whole register; one object, by which it is known again."""
        if self._register is None:
            self._register = frozenset(self._source.load(self._contract).keys)
        return self._register
