"""The step `select`: a site's adapter gives its register under the plan's contract, and consent narrows it down.

Which consents are in force is asked in `adapters.consent.in_force`, at the moment of the call and again before every
step of training. Reading data lives in `adapters.sources`; judging it lives in `tasks.validate`.
"""

from __future__ import annotations

from adapters.sources.cohort import Cohort, CohortSource
from policies.data_contract import DataContract


def select(source: CohortSource, contract: DataContract, consenting: frozenset[bytes] | None) -> Cohort:
    """The site's cohort: its patients whose keys are in `consenting`.

    None stands for a site that takes its patients in on another basis than their own records, a waiver: everybody.
    Raises DataRefusedError (kind input) with everything that is wrong with the data, and PolicyViolation
    (consent.nobody) if nobody is left.
    """
    register = source.load(contract)
    return register if consenting is None else register.where(consenting)


class ReadOnce:
    """A source that keeps what it read, so that every round can select anew from the same register."""

    def __init__(self, source: CohortSource) -> None:
        self._source = source
        self._read: tuple[DataContract, Cohort] | None = None

    def load(self, contract: DataContract) -> Cohort:
        if self._read is None or self._read[0] != contract:
            self._read = (contract, self._source.load(contract))
        return self._read[1]
