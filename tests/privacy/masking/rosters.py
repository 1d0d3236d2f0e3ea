"""Sites with masking keys, and the context of their sum, for tests of everything that is masked."""

from __future__ import annotations

from dataclasses import dataclass, replace

from privacy.masking.mask_secrets import MaskSecrets
from privacy.masking.pair_keys import MaskingKey, PairChains
from privacy.sum_context import Participant, Roster, SumContext

ORIGIN = "log.example/wardround"
STUDY = "chest"
PLAN = "7" * 64


@dataclass(frozen=True)
class Sites:
    """Named sites that have begun a plan together."""

    context: SumContext
    keys: dict[str, MaskingKey]
    chains: dict[str, PairChains]

    @property
    def names(self) -> tuple[str, ...]:
        return self.context.roster.names

    def secrets(self, name: str, *, context: SumContext | None = None) -> MaskSecrets:
        return self.chains[name].secrets(context or self.context)


def site_names(count: int) -> list[str]:
    return [f"site-{number:02d}" for number in range(count)]


def roster_of(keys: dict[str, MaskingKey]) -> Roster:
    return Roster(
        tuple(Participant(name=name, masking_key=key.public_bytes()) for name, key in sorted(keys.items()))
    )


def chains_of(name: str, key: MaskingKey, roster: Roster) -> PairChains:
    return PairChains.begin(key, name=name, roster=roster, origin=ORIGIN, study=STUDY, plan_digest=PLAN)


def sites(count: int, *, scheme: str = "masked", minimum_sites: int = 3) -> Sites:
    keys = {name: MaskingKey.generate() for name in site_names(count)}
    roster = roster_of(keys)
    context = SumContext(
        origin=ORIGIN,
        study=STUDY,
        plan_digest=PLAN,
        round=1,
        step="training",
        attempt=0,
        scheme=scheme,
        model_digest="a" * 64,
        minimum_sites=minimum_sites,
        roster=roster,
    )
    chains = {name: chains_of(name, key, roster) for name, key in keys.items()}
    return Sites(context=context, keys=keys, chains=chains)


def later(context: SumContext, *, rounds: int = 1) -> SumContext:
    return replace(context, round=context.round + rounds)
