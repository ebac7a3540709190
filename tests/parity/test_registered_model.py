"""A registered model: MLflow loads it as a function of text and as a pipeline of transformers; the same content is one version."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from test_huggingface_export import TOKENS, built
from training_helper import write_model

from ernie_core.errors import RecipeError
from pipelines import registered
from pipelines.outbox import tracking_uri
from pipelines.registered import check_register, register
from pipelines.tracked_run import open_run, ship_rest

pytestmark = pytest.mark.parity


def test_a_registered_model_fills_text_by_its_alias(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    uri, step = tracking_uri(str(tmp_path), None), tmp_path / "demo" / "pretrain"
    run = open_run(uri=uri, experiment="ernie", name="demo-pretrain", folder=step, tags={}, params={})
    write_model(step / "model", built(False, {}), TOKENS)
    run.finish("FINISHED")
    for _ in range(2):
        register(step, "tiny")
        ship_rest(step)
    client = MlflowClient(tracking_uri=uri)
    (version,) = client.search_model_versions("name = 'tiny'")
    assert client.get_model_version_by_alias("tiny", "newest").version == version.version
    assert version.run_id == run.run_id
    monkeypatch.setattr(mlflow.tracking._model_registry.utils, "_registry_uri", None)
    mlflow.set_tracking_uri(uri)
    try:
        function = mlflow.pyfunc.load_model("models:/tiny@newest")
        pipeline = mlflow.transformers.load_model("models:/tiny@newest")
    finally:
        mlflow.set_tracking_uri(None)
    info = function.metadata
    assert info.signature.inputs.input_types()[0].name == "string"
    assert info.saved_input_example_info is not None
    best = [found["token_str"] for found in (pipeline("好[MASK]的")[0], pipeline("哈[MASK]")[0])]
    assert list(function.predict(["好[MASK]的", "哈[MASK]"])) == best
    lines = (step / "registered" / "requirements.txt").read_text().split()
    assert [line.partition("==")[0] for line in lines] == ["mlflow", "torch", "transformers"]


def test_without_transformers_nothing_is_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registered, "find_spec", lambda _name: None)
    check_register(None)
    with pytest.raises(RecipeError, match="E-EXTRA"):
        check_register("tiny")
