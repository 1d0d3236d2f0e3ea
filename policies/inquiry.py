"""The inquiry: a plan of joint statistics, fixed and signed before any hospital's table is read.

What is asked is `privacy.statistics`; here is who is asked, about which columns, protected how and at which price. An
inquiry is one round of one step, and everything that a plan needs of the federation it needs too: the same approvals,
roster, reservations, receipts and closing carry it (`policies.rounds`). Bounds, edges and categories are constants
of it, as they would be a release of their own if they were taken from data. No table is read here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import Field, model_validator

from ledger import canonical
from ledger.errors import CodedError
from policies.document import Document, Name
from policies.plan import BasePlan, Plan
from privacy.packing import MAXIMUM_LANE_BITS, MAXIMUM_SITES, MINIMUM_LANE_BITS, Packing
from privacy.statistics import (
    AreaUnderCurve,
    Count,
    Histogram,
    Mean,
    Query,
    Sum,
    Variance,
    check_queries,
    lane_count,
)
from privacy.statistics_noise import capacity
from privacy.sum_context import Step

MAXIMUM_LANES = 2048
"""So many opened lanes fit one ledger entry together with the key holders' openings."""
MAXIMUM_ASKED = 100
"""So many mechanisms fit one reservation."""
MAXIMUM_BYTES = 40_000
"""So large an inquiry fits one ledger entry."""

Kind = Literal["number", "word"]
AskedQuery = Annotated[
    Count | Sum | Mean | Variance | Histogram | AreaUnderCurve, Field(discriminator="kind")
]


class Column(Document):
    """A column of every site's table, by the name that the inquiry has for it."""

    name: Name
    kind: Kind


class TableContract(Document):
    """What each site checks of its own table before it reserves anything; a site whose table fails says a code alone.
    There is one row a patient, always."""

    columns: Annotated[tuple[Column, ...], Field(max_length=200)] = ()
    minimum_patients: Annotated[int, Field(ge=1)]


class Inquiry(BasePlan):
    rounds: ClassVar[int] = 1
    steps: ClassVar[tuple[Step, ...]] = ("statistics",)
    robust: ClassVar[None] = None

    table: TableContract
    queries: Annotated[tuple[AskedQuery, ...], Field(min_length=1, max_length=MAXIMUM_ASKED)]
    lane_bits: Annotated[int, Field(ge=MINIMUM_LANE_BITS, le=MAXIMUM_LANE_BITS)] = MAXIMUM_LANE_BITS
    maximum_sites: Annotated[int, Field(ge=3, le=MAXIMUM_SITES)] = MAXIMUM_SITES

    def steps_of(self, round_number: int) -> tuple[Step, ...]:
        """Those of its one round; asked as of a plan that trains."""
        return self.steps

    @property
    def packing(self) -> Packing:
        """How the lanes lie in a protected sum."""
        return Packing(lane_bits=self.lane_bits, maximum_sites=self.maximum_sites)

    @property
    def minimum_patients(self) -> int:
        """The smallest table with which a site takes part."""
        return self.table.minimum_patients

    @property
    def noise_multiplier(self) -> float:
        """The least of its queries'."""
        return min(query.noise_multiplier for query in self.queries)

    @model_validator(mode="after")
    def _consistent(self) -> Inquiry:
        faults = [*self._column_faults()]
        try:
            check_queries(self.queries)
            if lane_count(self.queries) > MAXIMUM_LANES:
                faults.append(f"the queries fill more than {MAXIMUM_LANES} lanes")
            elif capacity(self.queries, self.packing) < self.table.minimum_patients:
                faults.append("the lanes have no room for table.minimum_patients; widen lane_bits")
        except CodedError as error:
            faults.append(error.public_message)
        if self.participation.minimum_sites > self.maximum_sites:
            faults.append("participation.minimum_sites exceeds maximum_sites")
        elif (self.participation.select or 0) > self.maximum_sites:
            faults.append("participation.select exceeds maximum_sites")
        if len(canonical.encode(self.to_json())) > MAXIMUM_BYTES:
            faults.append(f"an inquiry is at most {MAXIMUM_BYTES} bytes long")
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _column_faults(self) -> list[str]:
        kinds = {column.name: column.kind for column in self.table.columns}
        faults = []
        if len(kinds) != len(self.table.columns):
            faults.append("table.columns names a column twice")
        for query in self.queries:
            wanted = wanted_kind(query)
            for name in query.columns:
                if name not in kinds:
                    faults.append(f"the column {name} of the query {query.name} is not in table.columns")
                elif wanted not in (None, kinds[name]):
                    faults.append(f"the query {query.name} needs {name} to be a {wanted}")
        unused = sorted(kinds.keys() - {name for query in self.queries for name in query.columns})
        if unused:
            faults.append(f"no query asks for the columns {', '.join(unused)}")
        return faults


AnyPlan: TypeAlias = Plan | Inquiry
"""Whatever is approved, drawn on pools and summed as one plan."""


def wanted_kind(query: Query) -> Kind | None:
    """What the query's columns must be; None where either will do."""
    if isinstance(query, Count):
        return None
    return "word" if isinstance(query, Histogram) and query.categories else "number"


@lru_cache(maxsize=64)
def table_digest(contract: TableContract) -> str:
    """SHA-256 (hex) of the contract: which checks a receipt says that its table met."""
    return contract.content_digest()
