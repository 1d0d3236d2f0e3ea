"""Whether a layer forms each patient's gradient, or takes only its norm (mixed ghost clipping, Bu et al. 2022,
arXiv:2205.10683), by the shapes of the layer.

*Kept*: each patient's weight gradient is formed and kept, its norm taken from it, and the clipped sum is one product
with the factors. *Ghost*: the norm comes from Gram matrices of inputs and output gradients, which are kept, and the
clipped sum is one ordinary weight gradient of scaled output gradients. Either forms a weight gradient once.

Beside that, keeping costs a write and a read of every patient's weights, and the Grams cost their multiplications.
Both counts are a patient's:

    kept      weights * _PER_WEIGHT
    ghost     gram                            (positions_in^2 channels_in + positions_out^2 (channels_out + kernel))

_PER_WEIGHT is measured on four CPU cores with convolutions of 9 thousand to 2.4 million weights: 1 to 6 ns a weight
beside 0.06 ns a multiplication in float64. Whatever the time, weights are not kept where they outweigh by far the
inputs and output gradients that ghost keeps: memory is to stay that of an ordinary step.
"""

from __future__ import annotations

from typing import Final

_PER_WEIGHT: Final = 24
_MOST_KEPT: Final = 3.0


def ghost_is_cheaper(*, gram: int, weights: int, activations: int) -> bool:
    """`gram` multiplications for the Gram matrices, `weights` numbers of a weight gradient, `activations` numbers of
    inputs and output gradients, all of one patient."""
    return gram <= _PER_WEIGHT * weights or weights > _MOST_KEPT * activations
