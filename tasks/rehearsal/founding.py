"""Found a federation that is thrown away: invented patients, an empty MLflow store, nothing outside its folder."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path

from adapters.home import ConsentConfig, SourceConfig
from adapters.sources.invented import SIDE_PX, write_shard
from policies.federation import ConsentPolicy, Phase, Pool
from privacy.accounting import MICRO
from tasks.found import COORDINATOR, Founded, FoundingSite, found
from tasks.rollout.officers import default_officers, default_sign_offs

DELTA = 1e-5
PATIENTS = 200
CONSENT_POLICY = ConsentPolicy(
    policy_version="2026-1",
    document_digest="0" * 64,
    purposes=("research",),
    valid_from_s=0,
)
WAIVER = ConsentConfig(basis="waiver", policies=(CONSENT_POLICY,))
RECORDS = ConsentConfig(basis="records", policies=(CONSENT_POLICY,))


def invented_sources(
    root: Path,
    sites: tuple[str, ...],
    patients: Mapping[str, int] | None = None,
    *,
    width_px: int = SIDE_PX,
) -> dict[str, SourceConfig]:
    """A shard of small images for each site, of 200 patients where `patients` says nothing else."""
    sources = {}
    for number, name in enumerate(sites):
        shard = root / "data" / f"{name}.npz"
        write_shard(shard, patients=(patients or {}).get(name, PATIENTS), seed=number, width_px=width_px)
        sources[name] = SourceConfig(kind="npz", path=str(shard))
    return sources


def found_to_throw_away(
    root: Path,
    sources: Mapping[str, SourceConfig],
    *,
    name: str = "rehearsal",
    epsilon_cap: float = 1e5,
    consent: ConsentConfig = WAIVER,
    model_families: tuple[str, ...] = ("Classifier",),
    phase: Phase = "pilot",
    token_module: Path | None = None,
) -> Founded:
    """Under `root`, with the officers of a rollout unless it is in the pilot as most are, and whatever a first round
    imports imported: none of it is to count towards a deadline."""
    sites = tuple(sources)
    officers = phase != "pilot"
    founded = found(
        root,
        tuple(FoundingSite(site, source, consent) for site, source in sources.items()),
        name=name,
        pool=Pool.of(epsilon_cap_micro=int(epsilon_cap * MICRO), delta=DELTA),
        token_module=token_module,
        model_families=model_families,
        phase=phase,
        officers=default_officers(sites, coordinator=COORDINATOR) if officers else (),
        sign_offs=default_sign_offs(len(sites)) if officers else (),
    )
    (founded.coordinator / "mlflow.db").write_bytes(_empty_lineage())
    return founded


@cache
def _empty_lineage() -> bytes:
    """An MLflow store without runs: its migrations take seconds, and every federation needs one."""
    for name in ("great_expectations", "monai.networks.nets.classifier", "opacus"):
        import_module(name)
    from adapters.lineage import Lineage

    tags = {"wardround.plan_digest": "0"}
    with tempfile.TemporaryDirectory(prefix="wardround-lineage-") as folder:
        Lineage.open(Path(folder), experiment="none", run_name="none", tags=tags, parameters={})
        return (Path(folder) / "mlflow.db").read_bytes()
