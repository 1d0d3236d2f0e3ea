"""A site's keys for masked sums on its disk: encrypted, one folder a plan, gone when the plan is over.

    <home>/masking/<plan digest>/key              the X25519 key announced for the plan, until the roster is known
    <home>/masking/<plan digest>/chains           pair keys, at the step they stand at (`privacy.masking.pair_keys`)
    <home>/masking/<plan digest>/<context>        what answers for one sum (`privacy.masking.mask_secrets`)

Chains only move forward, and what is behind is overwritten. The form of the files is `adapters.sealed_files`; no key
is derived here.
"""

from __future__ import annotations

from contextlib import suppress

from adapters.home import Home
from adapters.sealed_files import SealedFiles
from ledger.errors import CodedError
from privacy.masking.mask_secrets import AnswerKeys, MaskSecrets
from privacy.masking.pair_keys import KeyErasedError, MaskingKey, PairChains
from privacy.sum_context import Roster, SumContext


class MaskingKeysUnusableError(CodedError):
    """Missing: without them this site takes no part in the plan's sums."""

    code = "masking.keys-unusable"


class MaskingKeys:
    """The keys of one plan. One run at a time uses them (`Home.alone`)."""

    def __init__(self, home: Home, plan_digest: str) -> None:
        self._files = SealedFiles(home, f"masking/{plan_digest}", purpose=f"masking/{plan_digest}")
        self._plan_digest = plan_digest

    def announce(self) -> bytes:
        """The public key (32 bytes) that the site announces for this plan; made once and kept until `begin`."""
        kept = self._files.read("key")
        if kept is not None:
            return MaskingKey.from_bytes(kept).public_bytes()
        key = MaskingKey.generate()
        self._files.write("key", key.to_bytes())
        return key.public_bytes()

    def begin(self, name: str, roster: Roster, *, origin: str, study: str) -> None:
        """Agree on pair keys with the whole roster and forget the announced key; nothing if that was done before."""
        if self._files.read("chains") is not None:
            self._files.remove("key")
            return
        kept = self._files.read("key")
        if kept is None:
            raise MaskingKeysUnusableError("this site has no masking key for the plan any more")
        chains = PairChains.begin(
            MaskingKey.from_bytes(kept),
            name=name,
            roster=roster,
            origin=origin,
            study=study,
            plan_digest=self._plan_digest,
        )
        self._files.write("chains", chains.to_bytes())
        self._files.remove("key")

    def secrets(self, context: SumContext) -> MaskSecrets:
        """What masks one vector, and on the disk what will answer for it. Given out again until `used`: nothing that
        was masked has left the site before that."""
        secrets = self._chains().secrets(context)
        self._files.write(_name_of(context), secrets.answering().to_bytes())
        return secrets

    def used(self, context: SumContext) -> None:
        """The masked vector is kept and may leave: its keys are never given out again."""
        chains = self._chains()
        with suppress(KeyErasedError):  # by the run that was cut off
            chains.secrets(context)
            self._files.write("chains", chains.to_bytes())

    def answer_keys(self, context: SumContext) -> AnswerKeys:
        """What answers for a vector that this site masked."""
        kept = self._files.read(_name_of(context))
        if kept is None:
            raise MaskingKeysUnusableError("this site's keys for the answer are gone")
        return AnswerKeys.from_bytes(kept)

    def answered(self, context: SumContext) -> None:
        """The answer is kept: forget what made it, and move on to the next step. Once more after a crash changes
        nothing, nor does it after `forget`."""
        kept = self._files.read("chains")
        chains = None if kept is None else PairChains.from_bytes(kept)
        if chains is not None and chains.position <= context.position:
            chains.at(context.position + 1)
            self._files.write("chains", chains.to_bytes())
        self._files.remove(_name_of(context))

    def forget(self) -> None:
        """The plan is over."""
        self._files.remove_all()

    def _chains(self) -> PairChains:
        kept = self._files.read("chains")
        if kept is None:
            raise MaskingKeysUnusableError("this site has no pair keys for the plan")
        return PairChains.from_bytes(kept)


def _name_of(context: SumContext) -> str:
    return context.label("keys").hex()
