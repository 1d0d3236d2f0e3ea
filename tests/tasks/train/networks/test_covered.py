"""The covered networks: what goes in, what comes out, what was changed, and that nothing else was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from privacy.clipping.clipped_sum import ClippedSum
from privacy.clipping.registry import COVERED as COVERED_LAYERS
from tasks.train import networks
from tasks.train.networks import dp_ready
from tasks.train.networks.building import _construct
from tests.tasks.train.networks.covered import COVERED, Covered

every = pytest.mark.parametrize("one", COVERED, ids=lambda one: one.label)


def items(one: Covered, count: int = 2) -> torch.Tensor:
    return torch.rand(count, *one.data.shape, generator=torch.Generator().manual_seed(3))


@every
def test_one_logit_an_item_or_a_pixel(one: Covered) -> None:
    module = networks.build(one.network, one.data).eval()
    with torch.no_grad():
        logits = module(items(one))
    assert logits.shape == ((2, 1, *one.data.shape[1:]) if one.data.target == "mask" else (2,))
    assert torch.isfinite(logits).all() and not torch.equal(logits[0], logits[1])


@every
def test_what_was_changed_is_reported(one: Covered) -> None:
    readiness = networks.examine(one.network, one.data)
    assert len(readiness.replaced) == one.norms and readiness.out_of_place == one.out_of_place
    assert all(change.path.endswith(one.frozen or ("no",)) for change in readiness.frozen)
    assert bool(readiness.frozen) == bool(one.frozen)

    module = networks.build(one.network, one.data)
    held = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    assert held == {change.path for change in readiness.frozen}
    for part in module.modules():
        assert not isinstance(part, nn.modules.batchnorm._BatchNorm)
        if any(parameter.requires_grad for parameter in part.parameters(recurse=False)):
            assert isinstance(part, COVERED_LAYERS)


@every
def test_before_norms_are_replaced_outputs_are_the_original_s(
    one: Covered, monkeypatch: pytest.MonkeyPatch
) -> None:
    readiness = networks.examine(one.network, one.data)
    monkeypatch.setattr(dp_ready, "_replace_norms", lambda network, norm_groups: [])
    torch.manual_seed(5)
    original = _construct(one.network, one.data).eval()
    torch.manual_seed(5)
    ready = _construct(one.network, one.data)
    readiness.apply(ready, norm_groups=4)
    assert ready.out_of_place == one.out_of_place
    assert not any(getattr(part, "inplace", False) for part in ready.modules())
    with torch.no_grad():
        torch.testing.assert_close(ready.eval()(items(one)), original(items(one)), atol=1e-6, rtol=1e-6)


@every
def test_weights_go_out_and_in(one: Covered) -> None:
    weights = networks.initial(one.network, one.data, 7)
    module = networks.loaded(one.network, one.data, weights)
    back = networks.extract(module)
    assert weights.keys() == back.keys() == networks.template(one.network, one.data).keys()
    assert all(np.array_equal(weights[name], back[name]) for name in weights)
    again = networks.initial(one.network, one.data, 7)
    assert all(np.array_equal(weights[name], again[name]) for name in weights)


@every
def test_its_patients_are_clipped_in_one_pass(one: Covered) -> None:
    module = networks.build(one.network, one.data).train()
    clipped = ClippedSum(module, clip_l2=0.1)
    clipped.add(items(one), lambda logits: 100 * logits.reshape(len(logits), -1).square().mean(1), [2])
    sums = clipped.take()
    clipped.close()
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    assert [part.shape for part in sums] == [parameter.shape for parameter in trained]
    norm = float(torch.cat([part.flatten() for part in sums]).norm())
    assert 0 < norm <= 0.1 * (1 + 1e-6)
