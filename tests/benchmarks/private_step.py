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

import torch
from torch import Tensor, nn

from privacy.clipping.clipped_sum import ClippedSum
from tasks.train.networks.item_network import OutOfPlace
from tests.privacy.clipping.test_networks import without_batch_norm

NETWORKS: Final = ("ResNet18", "DenseNet121", "UNet", "SegResNet")
WAYS: Final = ("not private", "ours", "hooks", "ghost")
Step = Callable[[], None]


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
    return without_batch_norm(module), batch


def step(name: str, way: str) -> Step:
    """Forward, backward and, where private, the clipped sum; neither noise nor the optimiser's move. One patient an
    item, since Opacus knows no other."""
    module, inputs = network(name)
    targets = torch.rand(len(inputs))

    def losses(outputs: Tensor) -> Tensor:
        logits = outputs.flatten(1)
        wanted = targets.unsqueeze(1).expand_as(logits)
        return nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(1)

    if way == "not private":

        def plain() -> None:
            module.zero_grad()
            losses(module(inputs)).mean().backward()

        return plain
    if way == "ours":
        total, patients = ClippedSum(module, clip_l2=1.0), [1] * len(inputs)

        def ours() -> None:
            total.add(inputs, losses, patients)
            total.take()

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
