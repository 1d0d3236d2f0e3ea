"""Signed openings: what a key holder found a sum to be, and how many must find the same.

Whatever the scheme, a holder opens the closed set's sum itself, out of the reports and the sites' answers
(`privacy.protected_sum`). One opening proves nothing, as its holder may lie; f+1 identical ones include an honest
holder's. They ride in the
events that rest on a sum, so that every witness counts them and nobody has to believe the coordinator. Making
one lives in `tasks.site.opening`. It is a DSSE envelope of type application/vnd.wardround.opening+json over

    {"origin", "outcome_digest", "plan_digest", "round", "schema_version", "step", "sum_digest"}
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from ledger import canonical
from policies.document import Base64, Digest, Document, Origin
from policies.federation import Federation
from policies.plan import Evaluation, Plan
from policies.receipt import Step
from policies.signed_document import read_signed
from privacy.histogram import OTHER, SUBGROUPS, Histogram, auc, mean
from privacy.packing import Lanes

PAYLOAD_TYPE = "application/vnd.wardround.opening+json"
MICRO = 1_000_000


class Opening(Document):
    schema_version: Literal[1]
    origin: Origin
    plan_digest: Digest
    round: Annotated[int, Field(ge=1, le=1000)]
    step: Step
    sum_digest: Digest
    outcome_digest: Digest | None
    """Of training: what follows from the sum (`outcome_digest_of`). Figures of other steps are read off the sum."""


class OpeningSignature(Document):
    keyid: Digest
    sig: Annotated[Base64, Field(max_length=128)]


@dataclass(frozen=True, slots=True)
class EvaluationFigures:
    """In micro-units: the AUC of labels, or the mean Dice of masks, of everybody and of the plan's subgroups."""

    auc: int | None
    subgroup_aucs: tuple[int | None, ...]
    dice: int | None
    subgroup_dices: tuple[int | None, ...]


class SignedOpening(Document):
    """The envelope as it stands inside an event. What its payload says counts only through `read_opening`."""

    payload: Annotated[Base64, Field(max_length=1400)]
    payload_type: Annotated[Literal["application/vnd.wardround.opening+json"], Field(alias="payloadType")]
    signatures: Annotated[tuple[OpeningSignature, ...], Field(min_length=1, max_length=1)]


def read_opening(data: bytes, federation: Federation, holder: str) -> Opening | None:
    """The holder's opening if the bytes are one that it signed; anything else does not count."""
    if holder not in federation.key_holders:
        return None
    return read_signed(data, Opening, payload_type=PAYLOAD_TYPE, federation=federation, name=holder)


def agreed(
    openings: Iterable[SignedOpening],
    federation: Federation,
    *,
    origin: str,
    plan_digest: str,
    round_number: int,
    step: Step,
    sum_digest: str,
    outcome_digest: str | None,
) -> bool:
    """Whether enough distinct key holders signed that this step's sum is `sum_digest` and what follows from it, and
    nothing else is there: an envelope that counts for nobody could carry anything."""
    agreeing: set[str] = set()
    wanted = (origin, plan_digest, round_number, step, sum_digest, outcome_digest)
    for signed in openings:
        data = signed.canonical_bytes()
        for holder in set(federation.key_holders) - agreeing:
            found = read_opening(data, federation, holder)
            if found is None:
                continue
            about = (found.origin, found.plan_digest, found.round, found.step)
            if (*about, found.sum_digest, found.outcome_digest) == wanted:
                agreeing.add(holder)
                break
        else:
            return False
    return len(agreeing) >= federation.openings_required()


def sum_digest_of(lanes: Lanes) -> str:
    """SHA-256 of the lanes as little-endian int32: how an opened sum is named."""
    return hashlib.sha256(lanes.astype("<i4").tobytes()).hexdigest()


def outcome_digest_of(
    *,
    model_digest: str,
    norm_l2_micro: int,
    cosines_micro: tuple[int, ...],
    outliers: tuple[int, ...],
    server_state_digest: str | None,
) -> str:
    """What follows from a round's opened sums, in one digest: the model, the figures that gates and quarantine rest
    on, and the state of the server's optimiser if it has one."""
    outcome: dict[str, canonical.JsonValue] = {
        "model_digest": model_digest,
        "norm_l2_micro": norm_l2_micro,
        "cosines_micro": list(cosines_micro),
        "outliers": list(outliers),
    }
    if server_state_digest is not None:
        outcome["server_state_digest"] = server_state_digest
    return canonical.digest(canonical.encode(outcome))


def histogram_lane_count(evaluation: Evaluation) -> int:
    """Lanes of one histogram: for every subgroup two rows, of patients without the finding and with it, or of Dice
    and of the Hausdorff distance."""
    return 2 * max(1, len(SUBGROUPS[evaluation.subgroups])) * evaluation.bins


def evaluation_lane_count(plan: Plan, round_number: int) -> int:
    """Lanes of a round's evaluation: its histogram and, where sites are asked whether they are better off, how many
    said yes, as the last."""
    return histogram_lane_count(plan.evaluation) + int(plan.compares(round_number))


def evaluation_parts(lanes: Lanes, plan: Plan) -> tuple[Lanes, int | None]:
    """An opened evaluation as (histogram, how many sites said yes); None where they were not asked."""
    count = histogram_lane_count(plan.evaluation)
    return lanes[:count], int(lanes[count]) if len(lanes) > count else None


def evaluation_lanes(histogram: tuple[int, ...], better_off: int | None) -> Lanes:
    """The opened sum that an evaluation was read off."""
    return histogram_lanes(histogram if better_off is None else (*histogram, better_off))


def figures_micro_of(lanes: Lanes, plan: Plan) -> EvaluationFigures:
    """What everybody reads off a plan's summed, noised histogram."""
    figures, groups = (aucs_micro_of if plan.figure == "AUC" else dices_micro_of)(lanes, plan.evaluation)
    if plan.figure == "AUC":
        return EvaluationFigures(figures, groups, None, ())
    return EvaluationFigures(None, (), figures, groups)


def aucs_micro_of(lanes: Lanes, evaluation: Evaluation) -> tuple[int | None, tuple[int | None, ...]]:
    """In micro-units, the AUC of a summed, noised score histogram and those of the plan's named subgroups in their
    order. A subgroup that says nothing (`OTHER`) counts in the whole alone."""
    rows = histogram_cells(lanes, evaluation)
    groups = zip(SUBGROUPS[evaluation.subgroups], rows, strict=False)
    return _auc_micro(rows.sum(axis=0)), tuple(_auc_micro(row) for name, row in groups if name != OTHER)


def dices_micro_of(lanes: Lanes, evaluation: Evaluation) -> tuple[int | None, tuple[int | None, ...]]:
    """The same of the mean Dice, which the first row counts."""
    rows = histogram_cells(lanes, evaluation)[:, 0]
    groups = zip(SUBGROUPS[evaluation.subgroups], rows, strict=False)
    return _mean_micro(rows.sum(axis=0)), tuple(_mean_micro(row) for name, row in groups if name != OTHER)


def _mean_micro(row: npt.NDArray[np.int64]) -> int | None:
    value = mean(row)
    return None if value is None else round(value * MICRO)


def _auc_micro(histogram: Histogram) -> int | None:
    value = auc(histogram)
    return None if value is None else round(value * MICRO)


def histogram_cells(
    counts: npt.NDArray[np.integer] | tuple[int, ...], evaluation: Evaluation
) -> npt.NDArray[np.int64]:
    """Counts of an evaluation in the order of its lanes, as (subgroup, 2, bin): of an AUC the negatives, then the
    positives; of masks Dice, then the Hausdorff distance. Without subgroups there is one."""
    return np.asarray(counts, dtype=np.int64).reshape(-1, 2, evaluation.bins)


def histogram_lanes(histogram: tuple[int, ...]) -> Lanes:
    return np.array(histogram, dtype=np.int32)
