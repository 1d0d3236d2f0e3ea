"""What compression keeps of a model, and what it saves: bytes an update beside AUC, on real chest X-rays.

The product's own training, clipping, encoding, supports and error feedback, over four uneven sites and many short
rounds; without flows, ledger and masks, which change no lane. AUC is that of the official test split, mean of the
last five rounds. Bytes are those of a masked update: one a lane at 8 bits, two at 16, four above.
"""

from __future__ import annotations

import math
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from policies.data_contract import DataContract, Image
from policies.training import Network, Training
from privacy.accounting import curve, epsilon_micro
from privacy.encoding import Encoding, clip_l2
from privacy.error_feedback import ErrorFeedback
from privacy.mechanisms import SubsampledGaussian
from privacy.noise import NoiseStream
from privacy.packing import Lanes
from privacy.support import gather, scatter, support, support_seed

DATA: Final = Path(__file__).parents[3] / "shared" / "data" / "pneumoniamnist_28.npz"
SITES: Final = ("site-a", "site-b", "site-c", "site-d")
ROUNDS: Final = int(os.environ.get("WARDROUND_BENCH_ROUNDS", "40"))
SEEDS: Final = tuple(range(int(os.environ.get("WARDROUND_BENCH_SEEDS", "1"))))
LAST: Final = 5
CONTRACT: Final = DataContract(
    image=Image(height_px=28, width_px=28, modalities=("CR", "DX")),
    labels=(0, 1),
    minimum_patients=50,
    held_out_fraction=0.2,
)
NETWORK: Final = Network(name="Classifier", arguments={"channels": [16, 32], "strides": [2, 2]})
CLIP_L2: Final = 8.0
TRAINING: Final = Training(
    sampling_rate=0.15,
    steps=5,
    noise_multiplier=4.0,
    clip_l2=1.0,
    learning_rate=0.7,
    nominal_batch_patients=150.0,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    keep: float = 1.0
    feedback: bool = False
    lane_bits: int = 22
    narrowing: float = 1.0
    """The update's L2 bound over the bound of one coordinate."""
    clip_l2: float = CLIP_L2

    def bytes(self, dimension: int) -> int:
        return (1 if self.lane_bits <= 8 else 2 if self.lane_bits <= 16 else 4) * math.ceil(
            self.keep * dimension
        )


CASES: Final = (
    Case(),
    Case(lane_bits=16),
    Case(lane_bits=16, narrowing=32.0),
    Case(lane_bits=8),
    Case(lane_bits=8, narrowing=32.0),
    Case(lane_bits=8, narrowing=32.0, feedback=True),
    Case(keep=0.1),
    Case(keep=0.1, feedback=True),
    Case(keep=0.1, feedback=True, lane_bits=16),
    Case(keep=0.1, feedback=True, lane_bits=8, narrowing=8.0),
    Case(keep=0.01),
    Case(keep=0.01, feedback=True),
    Case(keep=0.01, feedback=True, lane_bits=16),
    Case(keep=0.01, feedback=True, lane_bits=8, narrowing=4.0),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    dimension: int
    test: tuple[float, ...]
    held_out: tuple[float, ...]


def study(case: Case, *, private: bool, seed: int, shards: str, rounds: int) -> Outcome:
    """A whole federated study in this process, on one thread."""
    import torch
    from sklearn.metrics import roc_auc_score

    from tasks.train import networks, weights
    from tasks.train.examples import Examples
    from tasks.train.private import Running, run_steps
    from tasks.train.sampling import PatientSampler

    torch.set_num_threads(1)
    sets = {name: _read(Path(shards) / f"{name}.npz") for name in (*SITES, "public-test")}
    start = networks.initial(NETWORK, CONTRACT, seed)
    model = weights.flatten(start).astype(np.float64)
    module = networks.build(NETWORK, CONTRACT)
    dimension, plan = len(model), f"{seed:064x}"
    encoding = Encoding(
        lane_bits=case.lane_bits, bound=case.clip_l2 / case.narrowing, maximum_sites=len(SITES)
    )
    pooled = tuple(
        np.concatenate([sets[name][part][~_trained_on(sets[name][part])] for name in SITES])
        for part in (0, 1)
    )
    carried = {name: ErrorFeedback(dimension, plan_digest=plan, noise="local") for name in SITES}
    previous: Lanes | None = None
    test, held_out = [], []
    for number in range(1, rounds + 1):
        base = model.astype(np.float32)
        chosen = support(dimension, case.keep, seed=support_seed(plan, number), previous=previous)
        total = np.zeros(len(chosen), dtype=np.int32)
        for name in SITES:
            images, labels = (part[_trained_on(part)] for part in sets[name])
            networks.load(module, weights.unflatten(base, start))
            with NoiseStream() as stream:
                sampler = PatientSampler(np.arange(len(images)), rate=TRAINING.sampling_rate, noise=stream)
                examples = Examples(images, labels.astype(np.float32), np.arange(len(images)))
                run_steps(
                    module,
                    examples,
                    sampler,
                    training=TRAINING,
                    noise=stream if private else None,
                    running=Running(),
                )
                corrected = weights.flatten(networks.extract(module)) - base
                if case.feedback:
                    corrected = carried[name].take(corrected)
                values = clip_l2(gather(corrected, chosen), case.clip_l2)
                values = np.clip(values, -encoding.bound, encoding.bound)
                lanes = encoding.encode(values, stream)
            if case.feedback:
                carried[name].keep(corrected, encoding.decode_sum(lanes, sites=1), chosen)
            total += lanes
        mean = encoding.decode_sum(total, sites=len(SITES)) / len(SITES)
        model = model + scatter(mean, chosen, dimension)
        previous = scatter(total, chosen, dimension)
        networks.load(module, weights.unflatten(model.astype(np.float32), start))
        module.eval()
        with torch.no_grad():
            for told, (images, labels) in ((test, sets["public-test"]), (held_out, pooled)):
                told.append(float(roc_auc_score(labels, module(torch.from_numpy(images)).numpy())))
    return Outcome(dimension, tuple(test), tuple(held_out))


def _trained_on(rows: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    return np.arange(len(rows)) % 5 != 0


def _read(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    with np.load(path) as stored:
        images = stored["images"].astype(np.float32)[:, None] / 255.0
        return images, stored["labels"].astype(np.int64).reshape(-1)


@pytest.mark.benchmark(group="compression")
@pytest.mark.skipif(not DATA.exists(), reason="the real chest X-rays are not beside this checkout")
@pytest.mark.parametrize("private", [False, True], ids=["no-noise", "noise"])
def test_bytes_and_accuracy_kept(benchmark: BenchmarkFixture, tmp_path: Path, private: bool) -> None:
    from adapters.sources.medmnist import write_shards

    shards = tmp_path / "shards"
    write_shards(DATA, sites=SITES, seed=0, out=shards)
    spawn = multiprocessing.get_context("spawn")

    def all_cases() -> dict[Case, list[Outcome]]:
        with ProcessPoolExecutor(os.cpu_count(), mp_context=spawn) as pool:
            told = {
                case: [
                    pool.submit(study, case, private=private, seed=seed, shards=str(shards), rounds=ROUNDS)
                    for seed in SEEDS
                ]
                for case in CASES
            }
            return {case: [one.result() for one in futures] for case, futures in told.items()}

    outcomes = benchmark.pedantic(all_cases, rounds=1)
    noise = "no noise"
    if private:
        whole = SubsampledGaussian(
            noise_multiplier=TRAINING.noise_multiplier,
            sampling_rate=TRAINING.sampling_rate,
            steps=TRAINING.steps * ROUNDS,
        )
        noise = f"epsilon {epsilon_micro(curve(whole), 1e-5) / 1e6:.2f} a site"
    plain = outcomes[CASES[0]]
    full = CASES[0].bytes(plain[0].dimension)
    print(f"\n{ROUNDS} rounds of {TRAINING.steps} steps, {len(SITES)} sites, {noise}, seeds {len(SEEDS)}")
    print(
        "  keep  feedback lane bits  coordinate bound   bytes  of plain   test  held out  the same at 10 rounds"
    )
    for case, found in outcomes.items():
        size = case.bytes(found[0].dimension)
        figures = (
            np.mean([one.test[-LAST:] for one in found]),
            np.mean([one.held_out[-LAST:] for one in found]),
        )
        early = (np.mean([one.test[9] for one in found]), np.mean([one.held_out[9] for one in found]))
        print(
            f"  {case.keep:<5} {'yes' if case.feedback else 'no':<8} {case.lane_bits:<10}"
            f" clip / {case.narrowing:<10g} {size:>6,} {size / full:>8.4f}"
            f"   {figures[0]:.3f}  {figures[1]:.3f}     {early[0]:.3f}  {early[1]:.3f}"
        )
    benchmark.extra_info["auc"] = {
        repr(case): [list(one.test) for one in found] for case, found in outcomes.items()
    }
