"""Tracking: one run a step whatever is killed, every point once, and a server that is dead, slow or wrong stops nothing (F74-F76, S14, S15, S17)."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from ernie_core.errors import RecipeError
from pipelines import tracked_run, tracking
from pipelines.journal import JOURNAL_NAME, Journal
from pipelines.outbox import SHIPPED_NAME, Shipped, Wanted, clean, read_state, safe_name, tracking_uri, write_state
from pipelines.tracked_run import Run, open_run, ship_rest


@pytest.fixture
def root(tmp_path: Path, empty_store: Path) -> Path:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    (tmp_path / "demo" / "pretrain").mkdir(parents=True)
    return tmp_path


def opened(root: Path, uri: str | None = None, said: list[str] | None = None, **changed: object) -> Run:
    arguments = {"experiment": "ernie", "name": "demo-pretrain", "folder": root / "demo" / "pretrain", "tags": {}, "params": {"seed": 7}, **changed}
    return open_run(uri=uri or tracking_uri(str(root), None), say=[].append if said is None else said.append, **arguments)  # type: ignore[arg-type]


def client(root: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=tracking_uri(str(root), None))


def runs(root: Path) -> list[str]:
    experiment = client(root).get_experiment_by_name("ernie")
    return [] if experiment is None else [r.info.run_id for r in client(root).search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)]


def history(root: Path, run_id: str | None, name: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in client(root).get_metric_history(str(run_id), name)]


def test_points_of_the_journal_arrive_with_their_steps(root: Path) -> None:
    run = opened(root)
    journal = Journal(run.folder / JOURNAL_NAME)
    journal.log(20, {"train/lm_loss": 6.5})
    journal.log(40, {"train/lm_loss": 6.25})
    run.finish("FINISHED")
    assert history(root, run.run_id, "train/lm_loss") == [(20, 6.5), (40, 6.25)]
    assert client(root).get_run(str(run.run_id)).info.status == "FINISHED"


def test_opening_again_goes_on_in_the_same_run_and_doubles_nothing(root: Path) -> None:
    first = opened(root)
    first.log({"a": 1.0}, step=1)
    first.finish("FAILED")
    second = opened(root)
    assert client(root).get_run(str(second.run_id)).info.status == "RUNNING"
    second.log({"a": 1.0}, step=1)
    second.log({"a": 2.0}, step=2)
    second.finish("FINISHED")
    assert runs(root) == [first.run_id] == [second.run_id]
    assert history(root, first.run_id, "a") == [(1, 1.0), (2, 2.0)]


def test_a_run_whose_making_was_cut_off_is_found_by_its_key(root: Path) -> None:
    first = opened(root)
    made = first.run_id
    (first.folder / SHIPPED_NAME).unlink()  # as if killed between MLflow's answer and the note of it
    assert opened(root).run_id == made
    assert runs(root) == [made]


def test_points_sent_twice_stand_once(root: Path) -> None:
    run = opened(root)
    run.log({"a": 1.0, "bad": float("nan")}, step=1)
    assert run.attempt(30)
    shipped = read_state(run.folder, Shipped)
    assert shipped is not None
    shipped.offset = 0  # as if killed between MLflow's answer and the note of it
    write_state(run.folder, shipped)
    run.log({"a": 2.0}, step=2)
    run.finish("FINISHED")
    assert history(root, run.run_id, "a") == [(1, 1.0), (2, 2.0)]
    assert len(history(root, run.run_id, "bad")) == 1


@pytest.mark.parametrize("point", ["track.mid_ship:1", "track.mid_ship:2", "data.mid_write:2", "data.after_rename:3"])
def test_a_driver_killed_while_shipping_leaves_one_run_with_each_point_once(root: Path, point: str) -> None:
    def drive() -> None:
        run = opened(root)
        for i in range(1500):
            run.log({"a": i}, step=i)
        run.finish("FINISHED")

    child = os.fork()  # mlflow is loaded already: a new process would take seconds
    if child == 0:
        os.environ["ERNIE_FAILPOINT"] = point
        drive()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    drive()
    assert len(runs(root)) == 1
    assert history(root, runs(root)[0], "a") == [(i, float(i)) for i in range(1500)]
    assert client(root).get_run(runs(root)[0]).info.status == "FINISHED"


def test_a_deleted_run_is_replaced_by_one_that_names_it_and_has_every_point(root: Path) -> None:
    first = opened(root)
    first.log({"a": 1.0}, step=1)
    first.finish("KILLED")
    old = str(first.run_id)
    client(root).delete_run(old)
    second = opened(root)
    second.finish("FINISHED")
    assert second.run_id != old
    assert client(root).get_run(str(second.run_id)).data.tags["ernie.replaces_run"] == old
    assert history(root, second.run_id, "a") == [(1, 1.0)]


def test_other_inputs_open_a_new_run_with_an_empty_journal(root: Path) -> None:
    first = opened(root, inputs={"prepare": "1"})
    first.log({"a": 1.0}, step=1)
    first.finish("FINISHED")
    old = str(first.run_id)
    second = opened(root, inputs={"prepare": "2"})
    second.log({"a": 3.0}, step=1)
    second.finish("FINISHED")
    assert history(root, old, "a") == [(1, 1.0)]
    assert history(root, second.run_id, "a") == [(1, 3.0)]
    assert client(root).get_run(str(second.run_id)).data.tags["ernie.replaces_run"] == old


def test_pages_say_who_what_and_where(root: Path) -> None:
    run = opened(root)
    run.note("What came of it.")
    run.finish("FINISHED")
    found = client(root).get_run(str(run.run_id))
    assert found.info.user_id == found.data.tags["mlflow.user"] != "unknown"
    assert found.data.tags["mlflow.note.content"] == f"What came of it.\n\nFiles: `{run.folder}`"
    experiment = client(root).get_experiment(found.info.experiment_id).tags
    assert "raw text to shards" in experiment["mlflow.note.content"]


def test_a_steps_run_is_the_child_of_the_workflows(root: Path) -> None:
    workflow = opened(root, folder=root / "demo", name="demo")
    step = opened(root, parent=workflow)
    assert client(root).get_run(str(step.run_id)).data.tags["mlflow.parentRunId"] == workflow.run_id


def test_a_changed_parameter_becomes_a_tag_since_mlflow_keeps_the_first(root: Path) -> None:
    opened(root, params={"seed": 7, "workers": 2}).finish("KILLED")
    run = opened(root, params={"seed": 7, "workers": 1})
    data = client(root).get_run(str(run.run_id)).data
    assert data.params == {"seed": "7", "workers": "2"}
    assert data.tags["param.workers"] == "1"


def test_odd_names_long_values_and_numbers_that_are_not_finite_are_taken(root: Path) -> None:
    said: list[str] = []
    run = opened(root, params={"long": "字" * 6001, "a@b": 1, "a#b": 2, "": 3, "../x": 4}, tags={"note": "x" * 9000}, said=said)
    run.log({"f1@10%": 1.0, "损失": 2.0, "../up": 3.0, "a//b": 4.0, "x" * 300: 5.0, "nan": float("nan"), "inf": float("-inf")}, step=3)
    run.finish("FINISHED")
    data = client(root).get_run(str(run.run_id)).data
    assert said == []
    assert len(data.metrics) == 7
    assert data.metrics["损失"] == 2.0
    assert len(data.params) == 5
    assert len(data.params["long"]) <= 6000
    assert "cut from 6001 characters" in data.params["long"]


def test_names_that_must_change_stay_apart() -> None:
    assert safe_name("train/lm_loss") == "train/lm_loss"
    assert safe_name("f1@10") != safe_name("f1#10")


def test_secrets_are_hidden_but_token_settings_are_not() -> None:
    settings = {"hf_token": "canary", "db": {"password": "canary"}, "uri": "http://me:canary@host:5000", "batch_tokens": 2048, "token_document": 0.5}
    cleaned = clean(settings, 6000)
    assert "canary" not in str(cleaned)
    assert (cleaned["batch_tokens"], cleaned["token_document"], cleaned["uri"]) == ("2048", "0.5", "http://***@host:5000")


def test_artifacts_and_models_arrive_without_pickles_or_optimiser_state(root: Path) -> None:
    run = opened(root)
    model = run.folder / "model"
    model.mkdir()
    for name in ("model.safetensors", "config.json", "vocab.txt", "optimizer.safetensors", "evil.pkl"):
        (model / name).write_bytes(name.encode())
    (run.folder / "card.md").write_text("card")
    run.artifact(run.folder / "card.md")
    run.artifact(model / "config.json")
    run.model(model)
    run.finish("FINISHED")
    assert [a.path for a in client(root).list_artifacts(str(run.run_id))] == ["card.md", "model"]
    outputs = client(root).get_run(str(run.run_id)).outputs
    assert outputs is not None
    assert len(outputs.model_outputs) == 1
    files = sorted(p.name for p in (root / "mlartifacts" / "ernie" / "models" / outputs.model_outputs[0].model_id / "artifacts").iterdir())
    assert files == ["config.json", "model.safetensors", "vocab.txt"]


def test_a_model_shipped_twice_is_one_model(root: Path) -> None:
    run = opened(root)
    (run.folder / "model").mkdir()
    (run.folder / "model" / "model.safetensors").write_bytes(b"weights")
    run.model(run.folder / "model")
    assert run.attempt(30)
    shipped = read_state(run.folder, Shipped)
    assert shipped is not None
    shipped.models = {}
    write_state(run.folder, shipped)
    run.finish("FINISHED")
    assert len(list((root / "mlartifacts" / "ernie" / "models").iterdir())) == 1


def test_files_outside_the_step_are_refused(root: Path) -> None:
    run = opened(root)
    (root / "secret.txt").write_text("x")
    with pytest.raises(ValueError, match=r"secret\.txt"):
        run.artifact(root / "secret.txt")


def test_an_artifact_that_is_gone_is_said_once_and_holds_nothing_up(root: Path) -> None:
    said: list[str] = []
    run = opened(root, said=said)
    (run.folder / "card.md").write_text("card")
    run.artifact(run.folder / "card.md")
    (run.folder / "card.md").unlink()
    run.finish("FINISHED")
    ship_rest(run.folder, said.append)
    assert [line.split()[1] for line in said] == ["E-TRACKING-GONE"]
    assert client(root).get_run(str(run.run_id)).info.status == "FINISHED"


class Unavailable(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(500)

    do_POST = do_GET  # noqa: N815  the name http.server calls

    def log_message(self, *arguments: object) -> None:
        pass


class Redirecting(Unavailable):
    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(302)
        self.send_header("Location", f"http://127.0.0.1:{self.server.server_address[1]}/latest/meta-data")
        self.end_headers()

    do_POST = do_GET  # noqa: N815  the name http.server calls


@contextmanager
def bad_server(kind: str) -> Iterator[str]:
    if kind in {"dead", "hung"}:
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
            port = listening.getsockname()[1]
            if kind == "dead":
                listening.close()
            yield f"http://127.0.0.1:{port}"
        return
    server = HTTPServer(("127.0.0.1", 0), Redirecting if kind == "redirecting" else Unavailable)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("kind", ["dead", "hung", "500", "redirecting"])
def test_a_bad_server_stops_nothing_and_all_points_arrive_later(root: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setattr(tracked_run, "SHIP_INTERVAL_S", 0.05)
    said: list[str] = []
    with bad_server(kind) as uri:
        run = opened(root, uri, said)
        run.start_shipper()
        started = time.monotonic()
        for step in range(100):
            run.log({"a": step}, step=step)
        assert time.monotonic() - started < 1.0
        run.finish("FINISHED")
    assert run.run_id is None
    assert [line.split()[1] for line in said] == ["E-TRACKING-DOWN", "E-TRACKING-LATER"]
    assert not [path for path in Redirecting.asked if "meta-data" in path]
    wanted = read_state(run.folder, Wanted)
    assert wanted is not None
    wanted.uri = tracking_uri(str(root), None)  # the server answers again
    write_state(run.folder, wanted)
    ship_rest(run.folder, said.append)
    assert history(root, run.run_id, "a") == [(i, float(i)) for i in range(100)]
    assert client(root).get_run(str(run.run_id)).info.status == "FINISHED"


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_to_a_metadata_address_is_not_followed(root: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, reached, connect = [], [], socket.socket.connect

    class Elsewhere(Redirecting):
        def do_GET(self) -> None:
            asked.append(self.command)
            self.send_response(code)
            self.send_header("Location", "http://169.254.169.254/latest/meta-data/iam")
            self.end_headers()

        do_POST = do_GET  # noqa: N815  the name http.server calls

    def noting(own: socket.socket, address: tuple[str, int]) -> None:
        reached.append(address[0])
        if address[0].startswith("169.254."):
            raise ConnectionRefusedError
        connect(own, address)

    monkeypatch.setattr(socket.socket, "connect", noting)
    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for allowed, expected in (("false", {"127.0.0.1"}), ("true", {"127.0.0.1", "169.254.169.254"})):
        reached.clear()
        monkeypatch.setenv("MLFLOW_ALLOW_HTTP_REDIRECTS", allowed)  # true: what MLflow would do without our settings
        opened(root, f"http://127.0.0.1:{server.server_address[1]}").finish("FINISHED")
        assert set(reached) == expected
    assert asked
    server.shutdown()
    server.server_close()


def test_our_settings_of_the_client_are_set_before_mlflow_is_loaded() -> None:
    code = "from pipelines import tracking; tracking.load_mlflow(); import os; print(os.environ['MLFLOW_ALLOW_HTTP_REDIRECTS'])"
    env = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")} | {"PYTHONPATH": "."}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "false"


def test_finish_gives_up_within_its_bound(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracked_run, "FINISH_TIMEOUT_S", 0.2)
    said: list[str] = []
    run = opened(root, said=said)
    monkeypatch.setattr(tracking, "ship", lambda folder, say: time.sleep(2))
    started = time.monotonic()
    run.finish("FINISHED")
    assert time.monotonic() - started < 1.0
    assert [line.split()[1] for line in said] == ["E-TRACKING-DOWN", "E-TRACKING-LATER"]


def test_the_shipper_sends_what_another_process_writes_while_it_runs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracked_run, "SHIP_INTERVAL_S", 0.02)
    run = opened(root)
    run.start_shipper()
    Journal(run.folder / JOURNAL_NAME).log(5, {"a": 1.5})
    deadline = time.monotonic() + 20
    while not history(root, run.run_id, "a") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert history(root, run.run_id, "a") == [(5, 1.5)]
    run.finish("FINISHED")


def test_a_finished_step_whose_driver_was_killed_ends_finished(root: Path) -> None:
    run = opened(root)
    ship_rest(run.folder)
    assert client(root).get_run(str(run.run_id)).info.status == "FINISHED"


def test_nothing_left_to_send_loads_no_mlflow(root: Path) -> None:
    opened(root).finish("FINISHED")
    code = "import sys; from pathlib import Path; from pipelines.tracked_run import ship_rest; ship_rest(Path(sys.argv[1])); assert 'mlflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(root / "demo" / "pretrain")], env={**os.environ, "PYTHONPATH": "."}, check=True)


@pytest.mark.parametrize("uri", ["file:///tmp/x", "http://", "postgres://h/db", "runs", "file:./mlruns"])
def test_other_stores_are_refused(uri: str) -> None:
    with pytest.raises(RecipeError, match="E-TRACKING-URI"):
        tracking_uri("/data", uri)


def test_a_database_goes_behind_a_server() -> None:
    with pytest.raises(RecipeError, match=r"found postgresql\+psycopg://\*\*\*@h/db; fix: start `mlflow server"):
        tracking_uri("/data", "postgresql+psycopg://me:word@h/db")


def test_a_remote_root_needs_a_server() -> None:
    with pytest.raises(RecipeError, match="remote root"):
        tracking_uri("s3://bucket/runs", None)
    assert tracking_uri("s3://bucket/runs", "http://host:5000") == "http://host:5000"


def test_a_local_root_has_one_sqlite_store() -> None:
    assert tracking_uri("/data/runs", None) == "sqlite:////data/runs/mlflow.db"
