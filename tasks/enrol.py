"""Consents of invented patients: everybody of a site's source agrees, for demos and trials alone.

At a hospital, consents are taken in from where they were given (`wardround consent import`).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from pathlib import Path

from adapters.consent.store import ConsentStore
from adapters.home import ConsentConfig, Home, SiteConfig
from adapters.sources.discovery import open_source
from policies.consent import ConsentRecord
from policies.federation import ConsentPolicy
from policies.plan import ConsentTerms, Plan


def consent_config(document: Path, terms: ConsentTerms) -> ConsentConfig:
    """A site's basis for one version of a consent policy, named by the document that patients are given to read."""
    policy = ConsentPolicy(
        policy_version=terms.policy_version,
        document_digest=hashlib.sha256(document.read_bytes()).hexdigest(),
        purposes=(terms.purpose,),
        valid_from_s=0,
    )
    return ConsentConfig(basis="records", policies=(policy,))


def enrol(root: Path, plan: Plan, *, now_s: int) -> str:
    """Grant the consent that the plan asks for, for everybody in the site's source of its study; the key of one
    patient of the training side, who may withdraw it later.

    A site with several sources is enrolled once for each of their studies. A patient has one key in all of them: who
    agreed already is asked no second time, what else they agreed to under that version stays, and nobody who ever
    withdrew under it is asked again.
    """
    home = Home(root)
    config = home.read(SiteConfig)
    where = config.source_of(plan.study)
    source = open_source(
        where.kind,
        home.resolve(where.path),
        site=config.name,
        secret=home.patient_secret(),
        layout=where.table,
    )
    cohort = source.load(plan.data)
    store = ConsentStore.open(home)
    store.add(_asked(cohort.keys, plan.consent, store.records(), now_s=now_s), now_s=now_s)
    return cohort.split(plan.data.held_out_fraction)[0].keys[0].hex()


def _asked(
    keys: tuple[bytes, ...], terms: ConsentTerms, known: tuple[ConsentRecord, ...], *, now_s: int
) -> list[ConsentRecord]:
    """Grants of those who have not answered yet. The latest grant alone counts, so it repeats what earlier ones
    permit."""
    agreed, withdrawn = defaultdict[str, set[str]](set), set[str]()
    for record in known:
        if record.policy_version == terms.policy_version:
            agreed[record.patient_key].update(record.purposes)
            withdrawn |= {record.patient_key} if record.withdrawn_at_s is not None else set()
    return [
        ConsentRecord(
            patient_key=key.hex(),
            policy_version=terms.policy_version,
            purposes=tuple(sorted(agreed[key.hex()] | {terms.purpose})),
            granted_at_s=now_s,
        )
        for key in keys
        if key.hex() not in withdrawn and terms.purpose not in agreed[key.hex()]
    ]
