"""What the coordinator computes, in its own process: sums of ciphertexts and what follows from opened sums.

No key that opens anything and no patient's data is ever here. Public test images may be scored in the clear.
"""

from __future__ import annotations

from pathlib import Path

import torch

from adapters.home import CoordinatorConfig, Home
from adapters.sources.discovery import open_source
from ledger.errors import CodedError
from policies.opening import histogram_lane_count
from policies.plan import Plan
from policies.receipt import Step
from privacy.ciphertext_frame import CiphertextFrame
from privacy.homomorphic import HomomorphicSum, SumRefusedError
from privacy.study_key import PublicContext
from tasks.aggregate import apply_sum, encoding_of, lanes_from_bytes
from tasks.score import exact_auc, patient_scores, score
from tasks.train import network, weights


class CoordinatorSession:
    def __init__(self, home: Path) -> None:
        torch.set_num_threads(1)
        self._home = Home(home)
        self._config = self._home.read(CoordinatorConfig)

    def initial_model(self, plan: Plan) -> bytes:
        return weights.to_bytes(network.initial(plan.network, plan.data.image, plan.seed))

    def check_update(self, plan: Plan, step: Step, update: bytes, public: bytes) -> str | None:
        """None if the update can be part of the sum, else the code of why not."""
        try:
            frame = CiphertextFrame.from_bytes(update)
            if frame.lane_count != self._lane_count(plan, step):
                raise SumRefusedError("the update has another number of lanes than the plan's network")
            scheme = self._scheme(plan, public)
            scheme.combine([update])
        except CodedError as error:
            return error.code
        return None

    def combine(self, plan: Plan, updates: list[bytes], public: bytes) -> bytes:
        """The encrypted sum, in the order given; nothing is decrypted."""
        return self._scheme(plan, public).combine(updates)

    def next_model(self, plan: Plan, base: bytes, opened: bytes, *, sites: int) -> tuple[bytes, int]:
        """The model that follows from an opened sum, and the sum's L2 norm in millionths."""
        start = weights.from_bytes(base, network.template(plan.network, plan.data.image))
        lanes = lanes_from_bytes(opened, count=self._lane_count(plan, "training"))
        norm_micro = encoding_of(plan).sum_norm_micro(lanes, sites=sites)
        return weights.to_bytes(apply_sum(start, lanes, plan=plan, sites=sites)), norm_micro

    def public_auc(self, plan: Plan, model: bytes) -> float | None:
        """AUC on the public test images, if the coordinator has some."""
        if self._config.public_test is None:
            return None
        source = open_source(
            self._config.public_test.kind,
            self._home.resolve(self._config.public_test.path),
            site="public-test",
            secret=b"public images need no secret",
        )
        cohort = source.load(plan.data)
        module = network.build(plan.network, plan.data.image)
        network.load(module, weights.from_bytes(model, network.template(plan.network, plan.data.image)))
        labels = (cohort.labels == plan.data.labels[1]).astype(int)
        return exact_auc(*patient_scores(score(module, cohort.images), labels, cohort.patients))

    def _scheme(self, plan: Plan, public: bytes) -> HomomorphicSum:
        return HomomorphicSum(PublicContext.from_bytes(public), encoding_of(plan).packing)

    def _lane_count(self, plan: Plan, step: Step) -> int:
        if step == "evaluation":
            return histogram_lane_count(plan.evaluation)
        shapes = network.template(plan.network, plan.data.image)
        return sum(tensor.size for tensor in shapes.values())
