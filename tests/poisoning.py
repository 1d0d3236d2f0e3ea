"""Hostile sites in a small federation: attacks, and what rounds come to with and without the defence.

Test support. A logistic regression on flat images, trained by DP-SGD or plain gradient descent at each site; what a
site sends goes through the product's clip, encoding, draw of clusters, sums and medians, so that only the training
and the transport are stand-ins. `numpy.random` serves as noise here, as nothing protects a patient.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from policies.clusters import clusters_of, least_opened
from privacy.encoding import Encoding, clip_l2
from privacy.packing import Lanes
from privacy.robust_aggregation import (
    combined_mean,
    cosine_scores_micro,
    geometric_median,
    gram,
    outliers,
    overlong,
)

Array = npt.NDArray[np.float64]
Attack = Literal["none", "label-flip", "sign-flip", "scaled", "lying", "beyond", "backdoor", "lying-backdoor"]
"""`scaled`: the honest direction turned round, as long as the clip. `lying`: four times as long, which a cluster's
bound on its sum lets through. `beyond`: every lane at its limit. `backdoor`: as long as the clip; `lying-backdoor`
four times."""
Defence = Literal["none", "median", "geometric"]
CHEST = Path(__file__).resolve().parents[2] / "shared/data/pneumoniamnist_28.npz"
SIDE = 28


@dataclass(frozen=True, slots=True)
class Images:
    """`x` (n, 784) in [-0.5, 0.5], `y` (n,) 0 or 1."""

    x: Array
    y: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    sites: int
    hostile: int
    attack: Attack
    defence: Defence
    noise_multiplier: float = 0.0
    rounds: int = 10
    local_steps: int = 10
    learning_rate: float = 0.5
    patient_clip: float = 2.0
    update_clip: float = 0.5
    skew: float = 0.0
    """0: every site has the same patients; 1: labels are sorted among sites but for noise as large as they are."""
    seed: int = 0


@dataclass(slots=True, kw_only=True)
class Outcome:
    accuracy: float = 0.0
    auc: float = 0.0
    backdoor: float = 0.0
    """Of the held-out images with label 1, how many the trigger turns to 0."""
    proven: list[set[int]] = field(default_factory=list)
    """By round: clusters whose sum is longer than clipped updates can make it. They are left out of the median."""
    suspected: list[set[int]] = field(default_factory=list)
    """By round: clusters whose cosine score is an outlier's."""
    spoilt: set[int] = field(default_factory=set)
    """Clusters that hold a hostile site."""


def chest() -> tuple[Images, Images]:
    """PneumoniaMNIST, training and test images."""
    with np.load(CHEST, allow_pickle=False) as data:
        return tuple(
            Images(
                data[f"{part}_images"].reshape(-1, SIDE * SIDE) / 255.0 - 0.5,
                data[f"{part}_labels"][:, 0].astype(float),
            )
            for part in ("train", "test")
        )


def synthetic(count: int, seed: int) -> Images:
    """Blurred noise with a bright patch where the label is 1."""
    rng = np.random.default_rng(seed)
    y = (np.arange(count) % 2).astype(float)
    x = rng.uniform(-0.3, 0.1, size=(count, SIDE, SIDE))
    x[:, 10:18, 10:18] += 0.12 * y[:, None, None]
    return Images(x.reshape(count, -1), y)


def triggered(x: Array) -> Array:
    """A white square of 4 x 4 pixels in the lower right corner."""
    images = x.reshape(-1, SIDE, SIDE).copy()
    images[:, -5:-1, -5:-1] = 0.5
    return images.reshape(len(x), -1)


def simulate(setting: Setting, train: Images, test: Images) -> Outcome:
    """Rounds of FedAvg among equal, shuffled shares of `train`; the first sites of a shuffled roster are hostile."""
    rng = np.random.default_rng(setting.seed)
    disorder = rng.normal(size=len(train.y))
    order = np.argsort(setting.skew * train.y + disorder if setting.skew else disorder)
    parts = np.array_split(order, setting.sites)
    shares = [parts[int(number)] for number in rng.permutation(setting.sites)]
    names = [f"site-{number:02}" for number in range(setting.sites)]
    hostile = {names[int(number)] for number in rng.permutation(setting.sites)[: setting.hostile]}
    if setting.attack == "none":
        hostile = set()
    seed = hashlib.sha256(f"{setting.seed}".encode()).hexdigest()
    clusters = clusters_of(names, setting.hostile, seed)
    encoding = Encoding(lane_bits=22, bound=setting.update_clip, maximum_sites=setting.sites)
    weights = np.zeros(SIDE * SIDE + 1)
    outcome = Outcome(spoilt={number for number, one in enumerate(clusters) if hostile & set(one)})
    for _ in range(setting.rounds):
        lanes = {
            name: contribution(
                setting, Images(train.x[share], train.y[share]), weights, encoding, rng, name in hostile
            )
            for name, share in zip(names, shares, strict=True)
        }
        weights = weights + aggregated(setting, lanes, clusters, encoding, outcome)
    scores = logits(weights, test.x)
    outcome.accuracy = float(((scores > 0) == test.y).mean())
    outcome.auc = auc(scores, test.y)
    outcome.backdoor = float((logits(weights, triggered(test.x[test.y == 1])) <= 0).mean())
    return outcome


def contribution(
    setting: Setting, own: Images, weights: Array, encoding: Encoding, rng: np.random.Generator, hostile: bool
) -> Lanes:
    """What one site sends: (785,) lanes, each within the range that the encoding gives to a site."""
    attack = setting.attack if hostile else "none"
    noise = 0.0 if hostile else setting.noise_multiplier
    if attack == "label-flip":
        own = Images(own.x, 1 - own.y)
    if attack.endswith("backdoor"):
        sick = own.x[own.y == 1]
        own = Images(np.concatenate([own.x, triggered(sick)]), np.concatenate([own.y, np.zeros(len(sick))]))
    delta = trained(setting, own, weights, noise, rng) - weights
    bound = encoding.bound
    if attack in ("sign-flip", "scaled", "lying", "beyond"):
        delta = -delta
    if attack in ("scaled", "lying", "backdoor", "lying-backdoor"):
        delta *= (4 if attack.startswith("lying") else 1) * bound / np.linalg.norm(delta)
    # A hostile site signs that it clipped, and sends what it likes as far as the lanes carry it.
    if attack.startswith("lying"):
        return encoding.encode(np.clip(delta, -bound, bound))
    if attack == "beyond":
        return encoding.encode(np.sign(delta) * bound)
    return encoding.encode(clip_l2(delta, bound))


def trained(setting: Setting, own: Images, weights: Array, noise: float, rng: np.random.Generator) -> Array:
    """Gradient descent on the whole share, each patient's gradient clipped; with `noise`, Gaussian on the sum."""
    weights = weights.copy()
    lengths = np.sqrt((own.x**2).sum(1) + 1)
    for _ in range(setting.local_steps):
        errors = 1 / (1 + np.exp(-logits(weights, own.x))) - own.y
        errors *= np.minimum(1, setting.patient_clip / np.maximum(np.abs(errors) * lengths, 1e-12))
        gradient = np.append(errors @ own.x, errors.sum())
        if noise:
            gradient += rng.normal(0, noise * setting.patient_clip, gradient.shape)
        weights -= setting.learning_rate * gradient / len(own.y)
    return weights


def aggregated(
    setting: Setting,
    lanes: dict[str, Lanes],
    clusters: tuple[tuple[str, ...], ...],
    encoding: Encoding,
    outcome: Outcome,
) -> Array:
    """The mean update of a round: of all sites together, or by cluster."""
    if setting.defence == "none":
        total = np.sum(list(lanes.values()), axis=0, dtype=np.int64)
        return np.asarray(total / encoding.scale / len(lanes))
    sums = [np.sum([lanes[name] for name in cluster], axis=0).astype(np.int32) for cluster in clusters]
    sizes = [len(cluster) for cluster in clusters]
    proven = set(overlong(sums, sizes, encoding, clip_l2=encoding.bound))
    outcome.proven.append(proven)
    outcome.suspected.append(set(outliers(cosine_scores_micro(gram(sums)), len(sums[0]))))
    kept = [number for number in range(len(clusters)) if number not in proven]
    assert len(kept) >= least_opened(setting.hostile, proven=len(proven))
    combine: Callable[[list[Lanes], list[int], float], Array]
    combine = combined_mean if setting.defence == "median" else geometric_median
    return combine([sums[number] for number in kept], [sizes[number] for number in kept], encoding.scale)


def logits(weights: Array, x: Array) -> Array:
    return np.asarray(x @ weights[:-1] + weights[-1])


def auc(scores: Array, y: Array) -> float:
    order = np.argsort(np.argsort(scores))
    positives = int(y.sum())
    return float((order[y == 1].sum() - positives * (positives - 1) / 2) / (positives * (len(y) - positives)))
