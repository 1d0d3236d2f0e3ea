"""Progress of long work, told to whoever listens in this process. Names of parties and steps, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    party: str
    step: str
    round: int = 0
    done: int = 0
    total: int = 0


Listener = Callable[[Progress], None]
_listeners: list[Listener] = []


def listen(listener: Listener) -> Callable[[], None]:
    """Call `listener` for every later step; returns what ends it."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def tell(progress: Progress) -> None:
    for listener in tuple(_listeners):
        listener(progress)
