"""A site's calibration head: two numbers that bring a model's probabilities to the site's own patients.

Platt scaling (Platt 1999), p' = sigmoid(slope · logit(p) + offset), fitted on the scores of the site's *training*
patients with Platt's smoothed targets, by Newton's method as Lin, Lin and Weng (2007, "A note on Platt's
probabilistic outputs") give it. It keeps the order of scores, hence the AUC, and mends what sites differ in most:
how frequent the finding is. It depends on patients without any noise: it stays in the site's home and no report,
event or export has it.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from policies.document import Digest, Document

_STEPS = 100
_RIDGE = 1e-12
_TOLERANCE = 1e-9
_CLOSEST = 1e-7
# Nearer to 0 and 1 float32 probabilities say nothing any more, and logits would be infinite.

Scores = npt.NDArray[np.floating]


class CalibrationHead(Document):
    """For one model alone: another one's scores lie elsewhere."""

    schema_version: Literal[1]
    model_digest: Digest
    slope: Annotated[float, Field(gt=0)]
    offset: float

    def calibrated(self, scores: Scores) -> npt.NDArray[np.float32]:
        """(n,) probabilities to (n,) probabilities, in the same order."""
        return _sigmoid(self.slope * _logits(scores) + self.offset).astype(np.float32)


def fit_head(scores: Scores, labels: npt.NDArray[np.integer], *, model_digest: str) -> CalibrationHead | None:
    """Of (n,) patients' scores and labels 0 or 1. None where one label is missing, or where the model orders this
    site's patients the wrong way round, which no head should hide."""
    positives = int((labels == 1).sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return None
    logits = _logits(scores)
    targets = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    slope, offset = 1.0, 0.0
    loss = _loss(logits, targets, slope, offset)
    for _ in range(_STEPS):
        chances = _sigmoid(slope * logits + offset)
        wrong, weights = chances - targets, chances * (1 - chances)
        gradient = np.array([(wrong * logits).sum(), wrong.sum()])
        if float(np.abs(gradient).max()) < _TOLERANCE * len(labels):
            break
        mixed = float((weights * logits).sum())
        curvature = np.array(
            [
                [float((weights * logits**2).sum()) + _RIDGE, mixed],
                [mixed, float(weights.sum()) + _RIDGE],
            ]
        )
        step, length = np.linalg.solve(curvature, gradient), 1.0
        while length > _TOLERANCE:
            nearer = slope - length * float(step[0]), offset - length * float(step[1])
            if (found := _loss(logits, targets, *nearer)) < loss:
                (slope, offset), loss = nearer, found
                break
            length /= 2
        else:
            break
    if not (np.isfinite(slope) and np.isfinite(offset) and slope > 0):
        return None
    return CalibrationHead(schema_version=1, model_digest=model_digest, slope=slope, offset=offset)


def _logits(scores: Scores) -> npt.NDArray[np.float64]:
    inner = np.clip(scores.astype(np.float64), _CLOSEST, 1 - _CLOSEST)
    return np.log(inner / (1 - inner))


def _sigmoid(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-np.clip(values, -700.0, 700.0)))


def _loss(
    logits: npt.NDArray[np.float64], targets: npt.NDArray[np.float64], slope: float, offset: float
) -> float:
    """Cross entropy, written so that nothing overflows."""
    values = slope * logits + offset
    return float((np.logaddexp(0.0, values) - targets * values).sum())
