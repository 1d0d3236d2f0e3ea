"""What a site sees of its own results: exact figures of its held-out patients, whole and by sex.

For the site's report, which never leaves it; nothing here is noised. The figures that do leave are `tasks.score`'s
counts. Which models are compared is the session's affair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from adapters.sources.cohort import Cohort
from ledger.canonical import JsonValue
from policies.data_contract import DataContract
from privacy.histogram import KINDS, SUBGROUPS
from privacy.scores import of_scores
from tasks.score import exact_auc, patient_scores, score_apart
from tasks.segmentation import Segmented, segmented
from tasks.train.calibration import CalibrationHead, fit_head

if TYPE_CHECKING:
    import torch

WHOLE = "everybody"


def scored(
    module: torch.nn.Module, cohort: Cohort, contract: DataContract, device: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Score and label of each patient of the cohort, (patient_count,) each."""
    scores = score_apart(module, cohort.inputs, device)
    return patient_scores(scores, cohort.positives(contract), cohort.patients)


def masked(module: torch.nn.Module, cohort: Cohort, contract: DataContract, device: str) -> Segmented:
    """The same where masks are learned."""
    return segmented(score_apart(module, cohort.inputs, device), cohort.targets(contract), cohort.patients)


def exact_figures(
    module: torch.nn.Module,
    cohort: Cohort,
    contract: DataContract,
    *,
    device: str,
    head: CalibrationHead | None = None,
) -> dict[str, JsonValue]:
    """Group → figure → value: of everybody, and by sex, age and race of each group that is there beside another."""
    groups = {WHOLE: np.ones(cohort.patient_count, np.bool_)}
    for kind in KINDS:
        members = cohort.told_apart(kind)
        there = {name: members == number for number, name in enumerate(SUBGROUPS[kind])}
        there = {name: part for name, part in there.items() if part.any()}
        if len(there) > 1:
            groups |= {name if kind == "sex" else f"{kind} {name}": part for name, part in there.items()}
    if contract.target == "mask":
        found = masked(module, cohort, contract, device)
        return {
            name: {**Segmented(found.dice[part], found.distance[part]).numbers()}
            for name, part in groups.items()
        }
    scores, labels = scored(module, cohort, contract, device)
    if head is not None:
        scores = head.calibrated(scores)
    return {name: {**of_scores(scores[part], labels[part]).numbers()} for name, part in groups.items()}


def judged(module: torch.nn.Module, cohort: Cohort, contract: DataContract, device: str) -> float | None:
    """The exact figure by which plans judge a model, AUC or mean Dice, of everybody; None where it is not defined."""
    if contract.target == "mask":
        return masked(module, cohort, contract, device).numbers().get("dice")
    return exact_auc(*scored(module, cohort, contract, device))


def is_at_least(theirs: float | None, own: float | None) -> bool:
    """Whether the federation's figure is no smaller than the site's own. No where one of them is not defined (nobody
    held out, or of one label alone): a site that can compare nothing answers like any other."""
    return theirs is not None and own is not None and theirs >= own


def head_of(
    module: torch.nn.Module, train: Cohort, contract: DataContract, *, device: str, model_digest: str
) -> CalibrationHead | None:
    """The site's calibration head for this model, from its training patients; none where masks are learned."""
    if contract.target == "mask":
        return None
    return fit_head(*scored(module, train, contract, device), model_digest=model_digest)


def one_class(contract: DataContract, *, training: Cohort, held_out: Cohort) -> tuple[str, ...]:
    """Which of the two has patients of one label alone, where labels are learned: for the site's report, and nowhere
    else."""
    if contract.target == "mask":
        return ()
    parts = {"training": training, "held out": held_out}
    return tuple(name for name, part in parts.items() if len(set(part.labels.tolist())) < 2)


def whole_figure(figures: JsonValue, name: str) -> JsonValue:
    """A figure of everybody; None where it is not defined."""
    everybody = figures.get(WHOLE) if isinstance(figures, dict) else None
    return everybody.get(name) if isinstance(everybody, dict) else None
