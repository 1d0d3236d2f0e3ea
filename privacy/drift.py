"""Whether counts that carry noise lie under a figure by more than noise and chance explain.

Lives here: the distance of one noised histogram from an AUC, or of one noised row from a mean, with its variance. The
histograms, their noise and their cost are `privacy.histogram`'s: everything here is post-processing of counts that
were noised and paid for, and takes nothing else. What is done about it is not decided here.

A figure is a ratio of noised counts, and a ratio of few noised counts is far off. So no ratio is formed. Under an AUC
of `a` the sum over pairs

    U = Σ_ij p_i n_j (w_ij − a)      w_ij = 1 where positive bin i lies over negative bin j, 1/2 where they are one

is PN(AUC − a), and noise that is independent in every cell, of variance v, leaves that mean as it is. With
f_i = Σ_j n_j (w_ij − a) and g_j = Σ_i p_i (w_ij − a) of the exact counts it adds v(Σf² + Σg²) + v²Σ(w − a)² to the
variance; of the noised counts Σf² + Σg² is itself too large by 2vΣ(w − a)² in the mean, which is taken off. Whom one
happened to ask adds at most PN·max(P, N)·a(1 − a) (Birnbaum and Klose 1957). A mean is linear, and simpler:
D = Σ_i n_i (m_i − a) with the middles m_i, variance vΣ(m_i − a)² + n·a(1 − a).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privacy.histogram import Histogram, check


@dataclass(frozen=True, slots=True)
class Level:
    """A figure in [0, 1] that was read off noised counts, and the variance with which it was."""

    figure: float
    variance: float


@dataclass(frozen=True, slots=True)
class Distance:
    """`weight` times the distance of counts from a figure, over it if positive, and its variance."""

    value: float
    variance: float
    weight: float
    """Pairs of patients for an AUC, patients for a mean; as noised as the counts are, and never negative."""


def from_auc(histogram: Histogram, auc: float, *, noise_variance: float) -> Distance:
    """Of a (2, bins) histogram, row 0 without the finding, row 1 with it; `noise_variance` is that of each cell."""
    check(histogram)
    negatives, positives = (row.astype(np.float64) for row in histogram)
    bins = len(negatives)
    kernel = np.tri(bins, k=-1) + np.eye(bins) / 2.0 - auc
    over, under = kernel @ negatives, positives @ kernel
    pairs = noise_variance**2 * float((kernel**2).sum())
    noise = max(noise_variance * float((over**2).sum() + (under**2).sum()) - pairs, pairs)
    having, without = max(0.0, float(positives.sum())), max(0.0, float(negatives.sum()))
    weight = having * without
    sampling = weight * max(having, without) * auc * (1.0 - auc)
    return Distance(float(positives @ over), noise + sampling, weight)


def from_mean(row: npt.NDArray[np.int64], mean: float, *, noise_variance: float) -> Distance:
    """The same of one (bins,) row of counts, each bin by its middle."""
    check(np.stack([row, row]))
    away = (np.arange(len(row)) + 0.5) / len(row) - mean
    weight = max(0.0, float(row.sum()))
    variance = noise_variance * float((away**2).sum()) + weight * mean * (1.0 - mean)
    return Distance(float(row @ away), variance, weight)


def level(distance: Distance, figure: float) -> Level | None:
    """How surely the counts have the figure from which `distance` was taken; None if they tell of nobody."""
    return Level(figure, distance.variance / distance.weight**2) if distance.weight >= 1.0 else None


def is_under(distance: Distance, *, figure_variance: float, deviations: float) -> bool:
    """Whether the counts lie under the figure by more than `deviations` times what noise, chance and the figure's own
    variance explain together. Counts that tell little are never under it."""
    variance = distance.variance + distance.weight**2 * figure_variance
    return distance.value < 0 and distance.value**2 > deviations**2 * variance
