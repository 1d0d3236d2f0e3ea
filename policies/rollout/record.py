"""The rollout as the ledger tells it: a frozen part of the federation's state, folded from events.

Nothing is judged here (`policies.rollout.gate`). Indices tell what came before what: evidence from before an
incident, and rounds from before the terms, count for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from policies.federation import PHASES, Phase
from policies.rollout.statements import (
    Agreement,
    AgreementRecorded,
    ConformanceRecorded,
    Drill,
    DrillRecorded,
    IncidentReported,
    ModelPromoted,
    ModelRolledBack,
    PhaseAdvanced,
    PhaseMeasured,
    PhaseOpened,
    PhaseTerms,
)


@dataclass(frozen=True, slots=True)
class Opened:
    terms: PhaseTerms
    index: int
    entry_digest: str


@dataclass(frozen=True, slots=True)
class Measured:
    """The terms in force were found to be met, and nothing has happened since that would put it in doubt."""

    index: int
    entry_digest: str
    policy_digest: str


@dataclass(frozen=True, slots=True)
class Drilled:
    index: int
    report_digest: str


@dataclass(frozen=True, slots=True)
class Incident:
    institution: str
    index: int
    said: IncidentReported


@dataclass(frozen=True, slots=True)
class Ended:
    """A phase that ended: on what evidence, signed by whom."""

    index: int
    body: PhaseAdvanced


@dataclass(frozen=True, slots=True)
class Champion:
    """A model that officers let into the clinic: on what terms and evidence."""

    index: int
    terms: PhaseTerms
    body: ModelPromoted


@dataclass(frozen=True, slots=True)
class RolledBack:
    index: int
    body: ModelRolledBack


@dataclass(frozen=True, slots=True)
class Rollout:
    phase: Phase = PHASES[0]
    opened: Opened | None = None
    """The terms of the phase that is being worked on, if they are published."""
    measured: Measured | None = None
    """The newest measurement under these terms; an incident, however minor, takes it away."""
    agreements: Mapping[tuple[str, Agreement], str] = field(default_factory=dict)
    """(site, kind) → digest of the document."""
    conformance: Mapping[str, tuple[int, ConformanceRecorded]] = field(default_factory=dict)
    """Site → the newest that it said, and where."""
    drills: Mapping[Drill, Drilled] = field(default_factory=dict)
    """Drill → where it was last passed."""
    drill_reports: frozenset[str] = frozenset()
    """Digests of all that were ever recorded: each is of one drill, once."""
    incidents: tuple[Incident, ...] = ()
    ended: tuple[Ended, ...] = ()
    champions: Mapping[str, tuple[Champion, ...]] = field(default_factory=dict)
    """Study → its champions, of which the last is in force; who was rolled back is not among them."""
    rolled_back: tuple[RolledBack, ...] = ()

    def champion(self, study: str) -> Champion | None:
        """Of that study, in force."""
        return next(reversed(self.champions.get(study, ())), None)

    def went_back(self, study: str) -> RolledBack | None:
        """The rollback that is the newest word on the study's champion; None once a model was promoted since."""
        newest = next((one for one in reversed(self.rolled_back) if one.body.study == study), None)
        champion = self.champion(study)
        if newest is None or (champion is not None and champion.index > newest.index):
            return None
        return newest

    def after(
        self,
        body: PhaseOpened
        | AgreementRecorded
        | ConformanceRecorded
        | DrillRecorded
        | IncidentReported
        | PhaseMeasured
        | PhaseAdvanced
        | ModelPromoted
        | ModelRolledBack,
        *,
        institution: str,
        index: int,
        entry_digest: str,
    ) -> Rollout:
        match body:
            case PhaseOpened(terms=terms):
                return replace(self, opened=Opened(terms, index, entry_digest), measured=None)
            case PhaseMeasured(policy_digest=policy_digest):
                return replace(self, measured=Measured(index, entry_digest, policy_digest))
            case AgreementRecorded():
                had = {**self.agreements, (institution, body.kind): body.document_digest}
                return replace(self, agreements=had)
            case ConformanceRecorded():
                return replace(self, conformance={**self.conformance, institution: (index, body)})
            case DrillRecorded():
                drills = {**self.drills, body.drill: Drilled(index, body.report_digest)}
                return replace(self, drills=drills, drill_reports=self.drill_reports | {body.report_digest})
            case IncidentReported():
                return self._in_doubt(Incident(institution, index, body))
            case PhaseAdvanced():
                ended = (*self.ended, Ended(index, body))
                return replace(self, phase=body.phase, opened=None, measured=None, ended=ended)
            case ModelPromoted():
                return self._promoted(body, index)
            case ModelRolledBack():
                return self._rolled_back(body, index)

    def _promoted(self, body: ModelPromoted, index: int) -> Rollout:
        if self.opened is None:
            raise ValueError("a model is promoted under terms")
        study = self.opened.terms.study
        champions = (*self.champions.get(study, ()), Champion(index, self.opened.terms, body))
        return replace(self, opened=None, measured=None, champions={**self.champions, study: champions})

    def _rolled_back(self, body: ModelRolledBack, index: int) -> Rollout:
        left = self.champions.get(body.study, ())[:-1]
        while left and left[-1].body.model_digest != body.to:
            left = left[:-1]
        told = (*self.rolled_back, RolledBack(index, body))
        # Terms under which another model was to be no worse than it would now ask less: they are published anew.
        opened = self.opened
        if opened is not None and opened.terms.study == body.study:
            opened = None
        champions = {**self.champions, body.study: left}
        return replace(self, opened=opened, measured=None, champions=champions, rolled_back=told)

    def _in_doubt(self, incident: Incident) -> Rollout:
        # Officers see every incident: what they are to sign is measured after it.
        told = replace(self, incidents=(*self.incidents, incident), measured=None)
        match incident.said.severity:
            case "minor":
                return told
            case "major":
                # The work on this phase counts no more either: its terms are published anew.
                return replace(told, phase=PHASES[max(0, PHASES.index(self.phase) - 1)], opened=None)
            case "critical":
                return replace(told, phase=PHASES[0], opened=None)
