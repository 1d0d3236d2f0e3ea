"""torch's own generator, for the length of a training: views and dropout draw from it.

What they draw protects nobody by being secret, but it must not be fixed: one patient more shifts what all others
draw, so that with known draws that patient would move everybody's gradients, and not just one clip. With draws that
nobody knows, the others' are distributed alike whoever is there. A library that seeds torch in this process, as many
do for the sake of repeatability, would fix them; so a training begins with a seed of its noise stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from privacy.noise import NoiseStream


@contextmanager
def freshly_seeded(noise: NoiseStream, device: torch.device | str) -> Iterator[None]:
    """Within, torch draws under a seed of 64 bits that nobody knows; afterwards as if nothing had been."""
    here = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=here):
        torch.manual_seed(int(noise.words(1)[0]))
        yield
