"""One training step of a MONAI network, not private or private in one of three ways; as a program, its peak memory.

    python -m tests.benchmarks.private_step NETWORK WAY

prints by how many MiB the resident memory of a fresh process grew during two steps, at most: activations, gradients
and what clipping keeps, but neither torch nor the weights.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from policies.training import Training
from tasks.train.examples import Examples
from tasks.train.losses import item_losses
from tasks.train.networks.item_network import OutOfPlace
from tasks.train.patient_gradients import PatientGradients
from tests.privacy.clipping.test_networks import without_batch_norm

NETWORKS: Final = ("ResNet18", "DenseNet121", "UNet", "SegResNet")
WAYS: Final = ("not private", "ours", "hooks", "ghost")
Step = Callable[[], None]
_TRAINING: Final = Training(
    sampling_rate=1.0,
    steps=1,
    noise_multiplier=1.0,
    clip_l2=1.0,
    learning_rate=0.1,
    nominal_batch_patients=32.0,
)


class Logits(nn.Module):
    """What `item_losses` takes: one number an item, or a mask as it is."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, items: Tensor) -> Tensor:
        found: Tensor = self.network(items)
        return found.squeeze(1) if found.dim() == 2 else found


def network(name: str) -> tuple[nn.Module, Tensor]:
    """With group norm, and a batch: 32 images of 64 x 64, or 4 volumes of 32^3."""
    from monai.networks.nets.densenet import DenseNet121
    from monai.networks.nets.resnet import resnet18
    from monai.networks.nets.segresnet import SegResNet
    from monai.networks.nets.unet import UNet

    torch.manual_seed(0)
    if name == "ResNet18":
        module: nn.Module = resnet18(spatial_dims=2, n_input_channels=1, num_classes=1)
    elif name == "DenseNet121":
        module = DenseNet121(spatial_dims=2, in_channels=1, out_channels=1)
    elif name == "UNet":
        module = UNet(
            spatial_dims=3,
            in_channels=1,
            out_channels=1,
            channels=(16, 32, 64, 128),
            strides=(2, 2, 2),
            num_res_units=2,
            norm="batch",
        )
    else:
        module = SegResNet(spatial_dims=3, init_filters=16, in_channels=1, out_channels=1)
    batch = (
        torch.randn(32, 1, 64, 64) if name in ("ResNet18", "DenseNet121") else torch.randn(4, 1, 32, 32, 32)
    )
    return Logits(without_batch_norm(module)), batch


def step(name: str, way: str) -> Step:
    """Forward, backward and, where private, the clipped sum; neither noise nor the optimiser's move. One patient an
    item, since Opacus knows no other. `ours` is what a site runs, in passes as long as its memory limit allows."""
    module, inputs = network(name)
    targets = torch.rand(len(inputs)) if inputs.dim() == 4 else torch.rand_like(inputs)

    def losses(logits: Tensor) -> Tensor:
        return item_losses(logits, targets)

    if way == "not private":

        def plain() -> None:
            module.zero_grad()
            losses(module(inputs)).mean().backward()

        return plain
    if way == "ours":
        patients = np.arange(len(inputs))
        drawn = [patients[one : one + 1] for one in patients]

        made: list[PatientGradients] = []

        def ours() -> None:
            if not made:  # Within the first step, since it measures with passes that are memory too.
                examples = Examples(inputs.numpy(), targets.numpy(), patients)
                made.append(PatientGradients(module, examples, training=_TRAINING, device="cpu"))
            made[0].clipped(drawn)

        return ours
    return _opacus(module, inputs, losses, ghost=way == "ghost")


def _opacus(module: nn.Module, inputs: Tensor, losses: Callable[[Tensor], Tensor], *, ghost: bool) -> Step:
    """As MONAI's networks need it: nothing in place."""
    from opacus.grad_sample import GradSampleModule, GradSampleModuleFastGradientClipping
    from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
    from opacus.utils.fast_gradient_clipping_utils import DPTensorFastGradientClipping

    warnings.filterwarnings("ignore")
    for part in module.modules():
        if hasattr(part, "inplace"):
            part.inplace = False
    plain = torch.optim.SGD(module.parameters(), lr=0.1)
    shared = {"noise_multiplier": 0.0, "max_grad_norm": 1.0, "expected_batch_size": len(inputs)}
    if ghost:
        hooked = GradSampleModuleFastGradientClipping(module, max_grad_norm=1.0)
        optimizer = DPOptimizerFastGradientClipping(plain, **shared)
    else:
        hooked, optimizer = GradSampleModule(module), DPOptimizer(plain, **shared)

    def private() -> None:
        optimizer.zero_grad()
        with OutOfPlace():
            each = losses(hooked(inputs))
        if ghost:
            DPTensorFastGradientClipping(hooked, optimizer, each, "mean").backward()
        else:
            each.mean().backward()
            optimizer.clip_and_accumulate()

    return private


def _resident_kib(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1])


def main() -> None:
    torch.set_num_threads(1)
    run = step(sys.argv[1], sys.argv[2])
    before = _resident_kib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # The peak begins anew.
    for _ in range(2):
        run()
    print((_resident_kib("VmHWM") - before) / 1024)


if __name__ == "__main__":
    main()
