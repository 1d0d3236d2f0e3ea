"""Consents of invented patients: everybody of a site's source agrees, for demos and trials alone.

At a hospital, consents are taken in from where they were given (`wardround consent import`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from adapters.consent.store import ConsentStore
from adapters.home import ConsentConfig, Home, SiteConfig
from adapters.sources.discovery import open_source
from policies.consent import ConsentRecord
from policies.data_contract import DataContract
from policies.federation import ConsentPolicy
from policies.plan import ConsentTerms


def consent_config(document: Path, terms: ConsentTerms) -> ConsentConfig:
    """A site's basis for one version of a consent policy, named by the document that patients are given to read."""
    policy = ConsentPolicy(
        policy_version=terms.policy_version,
        document_digest=hashlib.sha256(document.read_bytes()).hexdigest(),
        purposes=(terms.purpose,),
        valid_from_s=0,
    )
    return ConsentConfig(basis="records", policies=(policy,))


def enrol(root: Path, contract: DataContract, terms: ConsentTerms, *, now_s: int) -> str:
    """Grant everybody's consent; the key of one patient of the training side, who may withdraw it later."""
    home = Home(root)
    config = home.read(SiteConfig)
    source = open_source(
        config.source.kind,
        home.resolve(config.source.path),
        site=config.name,
        secret=home.patient_secret(),
        layout=config.source.table,
    )
    cohort = source.load(contract)
    ConsentStore.open(home).add(
        (
            ConsentRecord(
                patient_key=key.hex(),
                policy_version=terms.policy_version,
                purposes=(terms.purpose,),
                granted_at_s=now_s,
            )
            for key in cohort.keys
        ),
        now_s=now_s,
    )
    return cohort.split(contract.held_out_fraction)[0].keys[0].hex()
