"""Brings MLflow up to what a step's folder wants (DESIGN, Tracking; reliability.md P10, F74-F76). The only mlflow import.

The driver writes down what MLflow should hold (`outbox.Wanted`), training writes the metrics journal, and `ship` brings MLflow up to both.
`ship` may die anywhere and be called again: a run is found by its key, and a point is one value for ever (its time is the journal's), so
nothing is doubled.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ernie_core.failpoints import failpoint
from pipelines import outbox
from pipelines.journal import JOURNAL_NAME, Point, read_unsent
from pipelines.outbox import Shipped, Wanted, read_state, write_state

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric
    from mlflow.entities import Run as MlflowRun

KEY_TAG, MODEL_TAG = "ernie.run_key", "ernie.model_sha256"
EXPERIMENT_TAGS = {
    outbox.NOTE_TAG: "Runs of recipes of ernie-continual: raw text to shards, pretraining, benchmarks. Open a run by its +: its steps are below it, trials below fine-tuning."
}
DIGEST_CHARS = 36  # of a dataset, MLflow's limit
CALL_METRICS = 1000  # MLflow takes no more in a call
Say = Callable[[str], None]
_ENVIRONMENT = {
    # Its default blocks one call to a dead server for 246 s (reliability.md P10); any retry whose first answer was lost makes a second run.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_shipping = threading.RLock()


def ship(folder: Path, say: Say) -> None:
    """Bring MLflow up to what `folder` wants. Raises whatever MLflow raises."""
    with _shipping:
        wanted, shipped = read_state(folder, Wanted), read_state(folder, Shipped) or Shipped()
        assert wanted is not None, folder
        client = _client(wanted.uri)
        run, shipped = _ensure_run(client, folder, wanted, shipped)
        _ship_links(client, run, folder, wanted, say)
        _ship_datasets(client, run.info.run_id, folder, wanted, shipped)
        _ship_points(client, folder, run.info.run_id, shipped)
        for path, digest in _unsent_files(folder, wanted.artifacts, shipped.artifacts, say):
            client.log_artifact(run.info.run_id, str(path), None if path.parent == folder else path.parent.relative_to(folder).as_posix())
            shipped.artifacts[path.relative_to(folder).as_posix()] = digest
            write_state(folder, shipped)
        for path, digest in _unsent_files(folder, wanted.models, shipped.models, say):
            _ship_model(client, run, path, f"{wanted.name}-{path.name}", digest)
            shipped.models[path.relative_to(folder).as_posix()] = digest
            write_state(folder, shipped)
        if wanted.registered != shipped.registered:
            _ship_registered(client, run, folder, wanted)
            shipped.registered = wanted.registered
            write_state(folder, shipped)
        if run.info.status != wanted.status:
            if wanted.status == "RUNNING":
                client.update_run(run.info.run_id, status="RUNNING")
            else:
                client.set_terminated(run.info.run_id, wanted.status, wanted.end_time_ms)
        shipped.status = wanted.status
        write_state(folder, shipped)


def ship_tree(folder: Path, say: Say) -> None:
    """Bring MLflow up to what `folder` and the parts of its work want. Raises whatever MLflow raises."""
    ship(folder, say)
    for child in outbox.children(folder):
        if not outbox.is_taken(child):
            ship(child, say)


def _ensure_run(client: MlflowClient, folder: Path, wanted: Wanted, shipped: Shipped) -> tuple[MlflowRun, Shipped]:
    """Return the run of `folder` with all its tags and parameters, made (and its parent's) if MLflow has none or a deleted one."""
    from mlflow.entities import Param, RunTag

    experiment_id = _experiment_id(client, wanted)
    found = client.search_runs([experiment_id], f"tags.`{KEY_TAG}` = '{wanted.key}'")
    found.sort(key=lambda run: run.info.run_id != shipped.run_id)
    run = found[0] if found else _created(client, experiment_id, wanted)
    for late in found[1:]:  # a server that hung has made what we had given up
        client.delete_run(late.info.run_id)
    if run.info.run_id != shipped.run_id:
        shipped = Shipped(run.info.run_id, replaces=shipped.run_id or shipped.replaces)
        write_state(folder, shipped)
    changed = {f"param.{k}": v for k, v in wanted.params.items() if run.data.params.get(k, v) != v}
    tags = wanted.tags | changed | {"ernie.attempts": str(wanted.attempts)}
    if shipped.replaces:
        tags["ernie.replaces_run"] = shipped.replaces
    if wanted.parent is not None:
        tags["mlflow.parentRunId"] = _parent_id(client, folder / wanted.parent)
    new_tags = [RunTag(k, v) for k, v in tags.items() if run.data.tags.get(k) != v]
    new_params = [Param(k, v) for k, v in wanted.params.items() if k not in run.data.params]
    for i in range(0, max(len(new_tags), len(new_params)), 100):  # MLflow takes 100 a call
        client.log_batch(run.info.run_id, params=new_params[i : i + 100], tags=new_tags[i : i + 100])
    return run, shipped


def _created(client: MlflowClient, experiment_id: str, wanted: Wanted) -> MlflowRun:
    """Make the run, with what finds it again and who it is of: MLflow takes a run's user from this tag, at its making only."""
    tags = {KEY_TAG: wanted.key, **{name: wanted.tags[name] for name in (outbox.USER_TAG,) if name in wanted.tags}}
    return client.create_run(experiment_id, wanted.start_time_ms, tags, wanted.name)


def _ship_links(client: MlflowClient, run: MlflowRun, folder: Path, wanted: Wanted, say: Say) -> None:
    """Tag the run with the ids of the runs it goes on from, whose own data are shipped first; models that they gave become its inputs."""
    from mlflow.entities import LoggedModelInput

    for tag, place in wanted.links.items():
        linked = folder / place
        theirs = read_state(linked, Wanted)
        if theirs is None or theirs.uri != wanted.uri:
            continue  # of another store
        if linked.resolve().parent == folder.resolve().parent and not outbox.all_taken(linked, theirs):
            ship(linked, say)
        run_id = (read_state(linked, Shipped) or Shipped()).run_id
        if run_id is None or run.data.tags.get(tag) == run_id:
            continue
        outputs = client.get_run(run_id).outputs
        if outputs is not None and outputs.model_outputs:
            client.log_inputs(run.info.run_id, models=[LoggedModelInput(output.model_id) for output in outputs.model_outputs])
        client.set_tag(run.info.run_id, tag, run_id)


def _ship_datasets(client: MlflowClient, run_id: str, folder: Path, wanted: Wanted, shipped: Shipped) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    new = {name: d for name, d in wanted.datasets.items() if shipped.datasets.get(name) != d["sha256"]}
    if not new:
        return
    client.log_inputs(run_id, [
        DatasetInput(
            Dataset(name, d["sha256"][:DIGEST_CHARS], "local", json.dumps({"uri": d["source"]}), profile=d["profile"]),
            [InputTag("mlflow.data.context", d["use"]), InputTag("sha256", d["sha256"])],
        )
        for name, d in new.items()
    ])  # fmt: skip
    shipped.datasets |= {name: d["sha256"] for name, d in new.items()}
    write_state(folder, shipped)


def _parent_id(client: MlflowClient, folder: Path) -> str:
    wanted = read_state(folder, Wanted)
    assert wanted is not None, folder
    run, _ = _ensure_run(client, folder, wanted, read_state(folder, Shipped) or Shipped())
    return str(run.info.run_id)


def _experiment_id(client: MlflowClient, wanted: Wanted) -> str:
    experiment = client.get_experiment_by_name(wanted.experiment)
    if experiment is not None:
        return str(experiment.experiment_id)
    location = None  # a server decides by itself
    if wanted.uri.startswith("sqlite:"):  # mlflow's default would be a folder in whatever directory the command was started in
        database = Path(wanted.uri.removeprefix("sqlite:///"))
        location = (database.resolve().parent / "mlartifacts" / re.sub(r"[^\w.-]", "_", wanted.experiment)).as_uri()
    return str(client.create_experiment(wanted.experiment, location, EXPERIMENT_TAGS))


def _ship_points(client: MlflowClient, folder: Path, run_id: str, shipped: Shipped) -> None:
    """Send what the journal has more, and after each call note how far that is: what comes of a call that fails is not done again in full."""
    points, end = read_unsent(folder / JOURNAL_NAME, shipped.offset)
    for metrics, done in _calls(points, end):
        client.log_batch(run_id, metrics=metrics)
        failpoint("track.mid_ship")
        shipped.offset = done
        write_state(folder, shipped)


def _calls(points: list[Point], end: int) -> Iterator[tuple[list[Metric], int]]:
    """Yield the metrics of each call, `CALL_METRICS` at most, and the byte of the journal before which all has been sent after it.

    Args:
        points: in the journal's order.
        end: byte after the last of them.
    """
    from mlflow.entities import Metric

    waiting: list[Metric] = []
    for point in points:
        own = [Metric(outbox.safe_name(n), v if math.isfinite(v) else math.nan, point.time_ms, point.step) for n, v in point.metrics.items()]
        if waiting and len(waiting) + len(own) > CALL_METRICS:
            yield waiting, point.at
            waiting = []
        waiting += own
        while len(waiting) > CALL_METRICS:  # one point alone
            yield waiting[:CALL_METRICS], point.at
            waiting = waiting[CALL_METRICS:]
    if waiting:
        yield waiting, end


def _ship_model(client: MlflowClient, run: MlflowRun, folder: Path, name: str, digest: str) -> None:
    """Log `folder` as an MLflow model of `run`, once for its content."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    found = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}' AND tags.`{MODEL_TAG}` = '{digest}'")
    model = (
        found[0] if found else client.create_logged_model(run.info.experiment_id, re.sub(r"[^\w-]", "_", name), run.info.run_id, {MODEL_TAG: digest})
    )
    if model.status == LoggedModelStatus.READY:
        return
    for path in outbox.model_files(folder):
        client.log_model_artifact(model.model_id, str(path))
    outputs = client.get_run(run.info.run_id).outputs
    if outputs is None or model.model_id not in {output.model_id for output in outputs.model_outputs}:  # a second time is refused for ever
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def _ship_registered(client: MlflowClient, run: MlflowRun, folder: Path, wanted: Wanted) -> None:
    """Register the model as a version of its name, once for its content, which the alias "newest" then stands for."""
    from mlflow.exceptions import MlflowException

    name, place, digest = (wanted.registered[k] for k in ("name", "folder", "sha256"))
    try:
        client.create_registered_model(name, description="ERNIE, pretrained: fills [MASK] in text")
    except MlflowException as e:
        if e.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    found = [v for v in client.search_model_versions(f"name = '{name}' and run_id = '{run.info.run_id}'") if v.tags.get(MODEL_TAG) == digest]
    if not found:
        client.log_artifacts(run.info.run_id, str(folder / place), place)
        source = f"{run.info.artifact_uri}/{place}"
        found = [client.create_model_version(name, source, run.info.run_id, {MODEL_TAG: digest}, description=f"of run {wanted.name}")]
    client.set_registered_model_alias(name, "newest", found[0].version)


def save_fill_model(source: Path, target: Path, example: str, requirements: list[str]) -> None:
    """Save a folder of transformers as an MLflow model: text with one [MASK] in, the likeliest token out."""
    load_mlflow()
    import transformers
    from mlflow.models import ModelSignature
    from mlflow.transformers import save_model
    from mlflow.types.schema import ColSpec, Schema

    pipeline = transformers.pipeline(
        "fill-mask", model=transformers.AutoModelForMaskedLM.from_pretrained(source), tokenizer=transformers.AutoTokenizer.from_pretrained(source)
    )
    signature = ModelSignature(Schema([ColSpec("string")]), Schema([ColSpec("string")]))
    save_model(pipeline, str(target), task="fill-mask", signature=signature, input_example=[example], pip_requirements=requirements)


def _unsent_files(folder: Path, wanted: dict[str, str], taken: dict[str, str], say: Say) -> Iterator[tuple[Path, str]]:
    for name, digest in wanted.items():
        if taken.get(name) == digest:
            continue
        path = outbox.present(folder, name)
        if path.exists():
            yield path, digest
        else:
            say(f"WARN E-TRACKING-GONE {path} was to be sent to MLflow but is no longer there")
            taken[name] = digest


def load_mlflow() -> None:
    """Import mlflow with our settings, in the calling thread: two threads importing large packages at once can meet half-made modules."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow.tracking  # noqa: F401

    for name in ("alembic", "mlflow.store.db.utils"):  # they announce every table of a fresh SQLite file
        logging.getLogger(name).setLevel(logging.WARNING)


def _client(uri: str) -> MlflowClient:
    load_mlflow()
    from mlflow import MlflowClient

    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).resolve().parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri)
