"""How long steps take, told to whoever listens in this process: benchmarks, mostly.

`inside` is the step itself, `outside` what its caller waited for; the difference is the orchestrator's share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Timing:
    party: str
    step: str
    part: Literal["inside", "outside"]
    seconds: float


Listener = Callable[[Timing], None]
_listeners: list[Listener] = []


def listen(listener: Listener) -> Callable[[], None]:
    """Call `listener` with both parts of every later step; returns what ends it."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def tell(timing: Timing) -> None:
    for listener in tuple(_listeners):
        listener(timing)
