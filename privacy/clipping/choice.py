"""Whether a layer forms each patient's gradient, or takes only its norm (mixed ghost clipping, Bu et al. 2022,
arXiv:2205.10683), by the shapes of the layer.

*Kept*: each patient's weight gradient is formed and kept, its norm taken from it, and the clipped sum is one product
with the factors. *Ghost*: the norm comes from Gram matrices of inputs and output gradients, which are kept, and the
clipped sum is one ordinary weight gradient of scaled output gradients. Either forms a weight gradient once.

Beside that, keeping costs a write and a read of every patient's weights, more where one patient's do not fit the
second-level cache, and the Grams cost their multiplications. Both counts are a patient's:

    kept      weights * (12, or 48 from 2^17 weights on)
    ghost     gram = positions_in^2 channels_in + positions_out^2 (channels_out + kernel)

The factors are measured on one CPU core with convolutions of 9 thousand to 2.4 million weights: 0.1 ns a
multiplication in float64, 1.3 ns and 6 ns a weight. Whatever the time, memory is to stay that of an ordinary step:
Gram matrices are not formed where they outweigh all that either way keeps of the layer (they grow with the square of
the positions, so that an image of 96 x 96 under one large kernel has 85 million), and else weights are not kept where
they outweigh by far the inputs and output gradients that ghost keeps.
"""

from __future__ import annotations

from typing import Final

_CACHED: Final = 1 << 17
_PER_WEIGHT: Final = 12
_PER_WEIGHT_UNCACHED: Final = 48
_MOST_KEPT: Final = 4.0
_PER_PAIR: Final = 2
"""Grams are in float64, the rest mostly in float32."""


def ghost_is_cheaper(*, gram: int, pairs: int, weights: int, activations: int) -> bool:
    """`gram` multiplications for the Gram matrices and `pairs` numbers in them, `weights` numbers of a weight
    gradient, `activations` numbers of inputs and output gradients, all of one patient."""
    if _PER_PAIR * pairs > weights + activations:
        return False
    per_weight = _PER_WEIGHT if weights <= _CACHED else _PER_WEIGHT_UNCACHED
    return gram <= per_weight * weights or weights > _MOST_KEPT * activations
