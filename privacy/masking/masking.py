"""The masking layer of one sum, over any ring: one party's end.

Bonawitz et al. 2017, "Practical secure aggregation", section 4, with one key agreement a plan instead of one a round,
and without its rounds for keys and shares. What leaves site i is, in the ring,

    y_i = x_i + PRG(b_i) + sum over j > i of PRG(s_ij) - sum over j < i of PRG(s_ij)

with a fresh self seed b_i and the pair secrets s_ij of this step (`privacy.masking.pair_keys`), sites in order of
name. In the sum over the closed set C the pair masks inside C cancel. Left are the self masks of C, and the pair
masks between C and who is gone; sites answer with their shares of exactly these secrets. A site that is gone keeps
its self seed, so that its values stay hidden though they arrive late.

What the closed set gives away. Who has both b_i and all of s_ij has x_i. A site answers once, and any two sets of t
answers share an honest site (`privacy.sum_context`), so of no site both are opened. A hostile site can spoil the sum
by what it puts in, as under any scheme; it cannot make the sum open to something else unseen by its own doing alone,
except by the pair secret with a site that is gone, to whose commitment there is no second witness.
"""

from __future__ import annotations

import secrets as random_bytes
from collections.abc import Mapping
from typing import Final

from privacy.masking import answer_part, shares_part
from privacy.masking.closed_set import ClosedSet
from privacy.masking.derivation import KEY_BYTES, derive, secret_commitment, sum_label
from privacy.masking.mask_secrets import AnswerKeys, MaskSecrets
from privacy.masking.ring import Residues, Ring
from privacy.masking.shamir import Recovery, ShareInvalidError
from privacy.masking.shares_part import BadShareError
from privacy.protected_sum import AnsweredError, RoleError, SumRefusedError, SumUnopenedError
from privacy.sum_context import SumContext

_SELF: Final = "mask-self"
_PAIR: Final = "mask-pair"


class Masking:
    """Masks, answers and unmasks for one `SumContext`.

    With `MaskSecrets` it masks once and answers; with `AnswerKeys` it only answers; without secrets it only checks
    and unmasks, for which none are needed.
    """

    def __init__(
        self, context: SumContext, ring: Ring, *, secrets: MaskSecrets | AnswerKeys | None = None
    ) -> None:
        self._context = context
        self._ring = ring
        self._mask_secrets = secrets if isinstance(secrets, MaskSecrets) else None
        self._keys = secrets.answering() if isinstance(secrets, MaskSecrets) else secrets
        self._answered: tuple[bytes, bytes] | None = None
        self._faulty: tuple[str, ...] = ()
        if self._keys is not None and (
            self._keys.context != sum_label(context, "keys")
            or self._keys.receive.keys() != set(context.roster.names)
            or self._keys.name not in context.roster.names
        ):
            raise RoleError("the secrets are not those of a site in this sum")

    @property
    def faulty(self) -> tuple[str, ...]:
        """Whose answers the last `unmask` left out because they did not fit, by name."""
        return self._faulty

    def mask(self, values: Residues) -> bytes:
        """Mask (n,) residues in place; the shares part that goes with them. Once."""
        if self._mask_secrets is None:
            raise RoleError("this end of the sum has nothing to mask with")
        self._ring.check(values)
        pair_secrets, wrap = self._mask_secrets.take()
        names = self._context.roster.names
        name = self._mask_secrets.name
        seed = random_bytes.token_bytes(KEY_BYTES)
        own = [seed if peer == name else pair_secrets[peer] for peer in names]
        shares = shares_part.deal(self._context, author=name, own=own, wrap=wrap)
        self._ring.shift(
            values,
            plus=[
                self._stream(_SELF, seed),
                *(self._stream(_PAIR, pair_secrets[peer]) for peer in names if peer > name),
            ],
            minus=[self._stream(_PAIR, pair_secrets[peer]) for peer in names if peer < name],
        )
        return shares

    def check(self, site: str, shares: bytes) -> None:
        """Refuse what cannot be the shares part of `site` in this sum."""
        if site not in self._context.roster.names:
            raise SumRefusedError(f"not in the roster: {site}")
        shares_part.read(self._context, author=site, data=shares)

    def answer(self, closed: Mapping[str, bytes]) -> bytes:
        """This site's answer for `closed`, shares parts by site. The same set again gives the same bytes.

        Raises `SumRefusedError` for a set that must not be opened or parts that contradict each other,
        `BadShareError` naming whose shares are bad, `AnsweredError` for a second set. Whoever calls stores the
        answer before sending it: this object forgets with its process.
        """
        if self._keys is None:
            raise RoleError("this end of the sum has nothing to answer with")
        # 1. A set that may be opened, whose parts agree, and that has this site in it.
        read = ClosedSet.read(self._context, closed)
        names = self._context.roster.names
        answerer = names.index(self._keys.name)
        if answerer not in read.present:
            raise SumRefusedError("a site does not answer for a set that leaves it out")
        # 2. The first one.
        if self._answered is not None:
            digest, data = self._answered
            if digest != read.digest:
                raise AnsweredError("this site has answered for another set of this step")
            return data
        # 3. Every author's shares open and fit, also those that are not needed now: one bad share is enough to be
        #    named.
        shares: dict[int, tuple[bytes, ...]] = {}
        bad: list[BadShareError] = []
        for author, part in read.parts.items():
            try:
                shares[author] = part.open(
                    self._context, recipient=answerer, key=self._keys.receive[names[author]]
                )
            except BadShareError as error:
                bad.append(error)
        _raise_bad(bad)
        data = answer_part.write(read, answerer=answerer, shares=shares)
        self._answered = read.digest, data
        return data

    def unmask(self, total: Residues, closed: Mapping[str, bytes], answers: Mapping[str, bytes]) -> None:
        """Take the masks left from `total`, the (n,) sum of the closed set's masked residues, in place.

        Raises `SumRefusedError` for a set that cannot be opened, `SumUnopenedError` naming whose answers are missing
        or false if fewer than t are good, `BadShareError` naming who dealt shares of something else than they
        committed to. Nothing is changed then.
        """
        self._ring.check(total)
        read = ClosedSet.read(self._context, closed)
        names = self._context.roster.names
        threshold = self._context.roster.threshold
        # 1. Answers for this set, all of whose shares are those dealt.
        good: dict[int, tuple[bytes, ...]] = {}
        false = set(answers.keys() - closed.keys())
        for index in read.present:
            if names[index] in answers:
                try:
                    good[index] = answer_part.read(
                        self._context, read, answerer=index, data=answers[names[index]]
                    )
                except SumRefusedError:
                    false.add(names[index])
        self._faulty = tuple(sorted(false))
        if len(good) < threshold:
            lacking = tuple(sorted(false | {names[index] for index in read.present if index not in good}))
            raise SumUnopenedError(
                f"{len(good)} of the {threshold} answers needed; missing or false: {', '.join(lacking)}",
                names=lacking,
            )
        # 2. The secrets, from any t of them: each is the one that its author committed to.
        used = sorted(good)[:threshold]
        recovery = Recovery(used, threshold=threshold)
        plus, minus = [], []
        bad: list[BadShareError] = []
        for number, (author, subject) in enumerate(answer_part.openings(read)):
            try:
                secret = recovery.recover([good[index][number] for index in used])
                fits = secret_commitment(self._context, secret) == read.parts[author].commitment(subject)
            except ShareInvalidError:
                fits = False
            if not fits:
                name = names[author]
                bad.append(
                    BadShareError(f"the shares of {name} are not of what it committed to", names=(name,))
                )
            elif subject == author:
                minus.append(self._stream(_SELF, secret))
            elif subject > author:
                minus.append(self._stream(_PAIR, secret))
            else:
                plus.append(self._stream(_PAIR, secret))
        _raise_bad(bad)
        # 3. What did not cancel.
        self._ring.shift(total, plus=plus, minus=minus)

    def _stream(self, label: str, secret: bytes) -> bytes:
        return derive(
            secret, label=label, binding=sum_label(self._context, "mask") + self._ring.name.encode()
        )


def _raise_bad(bad: list[BadShareError]) -> None:
    if bad:
        names = tuple(dict.fromkeys(name for error in bad for name in error.names))
        raise BadShareError("; ".join(dict.fromkeys(error.public_message for error in bad)), names=names)
