"""`wardround plan`: write a plan from an example, and check one before anybody runs it.

Nothing is signed or published here; that is `wardround coordinator run`. What a plan costs is computed by the
same integers that every site and witness uses (`policies.cost`).
"""

from __future__ import annotations

import itertools
import json as json_text
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from ledger.canonical import JsonValue
from ledger.errors import PolicyViolation, Violation
from policies.clusters import required_sites
from policies.code import running_code_digest
from policies.cost import epsilon_micro, plan_cost, plan_mechanisms, round_cost
from policies.gates import epsilon_text, lone_plan_violations
from policies.inquiry import AnyPlan, Inquiry
from policies.plan import Plan
from privacy import accounting
from privacy.accounting import MICRO, Curve
from privacy.statistics import lane_count
from tasks.planning import bundle_network, parse_either, read_either
from wardround.examples import EXAMPLES
from wardround.plan_file import PlanOptionError, write_new
from wardround.sweep import pick, sweep

DEFAULT_EXAMPLE = "chest-xray"
DRAFT = "plan.no-code"
"""A draft is warned of: it approves no code, and is never published."""

if TYPE_CHECKING:
    from wardround.network_description import NetworkDescription

app = App(name="plan", help="Write and check plans and inquiries; a CI build gates on `plan validate`.")
app.command(sweep)
app.command(pick)


@app.command
def examples() -> None:
    """List the plans to begin with."""
    table = Table()
    for heading in ("example", "what it is"):
        table.add_column(heading)
    for name, path in _examples().items():
        table.add_row(name, _first_comment(path.read_text()))
    Console(highlight=False).print(table)


@app.command
def new(
    *,
    example: Annotated[str, Parameter(name="--from", help="An example of `wardround plan examples`.")] = (
        DEFAULT_EXAMPLE
    ),
    out: Annotated[Path, Parameter(help="The file to write; never an existing one.")] = Path("plan.yaml"),
    name: Annotated[
        str | None, Parameter(help="Name of the plan: lower case, digits, hyphens. Else the example's.")
    ] = None,
    approve_code: Annotated[
        bool,
        Parameter(
            negative="--draft",
            help="Approve the code that is installed here. A draft approves none and is never published.",
        ),
    ] = True,
) -> None:
    """Write a commented plan to adapt."""
    found = _examples()
    if example not in found:
        raise PlanOptionError(
            f"there is no example {example!r}", remedy=f"Choose one of: {', '.join(found)}."
        )
    text = found[example].read_text()
    if name is not None:
        text = _with_line(text, "name", name)
    if approve_code:
        text = _with_line(text, "code_digests", f'["{running_code_digest()}"]')
    plan = parse_either(text)  # a bad --name is named before anything is written
    write_new(out, text)
    console = Console(highlight=False)
    state = "approves the code installed here" if plan.code_digests else "a draft: it approves no code"
    console.print(f"{out}: plan {plan.name}, {state}", soft_wrap=True)
    console.print(f"Adapt it, then: wardround plan validate {out}", soft_wrap=True)


@app.command
def validate(
    file: Path,
    /,
    *,
    epsilon_cap: Annotated[
        float | None, Parameter(help="Refuse a plan that costs more than this ε, whatever cap it names.")
    ] = None,
    sites: Annotated[
        int | None, Parameter(help="Number of hospitals of the federation it is meant for.")
    ] = None,
    tighter: Annotated[
        bool,
        Parameter(help="Show the tighter figure (PLD) beside ε, for people; takes seconds.", negative=""),
    ] = False,
    json: Annotated[bool, Parameter(help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Check a plan as a build would: exit 2 names every wrong field, exit 3 every rule that it breaks.

    Parameters
    ----------
    file
        The plan, as YAML.
    """
    if epsilon_cap is not None and not 0 < epsilon_cap <= 1e6:
        raise PlanOptionError("--epsilon-cap must be a positive number")
    if sites is not None and not 1 <= sites <= 1000:
        raise PlanOptionError("--sites must be 1 to 1000")
    plan = read_either(file)
    running = running_code_digest()
    warnings = []
    if not plan.code_digests:
        warnings.append(
            "a draft: it approves no code and will not be published (`wardround plan new` stamps it)"
        )
    elif running not in plan.code_digests:
        warnings.append(f"the code installed here is not approved by it: {running}")
    violations = _violations(plan, epsilon_cap, sites)
    description = None if isinstance(plan, Inquiry) else _network(plan)
    figure = _tighter(plan) if tighter else None
    per_round, total = round_cost(plan, plan.rounds), plan_cost(plan)
    if json:
        value: dict[str, JsonValue] = {
            "plan": plan.name,
            "digest": plan.content_digest(),
            "delta": plan.budget.delta,
            "epsilon_round": epsilon_micro(per_round, plan.budget.delta) / MICRO,
            "epsilon": epsilon_micro(total, plan.budget.delta) / MICRO,
            "order": accounting.best_order(total, plan.budget.delta),
            "epsilon_pld": figure,
            "epsilon_cap": plan.budget.epsilon_cap if epsilon_cap is None else epsilon_cap,
            "code_approved": running in plan.code_digests,
            "warnings": list(warnings),
            "network": None if description is None else description.to_json(),
            "violations": [{"code": item.code, "message": item.message} for item in violations],
        }
        Console(highlight=False).out(json_text.dumps(value), highlight=False)
    else:
        _show(plan, per_round, total, epsilon_cap, figure)
        if description is not None:
            description.show()
        errors = Console(stderr=True, highlight=False)
        for warning in warnings:
            errors.print(f"warning: {warning}", soft_wrap=True)
    if violations:
        raise PolicyViolation(violations)


@app.command
def bundle(folder: Path, /) -> None:
    """Print a MONAI bundle's network, and the lines by which a hospital approves both. Nothing of it is run.

    Parameters
    ----------
    folder
        The bundle.
    """
    network = bundle_network(folder)
    console = Console(highlight=False)
    console.print(f"# {network.name} {json_text.dumps(network.arguments)}", soft_wrap=True, markup=False)
    console.print("# into the hospital's institution.yaml:", soft_wrap=True)
    console.print(f'approved_bundles:\n  "{network.bundle}": "{network.class_digest}"', soft_wrap=True)


def _network(plan: Plan) -> NetworkDescription:
    """Builds it, which takes seconds; InputError where it cannot be built or not be private."""
    from wardround.network_description import describe

    return describe(plan)


def _violations(plan: AnyPlan, epsilon_cap: float | None, sites: int | None) -> list[Violation]:
    """What is wrong with the plan by itself; what a federation's ledger adds is asked when it is published."""
    found = [one for one in lone_plan_violations(plan, sites=sites) if one.code != DRAFT]
    cost = epsilon_micro(plan_cost(plan), plan.budget.delta)
    if epsilon_cap is not None and cost > int(epsilon_cap * MICRO):
        costs = f"the plan costs ε={epsilon_text(cost)} at δ={plan.budget.delta:g}"
        found.append(Violation("budget.epsilon-cap", f"{costs}, over the cap of {epsilon_cap:g} given here"))
    if sites is not None and sites < len(plan.participation.required):
        needed = f"the plan requires {len(plan.participation.required)} sites by name"
        found.append(Violation("plan.unknown-site", f"{needed}, the federation has {sites}"))
    return found


def _tighter(plan: AnyPlan) -> float:
    from privacy.loss_distribution import pld_epsilon

    return pld_epsilon(plan_mechanisms(plan), plan.budget.delta)


def _show(
    plan: AnyPlan, per_round: Curve, total: Curve, epsilon_cap: float | None, tighter: float | None
) -> None:
    delta = plan.budget.delta

    def cost(curve: Curve) -> str:
        order = accounting.best_order(curve, delta)
        return f"ε={epsilon_text(epsilon_micro(curve, delta))} at δ={delta:g} (Rényi order {order})"

    console = Console(highlight=False)
    table = Table(show_header=False)
    table.add_row("plan", f"{plan.name}, study {plan.study}, edition {plan.edition}")
    if isinstance(plan, Inquiry):
        table.add_row("queries", ", ".join(query.name for query in plan.queries))
    else:
        table.add_row("rounds", f"{plan.rounds}, of {plan.training.steps} steps at a site")
        if plan.evaluations(plan.rounds) < plan.rounds:
            table.add_row("evaluated", f"every {plan.evaluation.every} rounds, and the last")
        if plan.evaluation.compare is not None:
            asked = f"ε={plan.evaluation.compare.epsilon:g} for one answer, at the last evaluation"
            table.add_row("who is better off", asked)
        table.add_row(
            "cost of a round" if plan.evaluation.compare is None else "cost of the last round",
            cost(per_round),
        )
        table.add_row("noise", _noise(plan))
    table.add_row("cost of all", cost(total))
    if tighter is not None:
        table.add_row("tighter (PLD)", f"ε={tighter:.3f}: for people, nothing is admitted by it")
    table.add_row(
        "cap", f"ε={plan.budget.epsilon_cap:g}" + (f", here {epsilon_cap:g}" if epsilon_cap else "")
    )
    selected = plan.participation.select
    least = f"at least {plan.participation.minimum_sites}"
    table.add_row("sites", least if selected is None else f"{selected} of those who approve, {least} report")
    table.add_row("sums", _sums(plan))
    console.print(table)
    console.print(f"digest {plan.content_digest()}", soft_wrap=True)
    console.print(f"code   {', '.join(plan.code_digests) or 'none: a draft'}", soft_wrap=True)


def _noise(plan: Plan) -> str:
    """The trust setting, in words."""
    share = plan.noise_share
    if share is None:
        return "local: each hospital's update is private by itself"
    return (
        f"distributed: private as a sum, as long as {share.shares} of at least "
        f"{plan.participation.minimum_sites} hospitals add their share and do not give it away"
    )


def _sums(plan: AnyPlan) -> str:
    """How what a site sends is hidden, and how much that is."""
    if isinstance(plan, Inquiry):
        return f"{plan.scheme}, {lane_count(plan.queries)} lanes of {plan.lane_bits} bits"
    words = [plan.scheme, f"lanes of {plan.update.lane_bits} bits"]
    if plan.compression is not None:
        words.append(f"{plan.compression.keep:.3g} of the coordinates")
    if plan.robust is not None:
        words.append(
            f"by cluster, {plan.robust.median} median, from {required_sites(plan.robust.hostile)} sites on"
        )
    return ", ".join(words)


def _examples() -> dict[str, Path]:
    return {path.stem: path for path in sorted(EXAMPLES.glob("*.yaml"))}


def _first_comment(text: str) -> str:
    """The first sentence of the comment that the file begins with."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    return " ".join(line.lstrip("# ").rstrip() for line in lines).partition(". ")[0].rstrip(".")


def _with_line(text: str, field: str, value: str) -> str:
    """The YAML with one top-level field set in place, its comments kept; appended if it is not there."""
    line = f"{field}: {value}"
    pattern = re.compile(
        rf"^{field}:[^#\n]*?(?P<rest>\s*(#.*)?)$(?P<nested>(\n[ \t]+\S.*|\n- .*)*)", re.MULTILINE
    )
    if not pattern.search(text):
        return f"{text.rstrip()}\n{line}\n"
    return pattern.sub(lambda match: line + match.group("rest"), text, count=1)
