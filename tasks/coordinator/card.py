"""The model card of one round, as Markdown. Only what is on the ledger, so that it says nothing new about
patients: no counts, no exact site figures."""

from __future__ import annotations

from policies.cost import epsilon_micro
from policies.events import PlanPublished
from policies.gates import MICRO, epsilon_text
from policies.state import FederationState


def model_card(
    state: FederationState, published: PlanPublished, round_number: int, *, public_auc: float | None
) -> str:
    plan, digest = published.plan, published.plan_digest
    closed = state.closed[digest, round_number, "training"]
    sites = sorted(
        receipt.site for receipt in state.receipts.values() if receipt.entry_digest in closed.receipts
    )
    evaluated = state.evaluated[digest, round_number]
    auc = "not defined" if evaluated.auc_micro is None else f"{evaluated.auc_micro / MICRO:.3f}"
    federation = state.federation
    pools = {} if federation is None else {site.name: site.pool for site in federation.sites()}
    lines = [
        f"# {plan.study}, round {round_number}",
        "",
        "| | |",
        "|---|---|",
        f"| plan | `{plan.name}`, edition {plan.edition}, `{digest}` |",
        f"| model | `{state.released[digest, round_number].model_digest}` (safetensors) |",
        f"| network | MONAI {plan.network.name}, channels {', '.join(map(str, plan.network.channels))} |",
        f"| trained at | {', '.join(sites)} |",
        f"| missing | {', '.join(f'{gone.site} ({gone.code})' for gone in closed.missing) or 'none'} |",
        f"| federated AUC, held-out patients, noised | {auc} |",
        f"| AUC on public test images | {'not measured' if public_auc is None else f'{public_auc:.3f}'} |",
        f"| ledger | `{state.origin}` |",
        "",
        "## Privacy",
        "",
        "Patient-level differential privacy at each site, for everything of this federation that its patients "
        "were used for so far:",
        "",
        "| site | ε spent | δ |",
        "|---|---|---|",
    ]
    for name, pool in pools.items():
        if pool is not None:
            spent = epsilon_micro(state.spent_by(name), pool.delta)
            lines.append(f"| {name} | {epsilon_text(spent)} | {pool.delta:g} |")
    lines += [
        "",
        "A patient known to several sites is protected by the sum of their guarantees.",
        "",
        "## Intended use",
        "",
        "Research within the federation. Not a medical device; not validated for clinical use.",
        "",
    ]
    return "\n".join(lines)
