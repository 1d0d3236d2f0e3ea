"""Exporting a registered model from an institution's home, the coordinator's or a site's.

Only what is final on the ledger is exported, and only models that passed their gate. What an export consists of is
`exported`'s. Blocking.
"""

from __future__ import annotations

from pathlib import Path

from adapters import objects
from adapters.final_log import FinalLog
from adapters.home import Home
from ledger import canonical
from ledger.errors import InputError
from ledger.event import parse_entry
from policies.events import ModelRegistered
from tasks.coordinator.applied_card import applied_model_card
from tasks.model import exported
from tasks.model.exported import NetworkFile
from tasks.model.standing import card_files, exchange_of
from tasks.object_sizes import object_sizes


class NotRegisteredError(InputError):
    code = "model.not-registered"


def export_model(
    root: Path, target: Path, *, plan_digest: str | None = None, round_number: int | None = None
) -> NetworkFile:
    """Write a registered model of the home `root` to the new folder or zip `target`.

    `plan_digest` may be its beginning; by default the newest registered model of all, or of the plan. Raises
    NotRegisteredError, ExportExistsError, HomeError.
    """
    home = Home(root)
    exchange = exchange_of(home)
    final = FinalLog.read(home.federation, exchange)
    index, entry, registered = _newest(final, plan_digest, round_number)
    published = final.state.plans[registered.plan_digest]
    at_most_bytes = object_sizes(published.plan).model
    model = objects.load(exchange, registered.model_digest, at_most_bytes=at_most_bytes)
    card, card_text = card_files(applied_model_card(final.state, published, registered.round))
    about = NetworkFile(
        schema_version=2,
        study=published.plan.study,
        round=registered.round,
        plan_digest=registered.plan_digest,
        model_digest=registered.model_digest,
        network=published.plan.network,
        data=published.plan.data,
        card_digest=canonical.digest(card),
        card_text_digest=canonical.digest(card_text),
    )
    exported.write(
        {
            exported.MODEL: model,
            exported.PLAN: published.plan.canonical_bytes(),
            exported.NETWORK: about.canonical_bytes(),
            exported.PREPROCESSING: canonical.encode(exported.preprocessing(published.plan.data)),
            exported.CARD: card_text,
            exported.CARD_JSON: card,
            exported.ENTRY: entry,
            exported.PROOF: final.prove(index).encode(),
            exported.VKEY: f"{home.federation.log_vkey}\n".encode(),
        },
        target,
    )
    return about


def _newest(
    final: FinalLog, plan_digest: str | None, round_number: int | None
) -> tuple[int, bytes, ModelRegistered]:
    """(index, entry, what it says) of the newest registration that is asked for."""
    found: list[tuple[int, bytes, ModelRegistered]] = []
    for index, entry in final.entries():
        event = parse_entry(entry).event
        if event.type == "model.registered":
            body = ModelRegistered.from_value(event.body, what=event.type)
            if body.plan_digest.startswith(plan_digest or "") and round_number in (None, body.round):
                found.append((index, entry, body))
    plans = {body.plan_digest for _, _, body in found}
    if plan_digest is not None and len(plans) > 1:
        raise NotRegisteredError(
            f"{len(plans)} plans with registered models begin with {plan_digest[:64]!a}",
            remedy="Give more of the digest.",
        )
    if not found:
        raise NotRegisteredError(
            "no such model is registered on this ledger",
            remedy="A model is registered after it passed its gate: see `wardround ledger show`.",
        )
    return found[-1]
