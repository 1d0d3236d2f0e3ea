"""On what an exported model stands: whose word it is that it passed its gate and was registered.

    by whom it is trusted        what is shown
    the key in the export        nothing: whoever made the export can have made the key
    the log's key                that the coordinator, whose key that is, signed a tree with the registration; not
                                 that anybody else saw it
    a tlog-policy file           that the registration is final: a quorum of witnesses cosigned it, and none does so
                                 before it judged every entry
    the federation's document    the same by the witnesses that the members named, and who registered the model
    an institution's home        the same, and that the model card is what the ledger says: it is derived again

That the files of an export belong together says `exported`; nothing here reads weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from adapters.exchange import DirectoryExchange
from adapters.final_log import FinalLog
from adapters.home import CoordinatorConfig, Home, HomeError, SiteConfig
from adapters.institution_log import policy_of
from ledger import checkpoint, proof
from ledger.canonical import JsonValue
from ledger.errors import InputError, VerificationError
from ledger.event import parse_entry
from ledger.policy import NO_QUORUM, Policy
from policies.federation import Federation
from tasks.coordinator.applied_card import applied_model_card, markdown
from tasks.model.exported import CARD, CARD_JSON, ENTRY, PROOF, VKEY, ExportedModel


class UnreadableFederationError(InputError):
    code = "federation.unreadable"


class RegistrarError(VerificationError):
    """The registration is on a final ledger and yet not one that this federation's coordinator signed."""

    code = "model.registrar"


class CardError(VerificationError):
    """The card says other than the ledger."""

    code = "model.card"


@dataclass(frozen=True, slots=True)
class Standing:
    index: int
    """Of the registration on the ledger."""
    origin: str
    trusted: str
    """By what it was verified, in words."""
    quorum: str | None
    """Whose cosignatures make it final, in words; None: not shown to be final."""
    registrar: str | None
    """Who registered it, if that was checked."""
    card: bool
    """Whether the card was derived again from the ledger."""

    @property
    def final(self) -> bool:
        return self.quorum is not None

    def to_json(self) -> dict[str, JsonValue]:
        return {
            "ledger_index": self.index,
            "ledger": self.origin,
            "trusted": self.trusted,
            "final": self.final,
            "quorum": self.quorum,
            "registered_by": self.registrar,
            "card_verified": self.card,
            "ok": self.final,
        }


def by_log_key(model: ExportedModel, vkey: str | None) -> Standing:
    """That the log signed it and no more; by the key inside the export if none is given."""
    own = model.files[VKEY].decode("utf-8", "replace").strip()
    parsed = proof.parse(model.files[PROOF])
    head = parsed.verify(model.files[ENTRY], log_vkey=vkey or own, policy=None)
    trusted = "the log's key inside the export" if vkey is None else "the log's key"
    return Standing(parsed.index, head.origin, trusted, None, None, False)


def by_policy(model: ExportedModel, policy: Policy, vkey: str | None) -> Standing:
    """That it is final by a quorum of these witnesses."""
    parsed = proof.parse(model.files[PROOF])
    head = parsed.verify(model.files[ENTRY], log_vkey=vkey, policy=policy)
    quorum = None if policy.quorum == NO_QUORUM else policy.describe()  # one that asks nobody shows nothing
    return Standing(parsed.index, head.origin, "the policy given", quorum, None, False)


def by_federation(model: ExportedModel, federation: Federation) -> Standing:
    """That it is final by the quorum of the federation's sites, and that its coordinator registered it."""
    # 1. The log's signature, the quorum's cosignatures and the inclusion.
    parsed, policy = proof.parse(model.files[PROOF]), policy_of(federation)
    head = parsed.verify(model.files[ENTRY], log_vkey=federation.log_vkey, policy=policy)
    # 2. The event is the coordinator's, of this very log.
    signed, coordinator = parse_entry(model.files[ENTRY]), federation.coordinator()
    if (signed.event.origin, signed.event.institution) != (federation.origin, coordinator.name):
        raise RegistrarError("the registration is not one of this federation's coordinator", remedy=_REMEDY)
    # 3. Its own signature. A key that came by rotation is not in the document: that it was in force at this index is
    #    what the witnesses verified before they cosigned.
    key = coordinator.key.verification_key()
    registrar = f"{coordinator.name}, by a later key than the document's, which the witnesses checked"
    if key.keyid in signed.keyids:
        signed.verify({key.keyid: key})
        registrar = coordinator.name
    trusted = f"the document of federation {federation.name}"
    return Standing(parsed.index, head.origin, trusted, policy.describe(), registrar, False)


def by_home(model: ExportedModel, root: Path) -> Standing:
    """As `by_federation`, under the document that this institution signed; and the card is the ledger's.

    The card is that of the checkpoint in the proof, so whoever exports from the same checkpoint writes the same one.
    """
    home = Home(root)
    federation = home.federation
    found = by_federation(model, federation)
    head, _ = checkpoint.parse(proof.parse(model.files[PROOF]).checkpoint)
    state = FinalLog.read(federation, exchange_of(home)).state_at(federation, head.size)
    published = None if state is None else state.plans.get(model.about.plan_digest)
    if state is None or published is None:
        raise CardError(
            "the export is of a later ledger than the one that this home sees",
            remedy="Wait until the home has caught up, or verify with --federation.",
            code="model.ledger-behind",
        )
    card = applied_model_card(state, published, model.about.round)
    if (model.files[CARD_JSON], model.files[CARD]) != card_files(card):
        raise CardError("the card is not what the ledger says of this model", remedy=_REMEDY)
    trusted = f"the home of a member of federation {federation.name}"
    return Standing(found.index, found.origin, trusted, found.quorum, found.registrar, True)


def exchange_of(home: Home) -> DirectoryExchange:
    """Whoever's home this is."""
    try:
        where = home.read(SiteConfig).exchange
    except HomeError as error:
        if error.code != "home.role":
            raise
        where = home.read(CoordinatorConfig).exchange
    return DirectoryExchange(home.resolve(where))


def card_files(card: dict[str, JsonValue]) -> tuple[bytes, bytes]:
    """(card.json, card.md) as an export has them."""
    return json.dumps(card, indent=1, ensure_ascii=False).encode(), markdown(card).encode()


def read_federation(path: Path) -> Federation:
    """The founding document from a file; UnreadableFederationError, MalformedDocumentError."""
    try:
        data = path.read_bytes()
    except OSError:
        raise UnreadableFederationError(
            f"cannot read the file {path}", remedy="Give a member's federation.json."
        ) from None
    return Federation.from_canonical(data, what="federation")


_REMEDY = "Export the model again; do not use this one."
