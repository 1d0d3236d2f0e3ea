"""Fixtures that the whole suite shares."""

from __future__ import annotations

import os

# Before anything imports Prefect, MLflow or Great Expectations: quiet, and nothing sent anywhere.
os.environ.update(
    DO_NOT_TRACK="true",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_LOGGING_TO_CONSOLE="false",
    MLFLOW_DISABLE_TELEMETRY="true",
    GX_ANALYTICS_ENABLED="false",
)
