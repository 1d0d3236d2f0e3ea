"""What a site computes, in its own process: everything that touches patients, and its keys.

Only protected bytes, digests, booleans and seconds return from here, and counts for the site's own rules and report;
the cohort, the model before protection and the exact scores stay. What may leave the *site* is decided by
`tasks.site.release` alone; who takes part at each moment is in `site_cohort`.
"""

from __future__ import annotations

import hashlib
import time
import traceback
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from adapters.consent.store import ConsentStore
from adapters.home import write_atomically
from adapters.sources.cohort import Cohort, CohortSource
from adapters.sources.discovery import open_source
from adapters.sources.stand_in import StandInSource
from ledger.canonical import JsonValue
from ledger.errors import CodedError, InputError
from policies.consent_tree import consent_root, ledger_secret
from policies.drift import PERFORMANCE, has_drifted
from policies.facts import uses_patients
from policies.plan import Plan
from privacy.drift import Level
from privacy.encoding import clip_coordinates, clip_l2
from privacy.error_feedback import ErrorFeedback
from privacy.noise import NoiseStream
from privacy.packing import Lanes
from privacy.randomised_response import respond
from privacy.support import gather
from tasks import progress
from tasks.aggregate import encode_counts, encoding_of, support_of
from tasks.own_figures import (
    exact_figures,
    head_of,
    is_at_least,
    judged,
    masked,
    one_class,
    scored,
    whole_figure,
)
from tasks.progress import Progress
from tasks.score import evaluation_counts, mask_counts
from tasks.site.calibration import keep_head
from tasks.site_noise import noised_update
from tasks.summing import SumTerms
from tasks.train import networks, weights
from tasks.train.device import device_of, precision_of
from tasks.train.examples import Examples
from tasks.train.local_only import train_local
from tasks.train.private import Running, clipped_update, train_private
from tasks.worker.sealed_checkpoint import SealedCheckpoint
from tasks.worker.site_cohort import SiteCohort
from tasks.worker.sum_session import Prepared as Prepared
from tasks.worker.sum_session import Protected as Protected
from tasks.worker.sum_session import SealedKey
from tasks.worker.table_session import TableSession


class NothingTrainedError(InputError):
    code = "protect.nothing-trained"


class DriftedError(CodedError):
    code = PERFORMANCE
    kind = "policy"


class SiteSession(TableSession):
    def __init__(self, home: Path) -> None:
        torch.set_num_threads(1)
        super().__init__(home)
        self._cohort: SiteCohort | None = None
        self._patients_by_round: dict[int, int] = {}
        self._trained_on: Cohort | None = None
        self._delta: npt.NDArray[np.float64] | None = None
        self._alone: tuple[str, torch.nn.Module] | None = None
        self._device = device_of(self._config.device)
        self._precision = precision_of(self._config.precision, self._device)

    # -- data ----------------------------------------------------------------------------------------------

    def prepare(self, plan: Plan) -> Prepared:
        """Select and validate; raises with every broken rule of the contract, NoSourceError without any data of
        the plan's study."""
        source: CohortSource = StandInSource(site=self._config.name)
        if uses_patients(plan):
            config = self._config.source_of(plan.study)
            source = open_source(
                config.kind,
                self._home.resolve(config.path),
                site=self._config.name,
                secret=self._home.patient_secret(),
                layout=config.table,
            )
        self._cohort = SiteCohort(source, plan.data, consent=self._consent_for(plan), tell=self._tell)
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

    def train(self, plan: Plan, base: bytes, round_number: int, attempt: int) -> float:
        """A round's private training from its model, or what a crash left of it, with those of its first patients who
        are still in the cohort; keeps the difference for `protect`. Returns seconds, for this site."""
        began = time.monotonic()
        checkpoints = self._checkpoint(plan, base, round_number, attempt)
        cohort = self._present().begin_round()
        cohort = cohort.among(checkpoints.began_with(cohort.keys))
        self._patients_by_round[round_number] = cohort.patient_count
        module = networks.loaded(plan.network, plan.data, self._weights(plan, base))
        running = Running(
            device=self._device,
            precision=self._precision,
            on_step=lambda done, total: self._tell("train", round_number, done, total),
            withdrawn=self._present().withdrawn_from(cohort),
            checkpoints=checkpoints,
        )
        work = train_private if plan.training.noise == "local" else clipped_update
        with NoiseStream() as noise:
            self._delta = work(
                module, _examples(cohort, plan), training=plan.training, noise=noise, running=running
            )
        self._trained_on = cohort
        return time.monotonic() - began

    def can_resume(self, plan: Plan, base: bytes, round_number: int, attempt: int) -> bool:
        """Whether a training of this attempt began here, from this model, and none of it left the site."""
        return self._checkpoint(plan, base, round_number, attempt).has_begun()

    def protect_update(
        self,
        plan: Plan,
        terms: SumTerms,
        base: bytes,
        previous: bytes | None,
        *,
        carried: int,
        sealed: SealedKey | None,
    ) -> Protected:
        """Compress, clip, encode and protect what `train` kept; once, so that no update is protected twice.

        `previous` is the model before the last round; `carried` the last round whose sum has this site's report.
        """
        delta, self._delta = self._delta, None
        if delta is None:
            raise NothingTrainedError("there is no update to protect")
        cohort = self._trained_on or self._present().train()
        if plan.noise_share is not None:
            return self._protected(plan, terms, noised_update(plan, delta), cohort, sealed)
        encoding, round_number = encoding_of(plan), terms.context.round
        start = self._weights(plan, base)
        before = None if previous is None else self._weights(plan, previous)
        chosen = support_of(plan, round_number, start, before)
        carry = None if chosen is None else self._carry(plan, carried, len(delta))
        whole = delta.astype(np.float32)
        if carry is not None:
            whole = carry.take(whole)
        sent = clip_l2(whole if chosen is None else gather(whole, chosen), plan.update.clip_l2)
        if encoding.bound < plan.update.clip_l2:
            clip_coordinates(sent, encoding.bound)
        with NoiseStream() as rounding:
            lanes = encoding.encode(sent, rounding)
        if carry is not None:
            carry.keep(whole, encoding.decode_sum(lanes, sites=1), chosen)
            self._residuals(plan.content_digest()).write(str(round_number), carry.to_bytes())
        return self._protected(plan, terms, lanes, cohort, sealed)

    def protect_evaluation(
        self,
        plan: Plan,
        terms: SumTerms,
        model: bytes,
        *,
        sealed: SealedKey | None,
        in_force: Level | None = None,
    ) -> Protected:
        """Score the held-out patients, add the declared noise to the histogram, and where the plan asks it the answer
        whether this site is better off; protect them. DriftedError if the noised histogram lies too far under the
        model `in_force`; of the exact one nothing is asked."""
        cohort = self._present().held_out()
        module = networks.loaded(plan.network, plan.data, self._weights(plan, model))
        kind = plan.evaluation.subgroups
        members = cohort.told_apart("sex" if kind == "none" else kind)
        with NoiseStream() as noise:
            if plan.data.target == "mask":
                found = masked(module, cohort, plan.data, self._device)
                counts = mask_counts(found, members, plan.evaluation, noise)
            else:
                scores, labels = scored(module, cohort, plan.data, self._device)
                counts = evaluation_counts(scores, labels, members, plan.evaluation, noise)
            # Of the noised counts, before anything else is drawn: what is withheld has no answer either.
            if has_drifted(counts, plan, in_force):
                raise DriftedError(
                    "the evaluation lies too far under the model in force",
                    remedy="Look at what feeds the source before asking the others to take the site back.",
                )
            asked = plan.evaluation.compare if plan.compares(terms.context.round) else None
            if asked is not None:
                answer = respond(self._is_better_off(plan, module, cohort), asked.epsilon, noise)
                counts = np.append(counts, np.int64(answer))
        return self._protected(plan, terms, encode_counts(plan, counts), cohort, sealed)

    def compare(self, plan: Plan, model: bytes) -> dict[str, JsonValue]:
        """What this site gains: its own model, trained alone, beside the federation's, on its own held-out
        patients, and the federation's under this site's calibration head, which is kept in its home. Exact figures:
        for the site's report, which never leaves it."""
        train, held_out = self._present().train(), self._present().held_out()
        module = self._trained_alone(plan, train)
        own = networks.extract(module)
        write_atomically(self._home.root / "local-only.safetensors", weights.to_bytes(own), mode=0o600)
        theirs = networks.loaded(plan.network, plan.data, self._weights(plan, model))
        digest = weights.digest(model)
        head = head_of(theirs, train, plan.data, device=self._device, model_digest=digest)
        if head is not None:
            keep_head(self._home, head)
        figures: dict[str, JsonValue] = {
            "local_only": exact_figures(module, held_out, plan.data, device=self._device),
            "federated": exact_figures(theirs, held_out, plan.data, device=self._device),
        }
        if head is not None:
            calibrated = exact_figures(theirs, held_out, plan.data, device=self._device, head=head)
            figures["federated_calibrated"] = calibrated
        return {
            "patients": float(train.patient_count + held_out.patient_count),
            "auc_local_only": whole_figure(figures["local_only"], "auc"),
            "auc_federated": whole_figure(figures["federated"], "auc"),
            "figures": figures,
            "one_class": [*one_class(plan.data, training=train, held_out=held_out)],
        }

    # -- within --------------------------------------------------------------------------------------------

    def _present(self) -> SiteCohort:
        if self._cohort is None:
            raise InputError("the cohort is not prepared", code="session.unprepared")
        return self._cohort

    def _trained_alone(self, plan: Plan, train: Cohort) -> torch.nn.Module:
        """This site's own model under the plan's terms; trained once, whoever asks for it first."""
        digest = plan.content_digest()
        if self._alone is None or self._alone[0] != digest:
            first = networks.initial(plan.network, plan.data, plan.seed)
            module = networks.loaded(plan.network, plan.data, first)
            with NoiseStream() as sampling:
                train_local(
                    module,
                    _examples(train, plan),
                    training=plan.training,
                    rounds=plan.rounds,
                    sampling=sampling,
                    running=Running(
                        device=self._device,
                        precision=self._precision,
                        on_step=lambda done, total: self._tell("compare", 0, done, total),
                        withdrawn=self._present().withdrawn_from(train),
                    ),
                )
            self._alone = (digest, module)
        return self._alone[1]

    def _is_better_off(self, plan: Plan, theirs: torch.nn.Module, held_out: Cohort) -> bool:
        """Whether the federation's model is at least as good as this site's own. The truth: for `respond` alone."""
        try:
            own = self._trained_alone(plan, self._present().train())
            return is_at_least(
                judged(theirs, held_out, plan.data, self._device),
                judged(own, held_out, plan.data, self._device),
            )
        except Exception:
            # Whatever failed, a training that diverged say, hangs on patients: who stayed away for it would tell.
            traceback.print_exc()
            return False

    def _protected(
        self, plan: Plan, terms: SumTerms, lanes: Lanes, cohort: Cohort, sealed: SealedKey | None
    ) -> Protected:
        report = self._report(plan, terms, lanes, sealed)
        return Protected(report.update, report.shares, self._commitment(cohort))

    def _carry(self, plan: Plan, carried: int, size: int) -> ErrorFeedback:
        """What this site did not send up to the round `carried`; nothing before the first."""
        digest = plan.content_digest()
        kept = self._residuals(plan.content_digest()).read(str(carried)) if carried else None
        if kept is None:
            return ErrorFeedback(size, plan_digest=digest, noise="local")
        return ErrorFeedback.from_bytes(kept, dimension=size, plan_digest=digest, noise="local")

    def _checkpoint(self, plan: Plan, base: bytes, round_number: int, attempt: int) -> SealedCheckpoint:
        return SealedCheckpoint(
            self._training_files(plan.content_digest()), f"{round_number}-{attempt}-{weights.digest(base)}"
        )

    def _commitment(self, cohort: Cohort) -> str:
        content = hashlib.sha256(b"".join(cohort.keys))
        content.update(cohort.inputs.tobytes())
        content.update(cohort.labels.tobytes())
        if cohort.masks is not None:
            content.update(cohort.masks.tobytes())
        return self._commit(content.digest())

    def _tell(self, step: str, round_number: int = 0, done: int = 0, total: int = 0) -> None:
        progress.tell(Progress(self._config.name, step, round_number, done, total))


def _examples(cohort: Cohort, plan: Plan) -> Examples:
    return Examples(cohort.inputs, cohort.targets(plan.data), cohort.patients)
