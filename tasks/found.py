"""Founding a federation on one machine: homes, keys, the document that all sign, the log's first entry.

For demos, tests and first trials (`wardround federation new`). Between real institutions each makes its own
keys and signs the same document, which no command does yet; what is written is the same. No data is read here.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from adapters.clock import Clock, SystemClock
from adapters.exchange import DirectoryExchange
from adapters.home import (
    ConsentConfig,
    CoordinatorConfig,
    Home,
    SiteConfig,
    SourceConfig,
    write_atomically,
)
from adapters.institution_log import create_log, create_witness, policy_of
from adapters.key_token import Purpose, TokenConfig
from adapters.officer import OfficerConfig
from ledger.cosignature import vkey_of as cosigner_vkey
from ledger.event import NO_PREVIOUS, Event, sign_event
from ledger.keys import Signer
from ledger.note import vkey_of
from policies.code import running_policy_digest
from policies.federation import (
    Federation,
    Member,
    Phase,
    Pool,
    PublicKey,
    SignOffRule,
    usual_key_holders,
)
from policies.site_policy import SitePolicy
from privacy.accounting import MICRO
from privacy.sealing import SealingKey
from tasks.rollout.officers import make_officers

COORDINATOR = "coordinator"
OFFICERS = "officers"
_SITE_PURPOSES: tuple[Purpose, ...] = ("signing", "witness")
_COORDINATOR_PURPOSES: tuple[Purpose, ...] = ("signing", "log")


@dataclass(frozen=True, slots=True)
class FoundingSite:
    """What a site brings: its name, where its data lie (of all studies, or by study; one of them at least), and on
    what basis its patients are taken in."""

    name: str
    source: SourceConfig | None
    consent: ConsentConfig
    sources: Mapping[str, SourceConfig] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Founded:
    federation: Federation
    coordinator: Path
    sites: dict[str, Path]
    exchange: Path
    officers: dict[str, Path]


def found(
    root: Path,
    sites: tuple[FoundingSite, ...],
    *,
    name: str,
    pool: Pool,
    phase: Phase = "pilot",
    consent_cadence_s: int = 86_400,
    public_test: SourceConfig | None = None,
    token_module: Path | None = None,
    model_families: tuple[str, ...] = ("Classifier",),
    officers: tuple[OfficerConfig, ...] = (),
    sign_offs: tuple[SignOffRule, ...] = (),
    clock: Clock | None = None,
) -> Founded:
    """Write `root/coordinator`, `root/sites/<name>`, `root/officers/<name>` and `root/exchange`; refuses what lies
    there already.

    `model_families` are the networks that the sites approve, by the names that plans have for them. `officers` sign
    that phases may end, as many of each role as `sign_offs` has (`tasks.rollout.officers` has defaults).

    With `token_module`, every key that signs is made on a PKCS #11 token that is labelled like its institution.
    """
    clock = clock or SystemClock()
    number = secrets.token_hex(8)
    origin = f"wardround/{name}/{number}/term-1"
    # The number in the labels: a token may serve several federations, also of one name.
    prefix = f"{name}-{number}"
    coordinator = Home(
        root / COORDINATOR, token=_token(token_module, COORDINATOR, _COORDINATOR_PURPOSES, prefix)
    )
    homes = {
        site.name: Home(
            root / "sites" / site.name, token=_token(token_module, site.name, _SITE_PURPOSES, prefix)
        )
        for site in sites
    }
    with ExitStack() as opened:
        for home in (coordinator, *homes.values()):
            opened.callback(home.close)
        # 1. Keys: each institution its own, one a purpose.
        signers = {COORDINATOR: _make_keys(coordinator, COORDINATOR)}
        log_signer = coordinator.make_signer("log", origin)
        members = [
            Member(name=COORDINATOR, role="coordinator", key=PublicKey.of(signers[COORDINATOR].public))
        ]
        for site in sites:
            home = homes[site.name]
            signers[site.name] = _make_keys(home, site.name)
            members.append(_make_site(home, site, signers[site.name], pool))

        # 2. The document, and the event that every member signs.
        federation = Federation(
            schema_version=1,
            name=name,
            origin=origin,
            log_vkey=str(vkey_of(origin, log_signer)),
            policy_digest=running_policy_digest(),
            phase=phase,
            consent_cadence_s=consent_cadence_s,
            members=tuple(members),
            key_holders=usual_key_holders([site.name for site in sites]),
            officers=make_officers(root / OFFICERS, officers),
            sign_offs=sign_offs,
        )
        founding = Event(
            origin=origin,
            type="federation.founded",
            institution=COORDINATOR,
            sequence=0,
            previous=NO_PREVIOUS,
            time_s=clock.now_s(),
            body=federation.body(),
        )
        entry = sign_event(founding, list(signers.values()))

        # 3. Configurations, witnesses, the log.
        exchange = root / "exchange"
        coordinator.write(
            CoordinatorConfig(
                role="coordinator",
                name=COORDINATOR,
                exchange="../exchange",
                public_test=public_test,
                token=coordinator.token,
            ),
            federation,
        )
        for site in sites:
            config = SiteConfig(
                role="site",
                name=site.name,
                exchange="../../exchange",
                source=site.source,
                sources=dict(site.sources),
                approval="automatic",
                policy=SitePolicy(
                    epsilon_cap=pool.epsilon_cap_micro / MICRO,
                    delta=pool.delta,
                    plan_epsilon_cap=pool.epsilon_cap_micro / MICRO,
                    model_families=model_families,
                ),
                consent=site.consent,
                token=homes[site.name].token,
            )
            homes[site.name].write(config, federation)
            create_witness(homes[site.name], federation, site.name)
        create_log(coordinator, federation, entry)
        published = DirectoryExchange(exchange)
        published.put("federation.json", federation.canonical_bytes())
        published.put("ledger/log.vkey", f"{federation.log_vkey}\n".encode())
        published.put("ledger/policy", policy_of(federation).serialise())
        return Founded(
            federation,
            coordinator.root,
            {name: home.root for name, home in homes.items()},
            published.root,
            {one.name: root / OFFICERS / one.name for one in officers},
        )


def _token(
    module: Path | None, institution: str, purposes: tuple[Purpose, ...], prefix: str
) -> TokenConfig | None:
    if module is None:
        return None
    return TokenConfig(
        module=str(module), label=institution, keys={purpose: f"{prefix}-{purpose}" for purpose in purposes}
    )


def _make_keys(home: Home, name: str) -> Signer:
    keys = home.root / "keys"
    keys.mkdir(parents=True, mode=0o700)
    if b"WARDROUND_PASSPHRASE" not in os.environb:
        write_atomically(keys / "passphrase", secrets.token_hex(32).encode(), mode=0o600)
    return home.make_signer("signing", name)


def _make_site(home: Home, site: FoundingSite, signer: Signer, pool: Pool) -> Member:
    name = site.name
    witness = home.make_signer("witness", name)
    sealing = SealingKey.generate()
    sealing.save(home.key("sealing"), home.passphrase)
    write_atomically(home.root / "keys" / "patient.secret", secrets.token_bytes(32), mode=0o600)
    return Member(
        name=name,
        role="site",
        key=PublicKey.of(signer.public),
        sealing_key=sealing.public_bytes().hex(),
        witness_vkey=str(cosigner_vkey(name, witness)),
        pool=pool,
        consent_policies=site.consent.policies,
    )
