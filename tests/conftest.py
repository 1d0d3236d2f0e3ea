"""Fixtures that the whole suite shares."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.soft_token import SoftTokens

# Before anything imports Prefect, MLflow or Great Expectations: quiet, and nothing sent anywhere.
os.environ.update(
    DO_NOT_TRACK="true",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    MLFLOW_DISABLE_TELEMETRY="true",
    GX_ANALYTICS_ENABLED="false",
)


def pytest_configure(config: pytest.Config) -> None:
    """Tests of one `xdist_group` share a worker, so that not every worker imports everything."""
    if getattr(config.option, "dist", "no") == "load":
        config.option.dist = "loadgroup"


@pytest.fixture
def soft_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftTokens]:
    """The test's own folder of PKCS #11 tokens, none made yet."""
    from tests.soft_token import SoftTokens

    folder = tmp_path / "soft-tokens"
    folder.mkdir()
    tokens = SoftTokens(folder, monkeypatch)
    yield tokens
    tokens.stop()
