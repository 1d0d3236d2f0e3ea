"""What a run came to: read from the ledger and the reports, printed as tables or as one JSON object.

A site's own figures (its local-only model, its size) are read from its home because the demo plays every role;
between institutions nobody but the site sees them. Sizes are bucketed even so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from adapters.home import Home
from adapters.institution_log import read_state
from ledger.canonical import JsonValue
from ledger.errors import Violation
from policies.comparison import answers_of
from policies.gates import epsilon_text
from policies.state import FederationState
from privacy.accounting import MICRO
from tasks.own_figures import WHOLE

_BUCKETS = (20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


@dataclass(frozen=True, slots=True)
class Summary:
    out: Path
    plan_digest: str
    state: FederationState
    size: int
    root: str
    rounds: list[dict[str, JsonValue]]
    sites: dict[str, dict[str, JsonValue]]
    seconds: float

    @classmethod
    def read(cls, out: Path, plan_digest: str, *, seconds: float) -> Summary:
        coordinator = Home(out / "coordinator")
        state, root = read_state(coordinator)
        report = read_report(coordinator)
        sites = {
            member.name: read_report(Home(out / "sites" / member.name))
            for member in coordinator.federation.sites()
        }
        rounds = report.get("rounds")
        return cls(
            out=out,
            plan_digest=plan_digest,
            state=state,
            size=state.size,
            root=root,
            rounds=[item for item in rounds if isinstance(item, dict)] if isinstance(rounds, list) else [],
            sites=sites,
            seconds=seconds,
        )

    def epsilon_micro(self) -> dict[str, int]:
        federation = self.state.federation
        members = () if federation is None else federation.sites()
        return {
            member.name: member.pool.epsilon_micro(self.state.spent_by(member.name))
            for member in members
            if member.pool is not None
        }

    def training_seconds(self, round_number: object) -> float | None:
        """The slowest site's, as the sites measured it."""
        found = []
        for report in self.sites.values():
            seconds = report.get("training_seconds")
            value = seconds.get(str(round_number)) if isinstance(seconds, dict) else None
            if isinstance(value, int | float):
                found.append(float(value))
        return max(found, default=None)

    def to_json(self, violations: tuple[Violation, ...] = ()) -> str:
        """One line; see the README for the fields."""
        registered = self.registered()
        return json.dumps(
            {
                "rounds": [
                    {**item, "training_seconds": self.training_seconds(item.get("round"))}
                    for item in self.rounds
                ],
                "epsilon": {name: micro / MICRO for name, micro in self.epsilon_micro().items()},
                "patients_by_round": {
                    name: report["patients_by_round"]
                    for name, report in self.sites.items()
                    if "patients_by_round" in report
                },
                "ledger": {"origin": self.state.origin, "size": self.size, "root": self.root},
                "mlflow": registered,
                "plan_digest": self.plan_digest,
                "seconds": round(self.seconds, 3),
                "violations": [{"code": item.code, "message": item.message} for item in violations],
            }
        )

    @property
    def figure(self) -> str:
        """AUC, or Dice of a plan that learns masks."""
        published = self.state.plans.get(self.plan_digest)
        return "AUC" if published is None else published.plan.figure

    def registered(self) -> dict[str, JsonValue] | None:
        mine = [item for (digest, _), item in self.state.registered.items() if digest == self.plan_digest]
        if not mine:
            return None
        return {"run_id": mine[-1].run_id, "model": mine[-1].model_name, "version": mine[-1].version}

    def show(self, console: Console) -> None:
        for table in self.tables():
            console.print(table)
        registered = self.registered()
        console.print(f"ledger    {self.state.origin}, {self.size} entries", soft_wrap=True)
        console.print(f"          root {self.root}", soft_wrap=True)
        if registered is not None:
            console.print(
                f"mlflow    run {registered['run_id']}, model {registered['model']} version "
                f"{registered['version']} (candidate)",
                soft_wrap=True,
            )
        for line in (*self.better_off(), *self.withdrawals()):
            console.print(line, soft_wrap=True)
        console.print(f"\nLook next at ({self.seconds:.0f} s taken)")
        store = self.out / "coordinator"
        console.print(f"  the ledger    wardround ledger verify {self.out}", soft_wrap=True)
        for package in sorted((store / "evidence").glob("*.zip"))[-1:]:
            console.print(f"  the evidence  wardround evidence verify {package}", soft_wrap=True)
        console.print(
            f"  MLflow        mlflow ui --port 5000 --backend-store-uri sqlite:///{store / 'mlflow.db'}",
            soft_wrap=True,
        )
        console.print(
            f"  Prefect       PREFECT_HOME={store / 'prefect'} prefect server start --port 4200",
            soft_wrap=True,
        )

    def tables(self) -> tuple[Table, Table]:
        return self._site_table(), self.round_table()

    def better_off(self) -> Iterator[str]:
        """How many sites answered that they gain; told by those who were asked alone, as a sum."""
        for digest, number in self.state.evaluated:
            answers = answers_of(self.state, digest, number) if digest == self.plan_digest else None
            if answers is not None:
                yield f"gain      at least as good as a model of their own: {answers.text}"

    def withdrawals(self) -> Iterator[str]:
        """Where fewer patients took part in a later round than before. Exact figures of the site's own report."""
        for name, report in self.sites.items():
            trained = report.get("patients_by_round")
            counts = list(trained.items()) if isinstance(trained, dict) else []
            if len({count for _, count in counts}) > 1:
                shown = ", ".join(f"{count} in round {number}" for number, count in counts)
                yield f"consent   withdrawn at {name}: trained on {shown}*"

    def _site_table(self) -> Table:
        table = Table(title="Sites")
        figure = self.figure
        for heading in (
            "site",
            "patients",
            "ε spent",
            "cap",
            "δ",
            f"{figure} local*",
            f"{figure} federated*",
        ):
            table.add_column(heading, justify="left" if heading == "site" else "right")
        federation = self.state.federation
        spent = self.epsilon_micro()
        for member in () if federation is None else federation.sites():
            report, pool = self.sites[member.name], member.pool
            if pool is None:
                continue
            table.add_row(
                member.name,
                bucket(report.get("patients")),
                epsilon_text(spent[member.name]),
                f"{pool.epsilon_cap_micro / MICRO:g}",
                f"{pool.delta:g}",
                _figure(_own(report, "local_only", figure.lower())),
                _figure(_own(report, "federated", figure.lower())),
            )
        table.caption = "* on the site's own held-out patients; elsewhere only that site sees it"
        return table

    def round_table(self) -> Table:
        table = Table(title="Rounds")
        figure, of_labels = self.figure, self.figure == "AUC"
        public = ("AUC public test",) if of_labels else ()  # no model of masks is scored on public images
        for heading in (
            "round", *public, f"{figure} federated, noised", "reported", "missing", "seconds", "training s",
        ):  # fmt: skip
            table.add_column(heading, justify="left" if heading == "missing" else "right")
        for item in self.rounds:
            reported, missing = item.get("sites_reported"), item.get("sites_missing")
            table.add_row(
                str(item.get("round")),
                *((_figure(item.get("auc")),) if of_labels else ()),
                _figure(item.get(f"{figure.lower()}_federated")),
                str(len(reported)) if isinstance(reported, list) else "",
                ", ".join(f"{site} ({code})" for site, code in missing.items())
                if isinstance(missing, dict)
                else "",
                _figure(item.get("seconds"), digits=1),
                _figure(self.training_seconds(item.get("round")), digits=1),
            )
        return table


def bucket(count: object) -> str:
    """A patient count for people: never the number itself."""
    if not isinstance(count, int | float):
        return "–"
    below = [edge for edge in _BUCKETS if edge <= count]
    above = [edge for edge in _BUCKETS if edge > count]
    if not below:
        return f"< {above[0]}"
    return f"{below[-1]}–{above[0] - 1}" if above else f"≥ {below[-1]}"


def _own(report: dict[str, JsonValue], model: str, figure: str) -> JsonValue:
    """A figure of everybody in a site's own report."""
    value: JsonValue = report.get("figures")
    for key in (model, WHOLE, figure):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _figure(value: object, digits: int = 3) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "–"


def read_report(home: Home) -> dict[str, JsonValue]:
    try:
        value = json.loads(home.report.read_bytes())
    except FileNotFoundError:
        return {}
    return value if isinstance(value, dict) else {}
