"""Conformance: a contract suite that a site runs against its own source, before anybody trains on it.

    opens            the adapter reads all of it under the plan's contract
    <contract>       every check of the contract (`policies.contract`), by name
    cohort           enough patients who consent, for the plan and the hospital's own policy; both sides of the split
    headers, columns, names    no direct identifier, by explicit lists (`adapters.sources.identifiers`)
    canaries         marked items leave no mark (`tasks.rollout.canaries`)

All of it stays at the site: the ledger gets `conformance.recorded` if everything passed, and nothing if not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adapters.clock import SystemClock
from adapters.consent.in_force import ConsentInForce
from adapters.consent.store import ConsentStore
from adapters.home import Home, SiteConfig, SourceConfig
from adapters.sources import identifiers
from adapters.sources.cohort import Cohort
from adapters.sources.discovery import open_source
from ledger.errors import CodedError, InputError, PolicyViolation
from policies.code import running_code_digest
from policies.consent import Terms
from policies.facts import uses_patients
from policies.plan import Plan
from policies.rollout.reached import source_contract
from policies.rollout.statements import ConformanceRecorded
from policies.site_policy import cohort_violations
from tasks.rollout.canaries import canary_folder, leaking
from tasks.select import select
from tasks.validate import validate


class NoRegisterError(InputError):
    code = "conformance.phantoms"


@dataclass(frozen=True, slots=True)
class Check:
    """`found` is for the site's own people: a code, or where something was found, and how often."""

    name: str
    passed: bool
    found: str = ""


def conform(home: Home, config: SiteConfig, plan: Plan) -> tuple[Check, ...]:
    """Every check of the source of the plan's study, in order. What rests on a source that does not open is not
    asked. Raises NoRegisterError, and NoSourceError where the site has no data of the study."""
    if not uses_patients(plan):
        raise NoRegisterError(
            "this plan learns from phantoms: nothing of the site's own source is asked",
            remedy="Give a plan that the source is meant for.",
        )
    with canary_folder(home.root) as folder:
        return _checked(home, config, plan, folder)


def recorded(plan: Plan) -> ConformanceRecorded:
    """What a site says when every check passed."""
    return ConformanceRecorded(contract_digest=source_contract(plan), code_digest=running_code_digest())


def _checked(home: Home, config: SiteConfig, plan: Plan, folder: Path) -> tuple[Check, ...]:
    wanted = config.source_of(plan.study)
    source = home.resolve(wanted.path)
    secret = home.patient_secret()
    checks = [*_identifiers(home, config, wanted)]
    try:
        reader = open_source(wanted.kind, source, site=config.name, secret=secret, layout=wanted.table)
        register = reader.load(plan.data)
    except CodedError as error:
        codes = ", ".join(getattr(error, "codes", (error.code,)))
        return (Check("opens", False, codes), *checks)
    verdict = validate(register, plan.data)
    contract = (Check(f"contract: {name}", passed) for name, passed in verdict.checks)
    leaks = leaking(wanted, source, plan.data, site=config.name, secret=secret, folder=folder)
    return (
        Check("opens", True),
        *contract,
        Check("cohort", *_cohort(home, config, plan, register)),
        *checks,
        Check("canaries", not leaks, ", ".join(leaks)),
    )


def _identifiers(home: Home, config: SiteConfig, wanted: SourceConfig) -> tuple[Check, ...]:
    source, table = home.resolve(wanted.path), config.statistics
    statistics = None if table is None else (home.resolve(table.path), table)
    asked: tuple[tuple[str, Callable[[], int]], ...] = (
        ("no identifiers in headers", lambda: identifiers.in_headers(wanted, source)),
        ("no identifiers in columns", lambda: identifiers.in_columns(wanted, source, statistics)),
        ("no identifiers in file names", lambda: identifiers.in_names(source)),
    )
    found = [(name, count()) for name, count in asked]
    return tuple(Check(name, not count, f"{count} found" if count else "") for name, count in found)


def _cohort(home: Home, config: SiteConfig, plan: Plan, register: Cohort) -> tuple[bool, str]:
    asked = config.consent.basis == "records"
    terms = Terms(plan.consent.policy_version, plan.consent.purpose) if asked else None
    consenting = ConsentInForce(ConsentStore.open(home), terms, SystemClock()).keys(frozenset(register.keys))
    member = home.federation.member(config.name)
    try:
        cohort = select(_Read(register), plan.data, consenting)
        cohort.split(plan.data.held_out_fraction)
    except PolicyViolation as refused:
        return False, refused.code
    found = cohort_violations(
        plan,
        config.policy,
        site=config.name,
        pool_delta=0.0 if member is None or member.pool is None else member.pool.delta,
        register_patients=register.patient_count,
        cohort_patients=cohort.patient_count,
    )
    return not found, ", ".join(violation.code for violation in found)


@dataclass(frozen=True, slots=True)
class _Read:
    """A source that was read already."""

    register: Cohort

    def load(self, _: object) -> Cohort:
        return self.register
