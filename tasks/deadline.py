"""A deadline that several waits share. Monotonic; says nothing about what passes with it."""

from __future__ import annotations

import time


class Deadline:
    def __init__(self, after_s: float) -> None:
        self._at = time.monotonic() + after_s

    def left_s(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self._at - time.monotonic())
