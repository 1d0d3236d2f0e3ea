"""What a site computes, in its own process: everything that touches patients, and its keys.

Only protected bytes, digests, booleans and seconds return from here, and counts for the site's own rules and report;
the cohort, the model before protection and the exact scores stay. What may leave the *site* is decided by
`tasks.site.release` alone; who takes part at each moment is in `site_cohort`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from adapters.clock import Clock, SystemClock
from adapters.consent.in_force import ConsentInForce
from adapters.consent.store import ConsentStore
from adapters.home import Home, SiteConfig, write_atomically
from adapters.sources.cohort import Cohort
from adapters.sources.discovery import open_source
from ledger.errors import CodedError, InputError
from policies.consent import Terms
from policies.consent_tree import consent_root, ledger_secret
from policies.plan import Plan
from privacy.encoding import clip_l2
from privacy.homomorphic import HomomorphicSum
from privacy.noise import NoiseStream
from privacy.packing import Lanes
from privacy.sealing import SealingKey, seal
from privacy.study_key import PublicContext, StudyKey
from tasks import progress
from tasks.aggregate import apply_sum, encoding_of, lanes_from_bytes, lanes_to_bytes
from tasks.progress import Progress
from tasks.score import evaluation_counts, exact_auc, patient_scores, score
from tasks.train import network, weights
from tasks.train.local_only import train_local
from tasks.train.private import train_private
from tasks.train.weights import Weights
from tasks.worker.site_cohort import SiteCohort


class SumMismatchError(CodedError):
    code = "opening.sum-mismatch"
    kind = "policy"


class NothingTrainedError(InputError):
    code = "protect.nothing-trained"


@dataclass(frozen=True, slots=True)
class Prepared:
    """That the cohort met its contract, and which checks were run."""

    suite_digest: str


@dataclass(frozen=True, slots=True)
class Protected:
    """A protected update and the commitment to the data behind it; the salt stays at the site."""

    update: bytes
    dataset_commitment: str


class SiteSession:
    def __init__(self, home: Path) -> None:
        torch.set_num_threads(1)
        self._home = Home(home)
        self._config = self._home.read(SiteConfig)
        self._sealing = SealingKey.load(self._home.key("sealing"), self._home.passphrase)
        self._clock: Clock = SystemClock()
        self._cohort: SiteCohort | None = None
        self._patients_by_round: dict[int, int] = {}
        self._trained_on: Cohort | None = None
        self._delta: npt.NDArray[np.float64] | None = None
        self._device = _device(self._config.device)

    # -- data ----------------------------------------------------------------------------------------------

    def prepare(self, plan: Plan) -> Prepared:
        """Select and validate; raises with every broken rule of the contract."""
        source = open_source(
            self._config.source.kind,
            self._home.resolve(self._config.source.path),
            site=self._config.name,
            secret=self._home.patient_secret(),
        )
        asked = self._config.consent.basis == "records"
        terms = Terms(plan.consent.policy_version, plan.consent.purpose) if asked else None
        consent = ConsentInForce(ConsentStore.open(self._home), terms, self._clock)
        self._cohort = SiteCohort(source, plan.data, consent=consent, tell=self._tell)
        return Prepared(self._cohort.suite_digest)

    def cohort_size(self) -> tuple[int, int]:
        """(patients of the register, those of them in the cohort). For the site's own rules and report."""
        return self._present().size()

    def begin_round(self) -> tuple[int, int]:
        """Select anew if consents changed, and `cohort_size` of what came of it; raises as `prepare` does."""
        self._present().begin_round()
        return self.cohort_size()

    def patients_trained(self) -> dict[int, int]:
        """How many patients each round's training began with, by round. For the site's own report."""
        return dict(self._patients_by_round)

    def consent_root(self, cadence: int) -> str:
        """The keyed root of the site's consents for that cadence; of none at all, if it keeps none."""
        records = ConsentStore.open(self._home).records()
        secret = ledger_secret(self._home.patient_secret(), self._home.federation.origin)
        return consent_root(records, secret=secret, cadence=cadence)

    # -- learning ------------------------------------------------------------------------------------------

    def train(self, plan: Plan, base: bytes, round_number: int) -> float:
        """DP-SGD from the round's model; keeps the difference for `protect`. Returns seconds, for this site."""
        began = time.monotonic()
        cohort = self._present().begin_round()
        self._patients_by_round[round_number] = cohort.patient_count
        start = self._weights(plan, base)
        module = network.build(plan.network, plan.data.image)
        network.load(module, start)
        with NoiseStream() as noise:
            train_private(
                module,
                cohort.images,
                _binary(cohort, plan),
                cohort.patients,
                training=plan.training,
                noise=noise,
                device=self._device,
                on_step=lambda done, total: self._tell("train", round_number, done, total),
                withdrawn=self._present().withdrawn_from(cohort),
            )
        trained = weights.flatten(network.extract(module)).astype(np.float64)
        self._delta = trained - weights.flatten(start).astype(np.float64)
        self._trained_on = cohort
        return time.monotonic() - began

    def protect_update(self, plan: Plan, public: bytes) -> Protected:
        """Clip, encode and encrypt what `train` kept; once, so that no update is protected twice."""
        delta, self._delta = self._delta, None
        if delta is None:
            raise NothingTrainedError("there is no update to protect")
        encoding = encoding_of(plan)
        with NoiseStream() as rounding:
            lanes = encoding.encode(clip_l2(delta, plan.update.clip_l2), rounding)
        return self._protected(plan, lanes, public, self._trained_on or self._present().train())

    def protect_evaluation(self, plan: Plan, model: bytes, public: bytes) -> Protected:
        """Score the held-out patients, add the declared noise to the histogram, encrypt it."""
        cohort = self._present().held_out()
        scores, labels = self._patient_scores(plan, self._weights(plan, model), cohort)
        with NoiseStream() as noise:
            counts = evaluation_counts(scores, labels, cohort.sexes(), plan.evaluation, noise)
        return self._protected(plan, encoding_of(plan).encode_counts(counts), public, cohort)

    def compare(self, plan: Plan, model: bytes) -> dict[str, float | None]:
        """What this site gains: its own model, trained alone, beside the federation's, on its own held-out
        patients. Exact figures: for the site's report, which never leaves it."""
        train, held_out = self._present().train(), self._present().held_out()
        module = network.build(plan.network, plan.data.image)
        network.load(module, network.initial(plan.network, plan.data.image, plan.seed))
        with NoiseStream() as sampling:
            train_local(
                module,
                train.images,
                _binary(train, plan),
                train.patients,
                training=plan.training,
                rounds=plan.rounds,
                sampling=sampling,
                device=self._device,
                on_step=lambda done, total: self._tell("compare", 0, done, total),
                withdrawn=self._present().withdrawn_from(train),
            )
        own = network.extract(module)
        write_atomically(self._home.root / "local-only.safetensors", weights.to_bytes(own), mode=0o600)
        local = exact_auc(*self._patient_scores(plan, own, held_out))
        federated = exact_auc(*self._patient_scores(plan, self._weights(plan, model), held_out))
        return {
            "patients": float(train.patient_count + held_out.patient_count),
            "auc_local_only": local,
            "auc_federated": federated,
        }

    # -- sums ----------------------------------------------------------------------------------------------

    def make_key(self, recipients: dict[str, str], *, context: bytes) -> tuple[bytes, dict[str, bytes]]:
        """A fresh study key: the public half, and the secret sealed to each recipient's X25519 key (hex)."""
        secret = StudyKey.generate()
        sealed = {
            name: seal(bytes.fromhex(public), secret.to_bytes(), context=context + name.encode())
            for name, public in recipients.items()
        }
        return secret.public_context(), sealed

    def open_sum(
        self, plan: Plan, updates: list[bytes], combined: bytes, sealed_key: bytes, *, context: bytes
    ) -> bytes:
        """Add up the closed set's updates; open the coordinator's sum only if it is the same, byte for byte."""
        secret = self._sealing.open(sealed_key, context=context + self._config.name.encode())
        key = StudyKey.from_bytes(secret)
        scheme = HomomorphicSum(
            PublicContext.from_bytes(key.public_context()), encoding_of(plan).packing, key=key
        )
        if scheme.combine(updates) != combined:
            raise SumMismatchError("the sum to open is not the sum of the closed set")
        return lanes_to_bytes(scheme.open(combined, sites=len(updates)))

    def initial_model(self, plan: Plan) -> bytes:
        return weights.to_bytes(network.initial(plan.network, plan.data.image, plan.seed))

    def next_model(self, plan: Plan, base: bytes, opened: bytes, *, sites: int) -> tuple[bytes, int]:
        """The model that follows from an opened sum and the sum's L2 norm in millionths, to be compared with what the
        coordinator released."""
        start = self._weights(plan, base)
        lanes = lanes_from_bytes(opened, count=sum(tensor.size for tensor in start.values()))
        norm_micro = encoding_of(plan).sum_norm_micro(lanes, sites=sites)
        return weights.to_bytes(apply_sum(start, lanes, plan=plan, sites=sites)), norm_micro

    # -- within --------------------------------------------------------------------------------------------

    def _present(self) -> SiteCohort:
        if self._cohort is None:
            raise InputError("the cohort is not prepared", code="session.unprepared")
        return self._cohort

    def _weights(self, plan: Plan, data: bytes) -> Weights:
        return weights.from_bytes(data, network.template(plan.network, plan.data.image))

    def _patient_scores(
        self, plan: Plan, model: Weights, cohort: Cohort
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        module = network.build(plan.network, plan.data.image)
        network.load(module, model)
        scores = score(module, cohort.images, self._device)
        return patient_scores(scores, _binary(cohort, plan), cohort.patients)

    def _protected(self, plan: Plan, lanes: Lanes, public: bytes, cohort: Cohort) -> Protected:
        scheme = HomomorphicSum(PublicContext.from_bytes(public), encoding_of(plan).packing)
        return Protected(scheme.protect(lanes), self._commitment(cohort))

    def _commitment(self, cohort: Cohort) -> str:
        """HMAC of the cohort under a fresh salt: an unchanged and a changed cohort look alike outside."""
        salt = os.urandom(32)
        content = hashlib.sha256(b"".join(cohort.keys))
        content.update(cohort.images.tobytes())
        content.update(cohort.labels.tobytes())
        commitment = hmac.new(salt, content.digest(), hashlib.sha256).hexdigest()
        record = {"commitment": commitment, "salt": salt.hex(), "content": content.hexdigest()}
        path = self._home.root / "commitments" / f"{commitment}.json"
        write_atomically(path, json.dumps(record).encode(), mode=0o600)
        return commitment

    def _tell(self, step: str, round_number: int = 0, done: int = 0, total: int = 0) -> None:
        progress.tell(Progress(self._config.name, step, round_number, done, total))


def _binary(cohort: Cohort, plan: Plan) -> npt.NDArray[np.int64]:
    """(n_images,) 0 or 1: whether the label is the contract's second."""
    positive: npt.NDArray[np.int64] = (cohort.labels == plan.data.labels[1]).astype(np.int64)
    return positive


def _device(wanted: str) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted
