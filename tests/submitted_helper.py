"""A pretraining run submitted to a cluster of `cluster_helper`, seen from outside: its processes, its log, and how long it takes to go on after a fault."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cluster_helper import LocalCluster
from prepare_helper import write_corpus
from ranks_helper import RECIPE, last_step

from pipelines.rank_state import LOG_NAME
from pipelines.recipe import load_recipe
from pipelines.workflow import run_recipe

RANK = b"ray::RayTrainWorker"
PATIENCE_S = 240.0


def prepared(folder: Path) -> Path:
    """Prepare the recipe of `ranks_helper`, its paths absolute, and return its file; its runs lie in folder/runs."""
    write_corpus(folder / "corpus")
    path = folder / "ranks.yaml"
    path.write_text(RECIPE.replace("corpus/two", f"{folder}/corpus/two"), encoding="utf-8")
    run_recipe(load_recipe(path, [f"root={folder}/runs"]), lambda _line: None, until="prepare")
    return path


@dataclass
class SubmittedRun:
    """A run named `ranks` below `root`, or what another recipe names.

    Args:
        recipe: its file, of a run that is prepared in folder/runs beside it.
        root: new; gets a copy of what is prepared.
        changes: settings, as of --set.
        ranks: training processes.
    """

    recipe: Path
    root: Path
    changes: tuple[str, ...]
    ranks: int
    name: str = "ranks"
    figures: list[tuple[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        done = self.recipe.parent / "runs" / self.name
        shutil.copytree(done, self.root / self.name, ignore=shutil.ignore_patterns("mlflow_run.json", "shipped.json", "report", "pretrain", ".lock"))
        self.folder = self.root / self.name / "pretrain"

    def submit(self, cluster: LocalCluster) -> None:
        """Give it to the cluster; returns once the cluster has it."""
        settings = (f"root={self.root}", "workers=1", f"pretrain.workers={self.ranks}", *self.changes)
        done = cluster.ernie("submit", str(self.recipe), "--until", "pretrain", *(word for setting in settings for word in ("--set", setting)))
        assert done.returncode == 0, done.stdout + done.stderr

    def wait_for(self, step: int, patience_s: float = PATIENCE_S) -> None:
        """Wait until the log has `step`."""
        wait(lambda: last_step(self.folder) >= step or not self.pending(), f"step {step}", patience_s)
        assert self.pending(), "it ended before that"

    def pending(self) -> bool:
        """Return whether there is work left."""
        return not (self.folder / "result.json").exists()

    def driver(self) -> int:
        """Return the process that holds the run's lock."""
        return int((self.root / self.name / ".lock").read_text(encoding="utf-8").split()[1])

    def rank_processes(self, cluster: LocalCluster) -> list[int]:
        """Return the training processes on the cluster's living nodes."""
        return cluster.processes(RANK, [node for node in cluster.nodes if node.poll() is None])

    def fault(self, name: str, inflict: Callable[[], object], mend: Callable[[], object] = lambda: None) -> None:
        """Inflict a fault while work is pending, do what a person does then, and take the time until the first step beyond the last one before it."""
        assert self.pending(), f"{name} must land while work is pending"
        begun = time.monotonic()
        before = len(self.resumed())
        inflict()
        assert self.pending(), f"{name} must land while work is pending"
        mend()
        wait(lambda: len(self.resumed()) > before, f"a start after: {name}")
        at, redone = self.resumed()[-1]
        wait(lambda: last_step(self.folder) > at + redone or not self.pending(), f"a new step after: {name}")
        self.figures.append((f"{name}: {redone} steps redone", time.monotonic() - begun))
        print(f"{name}: at step {at + redone}, first new step after {self.figures[-1][1]:.1f} s, {redone} steps redone", flush=True)

    def lose_driver(self, cluster: LocalCluster) -> None:
        """Kill the driver, and submit the run again as soon as the cluster knows."""
        os.kill(self.driver(), signal.SIGKILL)
        begun = time.monotonic()
        wait(lambda: "failed" in cluster.ernie("status", self.name).stdout.splitlines()[-1], "the job's end")
        print(f"the job of a killed driver failed after {time.monotonic() - begun:.1f} s")
        self.submit(cluster)

    def resumed(self) -> list[tuple[int, int]]:
        """Return for each start from a checkpoint its step, and how many steps after it had been done."""
        log = self.folder / LOG_NAME
        found: list[tuple[int, int]] = []
        last = 0
        for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
            if start := re.match(r"resumed from \S+ at step (\d+) ", line):
                found.append((int(start[1]), last - int(start[1])))
                last = int(start[1])
            elif (step := re.search(r"\bstep: (\d+)", line)) and not line.startswith("[validation"):
                last = int(step[1])
        return found


def wait(reached: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until `reached()`."""
    end = time.monotonic() + patience_s
    while not reached():
        assert time.monotonic() < end, f"waited {patience_s:.0f} s in vain for {what}"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Return whether a process is there and no zombie."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        stat = Path(f"/proc/{pid}/stat")
        return stat.exists() and stat.read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
