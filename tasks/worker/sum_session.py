"""A site's end of protected sums, in its own process: its keys are here and in its encrypted files, nowhere else.

What goes into a sum is computed by `tasks.worker.site_session`, which this is a part of; when a site may answer, and
for which set, is `tasks.site.opening`.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from adapters.home import Home, SiteConfig, write_atomically
from adapters.masking_keys import MaskingKeys
from adapters.sealed_files import SealedFiles
from ledger.errors import CodedError
from policies.inquiry import AnyPlan
from policies.protection import is_encrypted, is_masked
from privacy.masking.mask_secrets import AnswerKeys, MaskSecrets
from privacy.masking.shares_part import BadShareError
from privacy.packing import Lanes
from privacy.protected_sum import Answer, ProtectedSum, Report
from privacy.sealing import SealingKey, seal
from privacy.shared_sum import SharesRefusedError
from privacy.study_key import StudyKey
from privacy.sum_context import Roster
from tasks.summing import SumSecrets, SumTerms, end_of
from tasks.worker.model_session import ModelSession


@dataclass(frozen=True, slots=True)
class SealedKey:
    """The secret key of a plan's sums, as it was sealed to this site, and what it is bound to."""

    sealed: bytes
    context: bytes


@dataclass(frozen=True, slots=True)
class Prepared:
    """That the site's data met their contract, and which checks were run."""

    suite_digest: str


@dataclass(frozen=True, slots=True)
class Protected:
    """A report (`privacy.protected_sum`) and the commitment to the data behind it; the salt stays at the site."""

    update: bytes
    shares: bytes
    dataset_commitment: str


@dataclass(frozen=True, slots=True)
class Complaint:
    """Why there is no answer: the shares that these sites dealt to this one are bad."""

    names: tuple[str, ...]


class SumSession(ModelSession):
    def __init__(self, home: Path) -> None:
        self._home = Home(home)
        self._config = self._home.read(SiteConfig)
        self._sealing = SealingKey.load(self._home.key("sealing"), self._home.passphrase)

    # -- keys ----------------------------------------------------------------------------------------------

    def announce(self, plan_digest: str) -> str:
        """The public key, hex, from which this site's pair keys of the plan will follow."""
        return self._masking(plan_digest).announce().hex()

    def begin_sums(self, plan: AnyPlan, roster: Roster, *, origin: str) -> None:
        """Agree on pair keys with the roster; once, and nothing where sums have no masks."""
        if is_masked(plan):
            keys = self._masking(plan.content_digest())
            keys.begin(self._config.name, roster, origin=origin, study=plan.study)

    def end_sums(self, plan_digest: str) -> None:
        """The plan is over: forget its keys, and what was not sent of this site's updates."""
        self._masking(plan_digest).forget()
        self._residuals(plan_digest).remove_all()
        self.forget_training(plan_digest)

    def forget_training(self, plan_digest: str) -> None:
        """Nothing goes on from where a training of the plan was cut off."""
        self._training_files(plan_digest).remove_all()

    def make_key(self, recipients: dict[str, str], *, context: bytes) -> tuple[bytes, dict[str, bytes]]:
        """A fresh key of a plan's sums: the public half, and the secret sealed to each recipient's X25519 key."""
        secret = StudyKey.generate()
        sealed = {
            name: seal(bytes.fromhex(public), secret.to_bytes(), context=context + name.encode())
            for name, public in recipients.items()
        }
        return secret.public_context(), sealed

    # -- one sum -------------------------------------------------------------------------------------------

    def released(self, plan: AnyPlan, terms: SumTerms) -> None:
        """The report is kept: its masks are never used again, and what it was trained from is not needed."""
        if terms.context.step == "training":
            self.forget_training(terms.context.plan_digest)
        if is_masked(plan):
            self._masking(terms.context.plan_digest).used(terms.context)

    def answer(
        self, plan: AnyPlan, terms: SumTerms, closed: Mapping[str, Report], sealed: SealedKey | None
    ) -> Answer | Complaint | None:
        """This site's answer for the closed set, None if the scheme wants none, or who keeps it from answering."""
        masks = (
            self._masking(terms.context.plan_digest).answer_keys(terms.context) if is_masked(plan) else None
        )
        try:
            return self._end(plan, terms, masks, sealed).answer(closed)
        except (BadShareError, SharesRefusedError) as error:
            return Complaint(error.names)

    def answered(self, plan: AnyPlan, terms: SumTerms) -> None:
        """The answer is kept: forget what made it."""
        if is_masked(plan):
            self._masking(terms.context.plan_digest).answered(terms.context)

    # -- within --------------------------------------------------------------------------------------------

    def _commit(self, content: bytes) -> str:
        """HMAC of the data's digest under a fresh salt: unchanged and changed data look alike outside."""
        salt = os.urandom(32)
        commitment = hmac.new(salt, content, hashlib.sha256).hexdigest()
        record = {"commitment": commitment, "salt": salt.hex(), "content": content.hex()}
        path = self._home.root / "commitments" / f"{commitment}.json"
        write_atomically(path, json.dumps(record).encode(), mode=0o600)
        return commitment

    def _report(self, plan: AnyPlan, terms: SumTerms, lanes: Lanes, sealed: SealedKey | None) -> Report:
        masks = self._masking(terms.context.plan_digest).secrets(terms.context) if is_masked(plan) else None
        return self._end(plan, terms, masks, sealed).protect(lanes)

    def _end(
        self,
        plan: AnyPlan,
        terms: SumTerms,
        masks: MaskSecrets | AnswerKeys | None,
        sealed: SealedKey | None,
    ) -> ProtectedSum:
        secrets = SumSecrets(
            name=self._config.name, masks=masks, key=self._key(plan, sealed), sealing=self._sealing
        )
        return end_of(plan, terms, secrets)

    def _key(self, plan: AnyPlan, sealed: SealedKey | None) -> StudyKey | None:
        if sealed is None or not is_encrypted(plan):
            return None
        try:
            opened = self._sealing.open(sealed.sealed, context=sealed.context + self._config.name.encode())
            return StudyKey.from_bytes(opened)
        except CodedError as error:
            # Whoever made the key sealed something else: this site reports under the public key, like one that holds
            # none, and others open the sum.
            with self._home.log.open("a") as log:
                log.write(f"this site's share of the plan's key is unusable: {error}\n")
            return None

    def _residuals(self, plan_digest: str) -> SealedFiles:
        """What was not sent of this site's updates, by round."""
        return SealedFiles(self._home, f"residual/{plan_digest}", purpose=f"residual/{plan_digest}")

    def _training_files(self, plan_digest: str) -> SealedFiles:
        """Checkpoints of this site's training, by round, attempt and model."""
        return SealedFiles(self._home, f"training/{plan_digest}", purpose=f"training/{plan_digest}")

    def _masking(self, plan_digest: str) -> MaskingKeys:
        return MaskingKeys(self._home, plan_digest)
