"""A sweep over ε, clip and rounds: what a plan's network learns at each point, from data that nobody lived.

Every point on patients would be a release, and charged. Here no patient is read: the data follow from the plan's
contract and seed (`adapters.sources.drawn_table` for rows, `stand_in` for images), so that a sweep is free and
anybody can repeat it. Its figures say which point is better, and nothing about how good a model of patients will be.

One machine takes the steps that the plan's smallest set of sites would take together: a step's gradient is the mean
over patients of their clipped gradients, with the noise that the sum of the sites' updates would carry. Left out are
differences between sites, what a server's optimiser adds, compression and rounding. Figures are of exact scores.

At each ε the plan has the noise of `tasks.rollout.operating_point`. The noise drawn here protects nobody and comes
from a seed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
import torch

from adapters.home import write_atomically
from adapters.sources.drawn_table import drawn_rows
from adapters.sources.stand_in import StandInSource
from policies.plan import Plan
from tasks.rollout.operating_point import NoSuchPointError, clipped_at, priced
from tasks.rollout.sweep_plot import sweep_svg
from tasks.score import exact_auc, patient_scores, score
from tasks.segmentation import segmented
from tasks.train import networks
from tasks.train.examples import Examples
from tasks.train.patient_gradients import PatientGradients

EPSILONS: Final = (1.0, 2.0, 4.0, 8.0)
FACTORS: Final = (0.5, 1.0, 2.0)
"""Of the plan's own clip and rounds."""
REPEATS: Final = 3
CSV, SVG = "sweep.csv", "sweep.svg"
MOST_IMAGES: Final = 600
_HELD_OUT: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    epsilon: float
    """The most that the plan may cost, its evaluations included, at its δ."""
    clip_l2: float
    rounds: int
    noise_multiplier: float
    """Of training, with which it costs no more."""
    evaluation_noise_std: float
    figures: tuple[float, ...]
    """AUC, or mean Dice, on stand-in patients held out; one a repetition of the noise."""

    @property
    def figure(self) -> float:
        return float(np.mean(self.figures))


def sweep(
    plan: Plan,
    out: Path,
    *,
    epsilons: Sequence[float] = EPSILONS,
    repeats: int = REPEATS,
    on_point: Callable[[int, int], None] | None = None,
) -> tuple[Point, ...]:
    """Every point of the grid that a plan can have, in order, written to `out` as CSV and SVG, the same bytes for the
    same plan. Points whose noise no plan may have, or whose lanes cannot carry it, are left out.

    `on_point` is told (done, of how many). Raises InputError (sweep.nothing) if no point is left.
    """
    torch.set_num_threads(1)
    epsilons = sorted(set(epsilons))
    train, test = _stand_ins(plan)
    rounds = sorted({max(1, round(plan.rounds * factor)) for factor in FACTORS})
    clips = [plan.training.clip_l2 * factor for factor in FACTORS]
    grid = list(product(rounds, clips, epsilons))
    prices = {
        (number, epsilon): priced(plan, rounds=number, epsilon=epsilon)
        for number in rounds
        for epsilon in epsilons
    }
    points = list[Point]()
    with ExitStack() as opened:
        benches = {clip: opened.enter_context(closing(_Bench(plan, clip, train))) for clip in clips}
        for done, (number, clip, epsilon) in enumerate(grid, start=1):
            found = prices[number, epsilon]
            made = None if found is None else clipped_at(found, clip)
            if made is not None:
                figures = [benches[clip].learned(made, test, seed=(plan.seed, one)) for one in range(repeats)]
                points.append(
                    Point(
                        epsilon=epsilon,
                        clip_l2=clip,
                        rounds=number,
                        noise_multiplier=made.training.noise_multiplier,
                        evaluation_noise_std=made.evaluation.noise_std,
                        figures=tuple(figures),
                    )
                )
            if on_point is not None:
                on_point(done, len(grid))
    if not points:
        raise NoSuchPointError(
            "no point of the sweep is a plan",
            remedy="See `wardround plan validate`; lower budget.delta's demands or ask for more epsilon.",
        )
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / CSV, _csv(plan, points).encode())
    write_atomically(out / SVG, sweep_svg(plan, points))
    return tuple(points)


def _stand_ins(plan: Plan) -> tuple[Examples, Examples]:
    """(train, held out): as many rows as the plan's constants say that its smallest set of sites trains on; of images
    no more than MOST_IMAGES, as they take their time."""
    terms = plan.training
    sites = plan.participation.minimum_sites
    expected = int(sites * terms.nominal_batch_patients / terms.sampling_rate)
    if plan.data.table is not None:
        count = min(max(expected, plan.minimum_patients), 20_000)
        known = plan.network.arguments.get("prevalence", 0.5)
        inputs, targets = drawn_rows(
            plan.data.table,
            count=count + _HELD_OUT,
            prevalence=float(known) if isinstance(known, float) else 0.5,
            seed=plan.seed,
        )
    else:
        cohort = StandInSource(site="sweep").load(plan.data)
        inputs, targets = cohort.inputs, cohort.targets(plan.data)
        count = min(len(inputs) // 2, max(expected, plan.minimum_patients), MOST_IMAGES)
        inputs, targets = inputs[: 2 * count], targets[: 2 * count]
    patients = np.arange(len(inputs), dtype=np.int64)
    return (
        Examples(inputs[:count], targets[:count], patients[:count]),
        Examples(inputs[count:], targets[count:], patients[count:]),
    )


class _Bench:
    """One network and one clip, trained again and again from the plan's first weights."""

    def __init__(self, plan: Plan, clip_l2: float, train: Examples) -> None:
        self._first = networks.initial(plan.network, plan.data, plan.seed)
        self._module = networks.loaded(plan.network, plan.data, self._first)
        terms = plan.training.model_copy(update={"clip_l2": clip_l2})
        self._gradients = PatientGradients(self._module, train, training=terms, device="cpu")
        self._items = [np.array([number], dtype=np.int64) for number in range(len(train.patients))]

    def close(self) -> None:
        self._gradients.close()

    def learned(self, plan: Plan, test: Examples, *, seed: tuple[int, int]) -> float:
        """AUC or mean Dice after all rounds; 0 of what diverged."""
        random = np.random.default_rng(seed)
        torch.manual_seed(int(random.integers(2**31)))
        networks.load(self._module, self._first)
        self._module.train()
        parameters = [parameter for parameter in self._module.parameters() if parameter.requires_grad]
        for _ in range(plan.rounds * plan.training.steps):
            networks.refresh_all(self._module)
            self._step(plan, parameters, random)
            networks.pull_back_all(self._module)
        if not all(bool(torch.isfinite(parameter).all()) for parameter in parameters):
            return 0.0
        scores = score(self._module, test.inputs)
        if plan.data.target == "mask":
            return float(segmented(scores, test.targets, test.patients).dice.mean())
        return exact_auc(*patient_scores(scores, test.targets.astype(np.int64), test.patients)) or 0.0

    def _step(
        self, plan: Plan, parameters: Sequence[torch.nn.Parameter], random: np.random.Generator
    ) -> None:
        terms = plan.training
        drawn = np.flatnonzero(random.random(len(self._items)) < terms.sampling_rate)
        sums = self._gradients.clipped([self._items[number] for number in drawn])
        batch = max(1.0, terms.sampling_rate * len(self._items))
        rate = terms.learning_rate * plan.update.server_learning_rate
        with torch.no_grad():
            for parameter, part in zip(parameters, sums, strict=True):
                noise = torch.from_numpy(random.normal(0.0, _noise_std(plan), tuple(parameter.shape)))
                parameter.sub_(rate * (part.view_as(parameter) / batch + noise.to(parameter.dtype)))


def _noise_std(plan: Plan) -> float:
    """Of the noise on one step's mean gradient, over the plan's smallest set of sites: with local noise each site has
    its own on its sum, with distributed noise the shares of all sites lie on the sum of all."""
    terms, sites = plan.training, plan.participation.minimum_sites
    one = terms.noise_multiplier * terms.clip_l2 / terms.nominal_batch_patients
    if terms.noise == "local":
        return float(one / sites**0.5)
    return float(one / sites * float(Fraction(sites, sites - terms.colluding)) ** 0.5)


def _csv(plan: Plan, points: Sequence[Point]) -> str:
    stored = io.StringIO()
    table = csv.writer(stored, lineterminator="\n")
    table.writerow(
        ["data", "epsilon", "delta", "clip_l2", "rounds", "noise_multiplier", "evaluation_noise_std",
         plan.figure.lower(), "lowest", "highest"]
    )  # fmt: skip
    for point in points:
        table.writerow(
            ["synthetic", f"{point.epsilon:g}", f"{plan.budget.delta:g}", f"{point.clip_l2:g}", point.rounds,
             f"{point.noise_multiplier:g}", f"{point.evaluation_noise_std:g}", f"{point.figure:.4f}",
             f"{min(point.figures):.4f}", f"{max(point.figures):.4f}"]
        )  # fmt: skip
    return stored.getvalue()
