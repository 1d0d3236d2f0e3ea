"""The step `select`: a site's adapter gives its cohort under the plan's contract.

Consent is not consulted yet: today the cohort is every patient of the source. The rules on consent, and the
consent state in force when a round starts, arrive with the consent ledger and will narrow the cohort here.
Reading data lives in `adapters.sources`; judging it lives in `tasks.validate`.
"""

from __future__ import annotations

from adapters.sources.cohort import Cohort, CohortSource
from policies.plan import DataContract


def select(source: CohortSource, contract: DataContract) -> Cohort:
    """The site's cohort. Raises DataRefusedError (kind input) with everything that is wrong with the data."""
    return source.load(contract)
