"""A hostile site that sends the worst a plain sum lets through, and what its lie would have done to a plain mean."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from adapters import objects
from adapters.exchange import DirectoryExchange
from adapters.sources.discovery import open_source
from adapters.sources.invented import write_shard
from policies.inquiry import AnyPlan
from policies.plan import Plan
from policies.state import FederationState
from privacy.packing import Lanes
from privacy.protected_sum import Report
from tasks.aggregate import aggregate, encoding_of, lanes_from_bytes, lanes_to_bytes
from tasks.rehearsal.cast import Cast
from tasks.score import exact_auc, patient_scores, score
from tasks.summing import SumTerms
from tasks.train import networks, weights
from tasks.worker.site_session import SiteSession
from tasks.worker.sum_session import SealedKey

CLIPS = 11
"""How long the lie is, in clips: the sum of twelve sites that clip may have the length of twelve."""
LAST_LAYER = ".final."
"""Within the names of its weights, in the network that rehearsals learn."""
_PATIENTS = 400
_SEED = 4711
_SECRET = b"invented patients need no secret"


class LyingSession(SiteSession):
    """Trains honestly, signs that it clipped, and sends the opposite of what its last layer learned, eleven clips
    long. Of that layer alone: turned round in two layers, signs would cancel, and the sum be harmed or not by chance.
    """

    def _report(self, plan: AnyPlan, terms: SumTerms, lanes: Lanes, sealed: SealedKey | None) -> Report:
        if isinstance(plan, Plan) and terms.context.step == "training":
            lanes = _reversed(plan, lanes)
        return super()._report(plan, terms, lanes, sealed)


def _reversed(plan: Plan, lanes: Lanes) -> Lanes:
    encoding, like = encoding_of(plan), networks.template(plan.network, plan.data)
    last = np.concatenate([np.full(like[name].size, LAST_LAYER in name) for name in sorted(like)])
    away = np.where(last, -lanes.astype(np.float64), 0.0)
    away *= CLIPS * plan.update.clip_l2 * encoding.scale / max(1.0, float(np.linalg.norm(away)))
    most = encoding.packing.site_limit
    return np.clip(np.rint(away), -most, most).astype(np.int32)


def figures_micro(cast: Cast, plan: Plan, state: FederationState, *, width_px: int) -> tuple[int, int]:
    """(AUC of the first round's model, AUC of the plain mean of the very same updates), on invented patients of no
    site, in millionths. `width_px`: where the label shows (`adapters.sources.invented`)."""
    digest = plan.content_digest()
    exchange = DirectoryExchange(cast.founded.exchange)
    released = state.released[digest, 1]
    closed = state.closed[digest, 1, "training"]
    data = objects.load(exchange, released.sum_digest)
    opened = lanes_from_bytes(data, count=len(data) // 4)
    base = objects.load(exchange, state.plans[digest].base_model_digest)
    sites = len(closed.receipts)
    size = sum(tensor.size for tensor in networks.template(plan.network, plan.data).values())
    total = opened.reshape(-1, size).sum(axis=0, dtype=np.int32)
    plain = aggregate(
        plan.with_fields({"robust": None}), 1, base, lanes_to_bytes(total), sizes=(sites,), previous=None
    )
    models = (objects.load(exchange, released.model_digest), plain.model)
    with_defence, without = (_auc_micro(plan, model, width_px=width_px) for model in models)
    return with_defence, without


def _auc_micro(plan: Plan, model: bytes, *, width_px: int) -> int:
    with tempfile.TemporaryDirectory(prefix="wardround-test-") as folder:
        path = Path(folder) / "test.npz"
        write_shard(path, patients=_PATIENTS, seed=_SEED, width_px=width_px)
        cohort = open_source("npz", path, site="nobody", secret=_SECRET, layout=None).load(plan.data)
    like = networks.template(plan.network, plan.data)
    module = networks.loaded(plan.network, plan.data, weights.from_bytes(model, like))
    found = exact_auc(
        *patient_scores(score(module, cohort.inputs), cohort.positives(plan.data), cohort.patients)
    )
    return 0 if found is None else round(found * 1_000_000)
