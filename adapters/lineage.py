"""Lineage in MLflow: one run a plan, one registered model version a passed round, each leading to the ledger.

MLflow's file store is gone, so a SQLite store and an artifact folder in the coordinator's home; set
MLFLOW_TRACKING_URI to use a server. Datasets are named by the keyed commitments of the receipts, never by a
digest of data. Imported late: mlflow takes seconds. Nothing here decides anything.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL_FILE = "model.safetensors"
CARD_FILE = "model-card.md"
ALIAS = "candidate"
CHAMPION_ALIAS = "champion"


@dataclass(frozen=True, slots=True)
class ModelVersion:
    name: str
    version: int


def folder_of(round_number: int) -> str:
    """Of a round, among the run's artifacts."""
    return f"round-{round_number}"


def store_uri(home: Path) -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"


def name_champion(home: Path, model_name: str, version: int | None) -> None:
    """Let the alias `champion` name this version, or nothing. The same again changes nothing. Blocking."""
    client = _client(home)
    named = _champion(client, model_name)
    if version is not None and named != version:
        client.set_registered_model_alias(model_name, CHAMPION_ALIAS, str(version))
    elif version is None and named is not None:
        client.delete_registered_model_alias(model_name, CHAMPION_ALIAS)


def champion_version(home: Path, model_name: str) -> int | None:
    """The version that the alias `champion` names. Blocking."""
    return _champion(_client(home), model_name)


def _champion(client: MlflowClient, model_name: str) -> int | None:
    aliases: Mapping[str, str] = client.get_registered_model(model_name).aliases
    return int(aliases[CHAMPION_ALIAS]) if CHAMPION_ALIAS in aliases else None


def _client(home: Path) -> MlflowClient:
    logging.getLogger("alembic").setLevel(logging.ERROR)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=store_uri(home), registry_uri=store_uri(home))


class Lineage:
    """One MLflow run. Blocking: call it from a thread."""

    def __init__(self, client: MlflowClient, run_id: str, model_name: str) -> None:
        self._client, self.run_id, self._model_name = client, run_id, model_name
        self._known = False

    @classmethod
    def open(
        cls,
        home: Path,
        *,
        experiment: str,
        run_name: str,
        tags: Mapping[str, str],
        parameters: Mapping[str, str],
    ) -> Lineage:
        """Continue the run that carries the same `wardround.plan_digest` tag, or begin one."""
        logging.getLogger("alembic").setLevel(logging.ERROR)
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        from mlflow import MlflowClient
        from mlflow.entities import Param

        client = MlflowClient(tracking_uri=store_uri(home), registry_uri=store_uri(home))
        found = client.get_experiment_by_name(experiment)
        experiment_id = (
            client.create_experiment(experiment, artifact_location=(home / "artifacts").as_uri())
            if found is None
            else found.experiment_id
        )
        digest = tags["wardround.plan_digest"]
        runs = client.search_runs([experiment_id], filter_string=f"tags.`wardround.plan_digest` = '{digest}'")
        if runs:
            run_id = runs[0].info.run_id
            client.set_terminated(run_id, status="RUNNING")
        else:
            run_id = client.create_run(experiment_id, run_name=run_name, tags=dict(tags)).info.run_id
            client.log_batch(run_id, params=[Param(key, value) for key, value in parameters.items()])
        return cls(client, str(run_id), experiment)

    def log_round(self, round_number: int, metrics: Mapping[str, float], datasets: Mapping[str, str]) -> None:
        """Metrics at step `round_number`; datasets are {site: commitment}."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric

        now_ms = int(time.time() * 1000)
        self._client.log_batch(
            self.run_id, metrics=[Metric(key, value, now_ms, round_number) for key, value in metrics.items()]
        )
        inputs = [
            DatasetInput(
                Dataset(name=site, digest=commitment[:36], source_type="wardround", source=commitment),
                [InputTag("wardround.round", str(round_number))],
            )
            for site, commitment in datasets.items()
        ]
        self._client.log_inputs(self.run_id, inputs)

    def log_files(self, place: str, files: Mapping[str, bytes]) -> None:
        """Keep files beside the run, in the folder `place` of its artifacts; "" is the topmost."""
        with tempfile.TemporaryDirectory() as folder:
            for name, data in files.items():
                (Path(folder) / name).write_bytes(data)
            self._client.log_artifacts(self.run_id, folder, place or None)

    def register(
        self, round_number: int, model: bytes, card: str, *, tags: Mapping[str, str]
    ) -> ModelVersion:
        """Store the model and its card as artifacts and register a version, which becomes the candidate."""
        place = folder_of(round_number)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / MODEL_FILE).write_bytes(model)
            (Path(folder) / CARD_FILE).write_text(card)
            self._client.log_artifacts(self.run_id, folder, place)
        self._know_model()
        made = self._client.create_model_version(
            self._model_name,
            source=f"{self._client.get_run(self.run_id).info.artifact_uri}/{place}",
            run_id=self.run_id,
            tags=dict(tags),
        )
        self._client.set_registered_model_alias(self._model_name, ALIAS, made.version)
        return ModelVersion(self._model_name, int(made.version))

    def _know_model(self) -> None:
        """Create the registered model once; another plan of the study may have done so."""
        from mlflow.exceptions import MlflowException

        if self._known:
            return
        try:
            self._client.create_registered_model(self._model_name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        self._known = True

    def tag_version(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self._client.set_model_version_tag(version.name, str(version.version), key, value)

    def finish(self, *, passed: bool) -> None:
        self._client.set_terminated(self.run_id, status="FINISHED" if passed else "FAILED")
