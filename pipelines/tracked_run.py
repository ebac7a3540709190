"""The driver's handle of a tracked run: it can neither stop work nor lose a point (DESIGN, Tracking; reliability.md P10, F74-F76).

All that MLflow should hold is kept in the step's folder first; `tracking.ship` sends it, now or at the next command.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from ernie_core.manifest import MANIFEST_NAME, file_sha256
from ernie_core.object_store import refresh
from pipelines import outbox, tracking
from pipelines.journal import JOURNAL_NAME, Journal
from pipelines.outbox import Shipped, Wanted, read_state, without_user, write_state
from pipelines.run_folder import WANTED_NAME

SHIP_INTERVAL_S, TRIES = 5.0, 3
OPEN_TIMEOUT_S, FINISH_TIMEOUT_S = 60.0, 30.0  # making a SQLite store takes 3 s, on a busy machine 15; the latter: reliability.md F74
Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
Say = Callable[[str], None]


def open_run(
    *,
    uri: str,
    experiment: str,
    name: str,
    folder: Path,
    tags: Mapping[str, Any],
    params: Mapping[str, Any],
    parent: Run | None = None,
    inputs: Mapping[str, str] | None = None,
    datasets: Mapping[str, dict[str, str]] | None = None,
    links: Mapping[str, Path] | None = None,
    say: Say | None = None,
) -> Run:
    """Open the run of the step in `folder`: a new one, or the one opened there before. Waits for MLflow at most a minute, then goes on without it.

    Args:
        uri: from `tracking_uri`.
        experiment: name of the experiment; made if it is missing.
        name: shown in MLflow.
        folder: the step's folder; identity and progress of the run are kept there.
        tags, params: any values, nested ones flattened, secrets hidden. Parameters of an existing run stay; a new value becomes the tag ``param.NAME``.
        parent: the workflow's run.
        inputs: hashes of what the step reads; when they changed, journal and run of `folder` are of other work, and a new run replaces them.
        datasets: what the run reads, by name, see `lineage.dataset`.
        links: tag -> folder of the run whose id the tag shall hold.
        say: receives warnings, one line each; standard error if None.
    """
    tracking.load_mlflow()
    above = None if parent is None else parent.folder
    wanted = outbox.want(folder, uri, experiment, name, tags, params, dict(inputs or {}), above, datasets, links)
    run = Run(folder, wanted, say or outbox.to_stderr)
    run.attempt(OPEN_TIMEOUT_S)
    return run


def ship_rest(folder: Path, say: Say | None = None) -> None:
    """Send what an earlier command could not, of a step that is finished. Does not even load mlflow when there is nothing to send."""
    wanted = read_state(folder, Wanted)
    if wanted is None:
        return
    for child in outbox.children(folder):
        left = read_state(child, Wanted)
        if left is not None and left.status == "RUNNING":  # the driver was killed before it ended it; what is whole has a manifest
            whole = (child / MANIFEST_NAME).exists() or child.parent.name != "trials"
            _end(child, "FINISHED" if whole else "KILLED", outbox.now_ms())
    if wanted.status != "RUNNING" and all(outbox.is_taken(place) for place in (folder, *outbox.children(folder))):
        return
    tracking.load_mlflow()
    run = Run(folder, wanted, say or outbox.to_stderr)
    if wanted.status == "RUNNING":  # the driver was killed between the step's manifest and `finish`
        run.finish("FINISHED")
    else:
        run.attempt(FINISH_TIMEOUT_S)


def _end(folder: Path, status: str, end_time_ms: int) -> None:
    wanted = read_state(folder, Wanted)
    assert wanted is not None, folder
    wanted.status, wanted.end_time_ms = status, end_time_ms
    write_state(folder, wanted)


class Run:
    """The driver's handle of one MLflow run. No method raises because of MLflow; only `attempt` and `finish` wait for it, with a bound."""

    def __init__(self, folder: Path, wanted: Wanted, say: Say) -> None:
        self.folder, self._wanted, self._say = folder, wanted, say
        self._stop = threading.Event()
        self._journal: Journal | None = None
        self._failing = False
        write_state(folder, wanted)

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; None as long as MLflow has not answered."""
        shipped = read_state(self.folder, Shipped)
        return None if shipped is None else shipped.run_id

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Journal metrics from the driver, for steps whose journal no other process writes; `step` is the attempt's number if not given."""
        if self._journal is None:
            self._journal = Journal(self.folder / JOURNAL_NAME)
        self._journal.log(self._wanted.attempts if step is None else step, metrics)

    def tag(self, name: str, value: str) -> None:
        """Set a tag of the run."""
        self._wanted.tags |= outbox.clean({name: value}, outbox.TAG_CHARS)
        write_state(self.folder, self._wanted)

    def note(self, text: str) -> None:
        """Set what stands at the head of the run's page: `text`, as Markdown, and where the files are."""
        self.tag(outbox.NOTE_TAG, "\n\n".join(part for part in (text, outbox.place_note(self.folder)) if part))

    def child(
        self,
        folder: Path,
        name: str,
        tags: Mapping[str, Any],
        params: Mapping[str, Any],
        *,
        inputs: dict[str, str],
        above: Path,
        datasets: Mapping[str, dict[str, str]] | None = None,
        links: Mapping[str, Path] | None = None,
    ) -> None:
        """Have a run for a part of the step's work, two folders below the step's; arguments as of `open_run`, `above` is its parent's folder."""
        own = self._wanted
        refresh(folder / WANTED_NAME)
        inherited: dict[str, Any] = {k: own.tags[k] for k in ("recipe", "recipe_sha256", "data_sha256", "mlflow.source.git.commit") if k in own.tags}
        wanted = outbox.want(
            folder,
            own.uri,
            own.experiment,
            f"{own.tags.get('recipe', own.name)}-{name}",
            {**inherited, **tags},
            params,
            inputs,
            above,
            datasets,
            links,
        )
        wanted.start_time_ms = outbox.now_ms() if wanted.attempts == 1 else wanted.start_time_ms
        write_state(folder, wanted)

    def has_finished(self, folder: Path) -> bool:
        """Return whether the child in `folder` has ended well."""
        refresh(folder / WANTED_NAME)
        wanted = read_state(folder, Wanted)
        return wanted is not None and wanted.status == "FINISHED"

    def end_child(self, folder: Path, status: str, end_time_ms: int) -> None:
        """Set a child's final status."""
        _end(folder, status, end_time_ms)

    def artifact(self, path: Path) -> None:
        """Have a file inside the step's folder copied to MLflow, under the path it has in the folder."""
        self._wanted.artifacts[outbox.relative(self.folder, path)] = file_sha256(path)
        write_state(self.folder, self._wanted)

    def model(self, folder: Path) -> None:
        """Have a model folder inside the step's folder logged as a model: the files of `model_files`, never a pickle."""
        self._wanted.models[outbox.relative(self.folder, folder)] = outbox.model_sha256(folder)
        write_state(self.folder, self._wanted)

    def start_shipper(self) -> None:
        """Ship the growing journal every 5 s in a thread of its own, until `finish`."""
        threading.Thread(target=self._loop, name="mlflow-shipper", daemon=True).start()

    def _loop(self) -> None:
        while not self._stop.wait(SHIP_INTERVAL_S):
            self._attempt()

    def finish(self, status: Status) -> None:
        """Set the final status and ship what is left, within 30 s; if MLflow does not answer, say so and keep all for the next command."""
        self._stop.set()
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        self._wanted.status, self._wanted.end_time_ms = status, outbox.now_ms()
        write_state(self.folder, self._wanted)
        if not self.attempt(FINISH_TIMEOUT_S):
            self._say(
                f"WARN E-TRACKING-LATER MLflow has not all of run {self._wanted.name!r} ({status}); it is kept in {self.folder}; fix: let {without_user(self._wanted.uri)} answer and run the same command again"
            )

    def attempt(self, timeout_s: float) -> bool:
        """Ship now; True if MLflow has everything within `timeout_s` seconds."""
        done: list[bool] = []
        thread = threading.Thread(target=lambda: done.append(any(self._attempt() for _ in range(TRIES))), name="mlflow-attempt", daemon=True)
        thread.start()
        thread.join(timeout_s)
        if thread.is_alive():
            self._warn(f"no answer in {timeout_s:.0f} s")
        return done == [True]

    def _attempt(self) -> bool:
        try:
            tracking.ship_tree(self.folder, self._say)
        except Exception as e:  # noqa: BLE001  whatever MLflow raises, the work goes on and the folder keeps all
            self._warn(f"{type(e).__name__}: {' '.join(without_user(str(e)).split())[:300]}")
            return False
        if self._failing:
            self._failing = False
            self._say(f"MLflow takes the data of run {self._wanted.name!r} again; what waited has been shipped")
        return True

    def _warn(self, why: str) -> None:
        if not self._failing:
            self._failing = True
            self._say(
                f"WARN E-TRACKING-DOWN MLflow at {without_user(self._wanted.uri)} does not take our data ({why}); the work goes on, the data waits in {self.folder}"
            )
