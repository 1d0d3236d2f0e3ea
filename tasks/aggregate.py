"""What follows from an opened sum: the next model. The same bytes at every party.

Plain functions over lanes and weights, used by the coordinator to release a model and by each site to check
it: a site that arrives at another digest refuses the round. Opening sums lives in `tasks.summing`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ledger import canonical
from ledger.errors import InputError
from policies.clusters import least_opened
from policies.facts import NEVER
from policies.opening import evaluation_lane_count, outcome_digest_of
from policies.plan import Plan, Robust
from privacy import robust_aggregation
from privacy.accounting import MICRO
from privacy.encoding import Encoding
from privacy.packing import Lanes, Packing
from privacy.sum_context import Step
from privacy.support import Support, scatter, support, support_seed, support_size
from tasks.train import networks, server_optimizer, weights
from tasks.train.server_optimizer import Row, ServerState, ServerStateError
from tasks.train.weights import Weights

_LARGEST_LANE = 2**30
_COUNT_BITS = 22
"""Of a lane that counts patients, however narrow the plan's lanes are."""
_VOID = -(2**31)
"""In every lane of a cluster's sum that no honest updates add up to: its range alone is proof. No sum has it."""


class LanesError(InputError):
    code = "aggregate.lanes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """What a round's opened sums come to, confirmed by every site."""

    model: bytes
    norm_l2_micro: int
    """L2 norm of the decoded sum, in millionths. Of sums by cluster, the largest that one of them would give if all
    sites were like its own, so that one cluster beyond its bound is not hidden by the others."""
    cosines_micro: tuple[int, ...] = ()
    outliers: tuple[int, ...] = ()
    server_state: bytes | None = None
    """With which the server's optimiser goes on; None of one that remembers nothing."""

    @property
    def server_state_digest(self) -> str | None:
        return None if self.server_state is None else canonical.digest(self.server_state)


def outcome_of(made: Aggregate) -> str:
    """The digest under which key holders confirm it."""
    return outcome_digest_of(
        model_digest=canonical.digest(made.model),
        norm_l2_micro=made.norm_l2_micro,
        cosines_micro=made.cosines_micro,
        outliers=made.outliers,
        server_state_digest=made.server_state_digest,
    )


def encoding_of(plan: Plan) -> Encoding:
    """The plan's fixed-point encoding, with room for distributed noise where there is some."""
    update, share = plan.update, plan.noise_share
    return Encoding(
        lane_bits=update.lane_bits,
        bound=update.bound,
        maximum_sites=update.maximum_sites,
        lanes_per_unit=None if share is None else share.scale,
    )


def check_resolution(plan: Plan) -> None:
    """Raise `ResolutionError` if the plan's network has more weights than its lanes can round beside the noise."""
    share = plan.noise_share
    if share is not None:
        share.require_resolution(model_size(plan), clip_l2=plan.update.clip_l2)


def packing_of(plan: Plan, step: Step) -> Packing:
    """How a step's lanes lie in its sum: those of an update as the plan says, counts with room for every hospital."""
    if step == "evaluation":
        return Packing(lane_bits=_COUNT_BITS, maximum_sites=plan.update.maximum_sites)
    return encoding_of(plan).packing


def encode_counts(plan: Plan, counts: npt.NDArray[np.int64]) -> Lanes:
    """(n,) noised counts to lanes of scale 1; refuses what does not fit."""
    packing = packing_of(plan, "evaluation")
    if counts.size and int(np.abs(counts).max()) > packing.site_limit:
        raise LanesError(f"a count of patients is larger than {packing.site_limit}")
    return counts.astype(np.int32)


def void_lanes(plan: Plan) -> Lanes:
    """What stands for the sum of a cluster that opened to no possible sum."""
    return np.full(lane_count(plan, "training"), _VOID, dtype=np.int32)


def model_size(plan: Plan) -> int:
    """How many weights the plan's network has."""
    return sum(tensor.size for tensor in networks.template(plan.network, plan.data).values())


def lane_count(plan: Plan, step: Step, *, round_number: int = 1) -> int:
    """How many lanes a site's contribution to one step has; in an evaluation that hangs on the round."""
    if step == "evaluation":
        return evaluation_lane_count(plan, round_number)
    size = model_size(plan)
    return size if plan.compression is None else support_size(size, plan.compression.keep)


def support_of(plan: Plan, round_number: int, base: Weights, previous: Weights | None) -> Support | None:
    """The coordinates that every site sends in this round; None where all are sent. `previous` is the model before
    the last round, `base` the one after it: their difference is the last sum, as far as a support needs it."""
    if plan.compression is None:
        return None
    last: Lanes | None = None
    if previous is not None:
        moved = weights.flatten(base).astype(np.float64) - weights.flatten(previous)
        largest = float(np.abs(moved).max(initial=0.0))
        # Only which are largest matters; every step here is exact or rounded the same on all machines.
        last = np.rint(moved * (_LARGEST_LANE / largest if largest else 0.0)).astype(np.int32)
    seed = support_seed(plan.content_digest(), round_number)
    size = sum(tensor.size for tensor in base.values())
    return support(size, plan.compression.keep, seed=seed, previous=last)


def lanes_to_bytes(lanes: Lanes) -> bytes:
    """Little-endian int32, the form in which an opened sum is named by digest."""
    return lanes.astype("<i4").tobytes()


def lanes_from_bytes(data: bytes, *, count: int) -> Lanes:
    if len(data) != 4 * count:
        raise LanesError(f"an opened sum holds {len(data) // 4} lanes, expected {count}")
    return np.frombuffer(data, dtype="<i4").astype(np.int32)


def aggregate(
    plan: Plan,
    round_number: int,
    base: bytes,
    opened: bytes,
    *,
    sizes: tuple[int, ...],
    previous: bytes | None,
    server_state: bytes | None = None,
) -> Aggregate:
    """The model after a round, and the state after it: the plan's server optimiser takes the mean update as its
    step, in float64 and rounded once to float32 (`tasks.train.server_optimizer`). `server_state` is that after the
    round before, as `tasks.model_objects` finds it.

    `opened` holds the sums of the groups, one behind the other, and `sizes` how many sites are in each. Each site
    weighs the same: a weight by patients would release the number of patients. Of several groups' means the median
    is taken, coordinate by coordinate. Only additions, multiplications, divisions, square roots and comparisons of
    IEEE 754 doubles are used, so that all machines agree on every bit.
    """
    like = networks.template(plan.network, plan.data)
    start = weights.from_bytes(base, like)
    before = None if previous is None else weights.from_bytes(previous, like)
    encoding, count = encoding_of(plan), lane_count(plan, "training")
    lanes = list(lanes_from_bytes(opened, count=count * len(sizes)).reshape(len(sizes), count))
    if plan.robust is None:
        norm_micro = encoding.sum_norm_micro(lanes[0], sites=sizes[0], share=plan.noise_share)
        whole = encoding.decode_sum(lanes[0], sites=sizes[0]) / float(sizes[0])
        if plan.noise_share is not None:  # on every coordinate, and what is not trained must not drift by it
            whole[~networks.trained(plan.network, plan.data)] = 0.0
        mean: Row | None = whole
        robust = Scores()
    else:
        norm_micro, mean, robust = _median(
            encoding, lanes, sizes, terms=plan.robust, clip_l2=plan.update.clip_l2
        )
    chosen = support_of(plan, round_number, start, before)
    model, after = _moved(plan, round_number, start, mean, chosen=chosen, server_state=server_state)
    return Aggregate(
        model=weights.to_bytes(model),
        norm_l2_micro=norm_micro,
        cosines_micro=robust.cosines_micro,
        outliers=robust.outliers,
        server_state=after,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    cosines_micro: tuple[int, ...] = ()
    outliers: tuple[int, ...] = ()


def _median(
    encoding: Encoding, sums: list[Lanes], sizes: tuple[int, ...], *, terms: Robust, clip_l2: float
) -> tuple[int, Row | None, Scores]:
    """(norm, median of the clusters' means, scores). A cluster that is longer than its clips allow, or opened to no
    sum at all, is proof of a hostile site and is left out. Where more are proven than the plan survives, nothing
    moves and no norm is small enough for the gate."""
    possible = [number for number, lanes in enumerate(sums) if lanes[0] != _VOID]
    rows, counts = [sums[number] for number in possible], [sizes[number] for number in possible]
    long = robust_aggregation.overlong(rows, counts, encoding, clip_l2=clip_l2) if possible else ()
    proven = {*range(len(sums))} - {*possible} | {possible[place] for place in long}
    kept = [number for number in range(len(sums)) if number not in proven]
    if len(proven) > terms.hostile or len(kept) < least_opened(terms.hostile, proven=len(proven)):
        outliers = tuple(sorted(proven))
        return NEVER, None, Scores(cosines_micro=(0,) * len(sums), outliers=outliers)
    total = sum(sizes)
    norm_micro = max(
        -(-encoding.sum_norm_micro(sums[number], sites=sizes[number]) * total // sizes[number])
        for number in kept
    )
    combine = {
        "coordinate": robust_aggregation.combined_mean,
        "geometric": robust_aggregation.geometric_median,
    }[terms.median]
    mean = combine([sums[number] for number in kept], [sizes[number] for number in kept], encoding.scale)
    cosines = dict.fromkeys(range(len(sums)), -MICRO)
    if len(possible) >= 3:  # fewer are never told apart
        scores = robust_aggregation.cosine_scores_micro(robust_aggregation.gram(rows))
        cosines.update(zip(possible, scores, strict=True))
        against = {possible[place] for place in robust_aggregation.outliers(scores, len(sums[0]))}
    else:
        cosines.update(dict.fromkeys(possible, 0))
        against = set()
    return (
        norm_micro,
        mean,
        Scores(cosines_micro=tuple(cosines.values()), outliers=tuple(sorted(against | proven))),
    )


def _moved(
    plan: Plan,
    round_number: int,
    base: Weights,
    mean: Row | None,
    *,
    chosen: Support | None,
    server_state: bytes | None,
) -> tuple[Weights, bytes | None]:
    """The weights after the round, and the server's state after it. Without a mean nothing moves."""
    terms, start = plan.update.server, weights.flatten(base).astype(np.float64)
    if (server_state is not None) != (terms.keeps_state and round_number > 1):
        raise ServerStateError(
            "a round begins with the server's state after the last one, if its plan keeps one"
        )
    state = ServerState.fresh(terms, len(start)) if terms.keeps_state else None
    if server_state is not None:
        state = ServerState.from_bytes(server_state, size=len(start))
    if mean is None:
        return base, None if state is None else state.to_bytes()
    moved, after = server_optimizer.step(
        start,
        mean if chosen is None else scatter(mean, chosen, len(start)),
        state,
        terms=terms,
        learning_rate=server_optimizer.learning_rate_at(
            terms, plan.update.server_learning_rate, round_number=round_number, rounds=plan.rounds
        ),
    )
    return weights.unflatten(moved, base), None if after is None else after.to_bytes()
