"""On what basis the sites of most tests take their patients in."""

from __future__ import annotations

from hashlib import sha256

from adapters.home import ConsentConfig
from policies.federation import ConsentPolicy

POLICY = ConsentPolicy(
    policy_version="2026-1",
    document_digest=sha256(b"what patients are given to read").hexdigest(),
    purposes=("research",),
    valid_from_s=0,
)
WAIVER = ConsentConfig(basis="waiver", policies=(POLICY,))
RECORDS = ConsentConfig(basis="records", policies=(POLICY,))
