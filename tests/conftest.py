"""Fixtures that the whole suite shares."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

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
