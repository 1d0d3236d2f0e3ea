"""Real parts that tests bring up, and what happens without them: a visible skip, or a failure where CI asked."""

from __future__ import annotations

import os

import pytest


def need(part: str, present: object, *, package: str) -> None:
    """Skip the test if a part is missing; fail it if WARDROUND_TEST_REQUIRE names the part."""
    if present:
        return
    message = f"{part} is not installed (Debian package {package})"
    if part in os.environ.get("WARDROUND_TEST_REQUIRE", "").split(","):
        pytest.fail(message)
    pytest.skip(message)
