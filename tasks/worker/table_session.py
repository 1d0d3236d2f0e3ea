"""A site's answer to joint statistics, in its own process: its table, who of it consents, and the noise.

Only protected bytes and digests return, and two counts for the site's own rules. Who consents is asked when the table
is read and again when its figures are made. A table that was read is answered from once: another draw of noise would
be another release. What the queries compute is `privacy.statistics_lanes`, the noise `privacy.statistics_noise`.
"""

from __future__ import annotations

from pathlib import Path

from adapters.clock import Clock, SystemClock
from adapters.consent.in_force import ConsentInForce
from adapters.consent.store import ConsentStore
from adapters.sources.table import PatientTable, read_table
from ledger.errors import InputError
from policies.consent import Terms
from policies.facts import uses_patients
from policies.inquiry import AnyPlan, Inquiry, table_digest
from privacy.packing import Lanes
from privacy.statistics_lanes import Table
from privacy.statistics_noise import StatisticsCapacityError, capacity, noised_lanes
from tasks.summing import SumTerms
from tasks.worker.sum_session import Prepared, Protected, SealedKey, SumSession


class NoTableError(InputError):
    code = "site.no-table"


class TableUsedError(InputError):
    code = "session.no-table"


class TableSession(SumSession):
    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self._clock: Clock = SystemClock()
        self._table: PatientTable | None = None
        self._table_consent: ConsentInForce | None = None

    def prepare_table(self, inquiry: Inquiry) -> Prepared:
        """Read the table under the inquiry's contract; raises with every fault of it, and where the inquiry's lanes
        have no room for its patients."""
        config = self._config.statistics
        if config is None:
            raise NoTableError(
                f"{self._config.name} has no table for statistics",
                remedy="Name one under `statistics` in institution.yaml.",
            )
        self._table = read_table(
            config,
            self._home.resolve(config.path),
            inquiry.table,
            site=self._config.name,
            secret=self._home.patient_secret(),
        )
        self._table_consent = self._consent_for(inquiry)
        # Now, while nothing is reserved: later it would cost the patients' budget and give nothing.
        if self.table_size()[1] > capacity(inquiry.queries, inquiry.packing):
            raise StatisticsCapacityError("the inquiry's lanes have no room for this site's patients")
        return Prepared(table_digest(inquiry.table))

    def table_size(self) -> tuple[int, int]:
        """(patients of the table, those of them who consent now). For the site's own rules."""
        table = self._unused()
        return len(table.keys), len(self._consenting(table).keys)

    def protect_figures(self, inquiry: Inquiry, terms: SumTerms, *, sealed: SealedKey | None) -> Protected:
        """Add up those who consent now, draw the noise, protect the sums; once for a table that was read."""
        table = self._unused()
        consenting = self._consenting(table)
        self._table = None
        report = self._report(inquiry, terms, self._figures(inquiry, consenting.rows()), sealed)
        return Protected(report.update, report.shares, self._commit(consenting.content_digest()))

    def _figures(self, inquiry: Inquiry, table: Table) -> Lanes:
        return noised_lanes(inquiry.queries, table, packing=inquiry.packing)

    def _unused(self) -> PatientTable:
        if self._table is None:
            raise TableUsedError("no table is read that was not answered from")
        return self._table

    def _consenting(self, table: PatientTable) -> PatientTable:
        if self._table_consent is None:
            raise TableUsedError("no table is read")
        return table.among(self._table_consent.keys(frozenset(table.keys)))

    def _consent_for(self, plan: AnyPlan) -> ConsentInForce:
        """Who may be taken in under the plan's terms, by the basis on which this site takes patients in."""
        asked = self._config.consent.basis == "records" and uses_patients(plan)
        terms = Terms(plan.consent.policy_version, plan.consent.purpose) if asked else None
        return ConsentInForce(ConsentStore.open(self._home), terms, self._clock)
