"""A real `mlflow server` that tests can kill, stop and start again, something between it and its clients that answers 500, and runs tracked by it."""

from __future__ import annotations

import http.client
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from pipelines import tracked_run
from pipelines.journal import JOURNAL_NAME, Journal, read_points
from pipelines.outbox import safe_name
from pipelines.recipe import load_recipe
from pipelines.workflow import run_recipe

Hook = Callable[[int, list[str]], None]
"""Called with a step that has just been journalled and with what was said so far."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def cluster_flags(port: int, folder: Path) -> list[str]:
    """Return the arguments of `mlflow server` in cluster.yaml, with another port and its files under `folder`."""
    commands = yaml.safe_load((Path(__file__).parents[1] / "cluster.yaml").read_text(encoding="utf-8"))["head_start_ray_commands"]
    command = next(c for c in commands if "mlflow server" in c).rpartition("mlflow server")[2].partition(">")[0]
    return shlex.split(command.replace("5000", str(port)).replace("/var/lib/ernie", str(folder)).replace("/mnt/ernie", str(folder)))


class MlflowServer:
    """`mlflow server` as cluster.yaml starts it, over `store`, on a port of its own, which it keeps when it is started again.

    Args:
        store: where the runs are kept.
        folder: of its log and artifacts.
        environment: variables beside ours.
    """

    def __init__(self, store: str, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.store, self.folder, self.port = store, folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        flags = cluster_flags(self.port, self.folder)
        flags[flags.index("--backend-store-uri") + 1] = self.store
        command = [sys.executable, "-m", "mlflow", "server", *flags, "--workers", "1"]
        env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", **self._environment}
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=env, start_new_session=True)
        deadline = time.monotonic() + 100
        while not self.answers():
            assert self._process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.1)

    @property
    def session(self) -> int:
        """Id of the session that the server and its workers are in."""
        assert self._process is not None
        return self._process.pid

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and its workers; after SIGKILL, wait for its end."""
        assert self._process is not None
        os.killpg(self._process.pid, number)
        if number == signal.SIGKILL:
            self._process.wait()
            assert not self.answers()

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.signal(signal.SIGKILL)


@contextmanager
def failing_between(server: MlflowServer) -> Iterator[tuple[str, dict[str, int]]]:
    """Pass requests on to `server`, but of each kind of request answer 500 to two, after the server did what they ask, and to a third, before that.

    Gives its URI, and how often each kind was asked for.
    """
    counts: dict[str, int] = {}
    lock = threading.Lock()

    class Between(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            place = re.split(r"mlflow(?:-artifacts)?/", self.path.split("?")[0])[-1].split("/")
            kind = "/".join(place[:2]) if place[0] in {"runs", "experiments"} else place[0]
            with lock:
                counts[kind] = counts.get(kind, 0) + 1
                number = counts[kind]
            if number == 3:
                self.send_error(500)
                return
            onward = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
            onward.request(self.command, self.path, body, {name: value for name, value in self.headers.items() if name != "Host"})
            answer = onward.getresponse()
            data = answer.read()
            if number <= 2:
                self.send_error(500)
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.getheader("Content-Type") or "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815  the names http.server calls

        def log_message(self, *arguments: object) -> None:
            pass

    between = ThreadingHTTPServer(("127.0.0.1", 0), Between)
    threading.Thread(target=between.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{between.server_address[1]}", counts
    between.shutdown()
    between.server_close()


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the shipper work every 0.1 s and give up soon, so that a run of seconds meets a fault often."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setattr(tracked_run, "SHIP_INTERVAL_S", 0.1)
    monkeypatch.setattr(tracked_run, "OPEN_TIMEOUT_S", 10.0)
    monkeypatch.setattr(tracked_run, "FINISH_TIMEOUT_S", 10.0)


def pretrain(
    recipe: Path, root: Path, uri: str, monkeypatch: pytest.MonkeyPatch, hook: Hook | None = None, changes: Sequence[str] = ()
) -> tuple[Path, list[str]]:
    """Run the prepared recipe of `ranks_helper` up to its model under `root`, with more `changes`, tracked at `uri`.

    Returns:
        The run's folder, and what was said.
    """
    said: list[str] = []
    done = recipe.parent / "runs" / "ranks"
    if not (root / "ranks").exists():
        (root / "ranks").mkdir(parents=True)
        shutil.copytree(done / "prepare", root / "ranks" / "prepare", ignore=shutil.ignore_patterns("mlflow_run.json", "shipped.json"))
        shutil.copy(done / "run.json", root / "ranks")
    log = Journal.log

    def hooked(journal: Journal, step: int, metrics: Any) -> None:
        log(journal, step, metrics)
        if hook is not None and journal.path.parent.name == "pretrain":
            hook(step, said)

    own = [f"root={root}", f"tracking.uri={uri}", "pretrain.skip_steps=1", "pretrain.save_steps=20", *changes]
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "log", hooked)
        patch.chdir(recipe.parent)
        run_recipe(load_recipe(recipe, own), said.append, until="pretrain")
    return root / "ranks", said


def codes(said: list[str]) -> list[str]:
    """Return the codes of the warnings about MLflow, in order."""
    return [line.split()[1] for line in said if line.startswith("WARN E-TRACKING")]


def wait_until(said: list[str], text: str, times: int = 1) -> None:
    """Wait until as many lines hold `text`."""
    deadline = time.monotonic() + 60
    while sum(text in line for line in said) < times:
        assert time.monotonic() < deadline, f"{text!r} was not said {times} times: {said}"
        time.sleep(0.02)


def found_runs(uri: str, folder: Path) -> dict[str, Run]:
    """Return name -> MLflow's run, of all that were ever made for the run in `folder`."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("ernie")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)
    own = [run for run in runs if f"`{folder}" in run.data.tags["mlflow.note.content"]]
    assert len(own) == len({run.info.run_name for run in own}), "a run was opened twice"
    return {str(run.info.run_name): run for run in own}


def journalled(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return name in MLflow -> (step, value) pairs of the pretraining in `folder`, in order."""
    out: dict[str, list[tuple[int, float]]] = {}
    for point in read_points(folder / "pretrain" / JOURNAL_NAME)[0]:
        for name, value in point.metrics.items():
            out.setdefault(safe_name(name), []).append((point.step, value))
    return out


def arrived(uri: str, run: Run) -> dict[str, list[tuple[int, float]]]:
    """Return name -> (step, value) pairs that MLflow has of the run, in the order of its own times."""
    client = MlflowClient(tracking_uri=uri)
    return {
        name: [(m.step, m.value) for m in sorted(client.get_metric_history(run.info.run_id, name), key=lambda m: (m.timestamp, m.step))]
        for name in run.data.metrics
    }
