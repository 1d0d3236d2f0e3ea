"""Fixtures that the whole suite shares."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from _pytest.nodeid import coerce_node_id
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.postgresql_server import PostgresqlServer
    from tests.soft_token import SoftTokens

# Before anything imports Prefect, MLflow or Great Expectations: quiet, and nothing sent anywhere.
os.environ.update(
    DO_NOT_TRACK="true",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    MLFLOW_DISABLE_TELEMETRY="true",
    GX_ANALYTICS_ENABLED="false",
)


# How long an example takes says nothing here: other tests share the processor.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "thorough", settings.get_profile("untimed"), max_examples=300, stateful_step_count=60
)
if settings.get_current_profile_name() == "default":  # else `--hypothesis-profile` chose
    settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Tests of one `xdist_group` share a worker, so that not every worker imports everything."""
    if getattr(config.option, "dist", "no") == "load":
        config.option.dist = "loadgroup"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Name each test's group in its id, where the controller finds it. pytest-xdist 3.8.0 does so only under
    `--dist loadgroup` on the command line, and then where pytest 9.2.0 no longer looks. What is marked `slow`, for it
    runs whole services or takes minutes, is left to `make slow`."""
    if "slow" not in (config.option.markexpr or ""):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: run with -m slow"))
    for item in items if hasattr(config, "workerinput") else ():
        group = item.get_closest_marker("xdist_group")
        if group is not None:
            item._id = coerce_node_id(f"{item.nodeid}@{group.args[0]}")


@pytest.fixture(autouse=True)
def _weights_of_its_own() -> None:
    """A network that a test makes has the same weights whichever tests its worker ran before. Noise and sampling are
    not touched: they come from the operating system."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgresqlServer]:
    """One for the session, started when first asked for. Tests that use it belong to the xdist group
    "postgresql", so that one worker alone starts one."""
    from tests.postgresql_server import PostgresqlServer

    server = PostgresqlServer()
    yield server
    server.stop()


@pytest.fixture
def soft_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftTokens]:
    """The test's own folder of PKCS #11 tokens, none made yet."""
    from tests.soft_token import SoftTokens

    folder = tmp_path / "soft-tokens"
    folder.mkdir()
    tokens = SoftTokens(folder, monkeypatch)
    yield tokens
    tokens.stop()
