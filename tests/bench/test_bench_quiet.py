"""Figures of wall time that need a quiet machine: `pytest -m bench tests/bench/test_bench_quiet.py -s` with nothing beside it.

MFU at the base shape against this machine's own matrix product; Ray Train against the same loop in this process; two ranks of one thread against
one rank of two; a step with MLflow's server up, hung and gone.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from recipe_helper import points
from server_helper import MlflowServer, pretrain
from test_bench_pretraining import BASE, HEADS, OurFeed, made_rows, ours

from ernie_core.model.ernie import ErnieForPretraining
from ernie_core.training.flops import matmul_peak, step_flops
from ernie_core.training.precision import bf16_pays
from pipelines.pretrain_rank import _Rank

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]
MFU = [("fp32", 0.75), ("bf16", 0.60)]


@pytest.mark.parametrize(("precision", "least"), MFU)
@pytest.mark.usefixtures("two_threads")
def test_the_base_shape_reaches_a_share_of_the_matrix_product(precision: str, least: float) -> None:
    """Steps of 8,192 places, attention counted, padding not; the peak is measured before and after, the higher one counts."""
    device = torch.device("cpu")
    feed = Counted(made_rows(4096))
    model = ErnieForPretraining(BASE, HEADS, seed=1)
    peaks = [matmul_peak(precision, device)]
    ours(model, feed, 1, precision)
    shares = []
    for _ in range(int(os.environ.get("ERNIE_BENCH_STEPS", "2"))):
        before, busy = feed.flops, time.process_time()
        seconds, _ = ours(model, feed, 1, precision)
        shares.append((feed.flops - before) / seconds)
        busy = (time.process_time() - busy) / seconds
    peaks.append(matmul_peak(precision, device))
    reached = statistics.median(shares)
    print(
        f"\nbase 12x768, {precision}, 2 threads: {reached / 1e9:.0f} GFLOP/s of a peak of {max(peaks) / 1e9:.0f} ({min(peaks) / 1e9:.0f} the other time): "
        f"MFU {reached / max(peaks):.2f} (bound {least}); it had {busy:.2f} of 2 processors, bf16 pays here: {bf16_pays()}"
    )
    assert reached / max(peaks) >= least


class Counted(OurFeed):
    """Global batches of 8,192 places, with the operations that they take."""

    def __init__(self, rows: Any) -> None:
        super().__init__(rows, BASE, 8192)
        self.flops = 0.0

    def next(self) -> Any:
        step = super().next()
        self.flops += sum(step_flops(BASE, batch) for batch in step.batches)
        return step


RUN = (
    "pretrain.model={num_hidden_layers: 4, hidden_size: 312, num_attention_heads: 12, dropout: 0.1}", "pretrain.device_tokens=2048", "pretrain.skip_steps=1",
    "pretrain.save_steps=1000", "pretrain.validation_steps=1000", "pretrain.validation_rows=16",
)  # fmt: skip


def median_rate(recipe: Path, folder: Path, batch_tokens: int, workers: int, ranks: int, threads: int) -> float:
    """Return the median over 20 steps of real tokens a second of a run of its own process, after 4 that are left out; Ray's start is no part of a step."""
    done = recipe.parent / "runs" / "ranks"
    (folder / "ranks").mkdir(parents=True)
    shutil.copytree(done / "prepare", folder / "ranks" / "prepare")
    shutil.copy(done / "run.json", folder / "ranks")
    words = [
        f"root={folder}",
        f"workers={workers}",
        f"pretrain.workers={ranks}",
        f"pretrain.threads={threads}",
        f"pretrain.batch_tokens={batch_tokens}",
        "pretrain.iterations={knowledge_masking: 16, next_sentence: 4, sentence_reordering: 4}",
        *RUN,
    ]
    command = [sys.executable, "-m", "jobs.cli", "pretrain", str(recipe), *(part for word in words for part in ("--set", word))]
    env = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "RAY_TMPDIR": str(folder.parents[1] / "r")}
    env.pop("OMP_NUM_THREADS", None)
    ended = subprocess.run(command, cwd=recipe.parent, env=env, capture_output=True, text=True, check=False, timeout=600)
    assert ended.returncode == 0, ended.stderr
    rates = [p["metrics"]["perf/tokens_per_s"] for p in points(folder / "ranks") if "perf/tokens_per_s" in p["metrics"]]
    assert len(rates) == 24
    return statistics.median(rates[4:])


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short path: a socket's has at most 107 bytes."""
    folder = Path(f"/tmp/eb{os.getpid()}")
    folder.mkdir()
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("batch_tokens", [8192, 2048])
def test_ray_train_costs_nothing_after_its_start_and_ranks_scale(batch_tokens: int, recipe: Path, short: Path) -> None:
    """At 4x312 in fp32: 1 rank on Ray Train >= 0.97 of `workers: 0`; 2 ranks of 1 thread >= 0.95 of 1 rank of 2 and >= 1.7 of 1 rank of 1.

    Batches of the reference's 8,192 tokens, and of a recipe's default. Sides alternate, medians of 2 runs each. With as many threads as cores Ray's own
    processes, a tenth of a core, take their time from a loop whose threads wait for each other: measured and bounded too.
    """
    sides = {
        "in process, 1 x 1 thread": (0, 1, 1), "Ray Train, 1 x 1 thread": (2, 1, 1), "in process, 1 x 2 threads": (0, 1, 2), "Ray Train, 1 x 2 threads": (2, 1, 2),
        "Ray Train, 2 x 1 thread": (2, 2, 1),
    }  # fmt: skip
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(2):
        for at, (side, layout) in enumerate(sides.items()):
            rates[side].append(median_rate(recipe, short / f"{number}{at}" / "x", batch_tokens, *layout))
    here, single, here_two, one, two = (statistics.median(values) for values in rates.values())
    print(f"\nbatches of {batch_tokens} tokens")
    for side, values in rates.items():
        print(f"  {side:<26} {statistics.median(values):7.0f} real tokens/s, runs {', '.join(f'{v:.0f}' for v in values)}")
    print(f"  Ray Train / in process: 1 thread {single / here:.3f}, 2 threads {one / here_two:.3f} (bound 0.97)")
    print(f"  two ranks / two threads {two / one:.3f} (0.95), two ranks / one {two / single:.2f} (1.7)")
    assert two / one >= 0.95
    assert two / single >= 1.7
    assert single / here >= 0.97
    assert one / here_two >= 0.97


def test_a_server_that_hangs_or_is_gone_adds_one_percent_to_a_step_at_most(
    recipe: Path, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F74: one run of 4x312, MLflow's server by turns of 20 steps up and hung, 4 times, and then killed; medians of a step's wall and CPU time for a thousand places."""
    (tmp_path / "server").mkdir()
    shutil.copy(empty_store, tmp_path / "server" / "mlflow.db")
    server = MlflowServer(f"sqlite:///{tmp_path}/server/mlflow.db", tmp_path / "server")
    taken: dict[str, list[tuple[float, float]]] = {"up": [], "hung": [], "gone": []}
    on_step, busy = _Rank.on_step, [0.0]

    def timed(self: Any, result: Any) -> None:
        """Take note of a step, and change what the server does every twenty."""
        on_step(self, result)
        now = time.process_time()
        if result.step % 20 not in {0, 1}:  # not those in which the server changes
            kind = "gone" if result.step > 160 else "hung" if (result.step - 1) // 20 % 2 else "up"
            taken[kind].append((1e3 * result.seconds / result.places, 1e3 * (now - busy[0]) / result.places))
        busy[0] = now
        if result.step % 20 == 0 and result.step <= 160:
            server.signal(signal.SIGCONT if result.step // 20 % 2 == 0 else signal.SIGSTOP)
        if result.step == 160:
            server.signal(signal.SIGKILL)

    monkeypatch.setattr(_Rank, "on_step", timed)
    more = [
        *RUN,
        "pretrain.threads=1",
        "pretrain.batch_tokens=1024",
        "pretrain.iterations={knowledge_masking: 160, next_sentence: 40, sentence_reordering: 40}",
    ]
    try:
        pretrain(recipe, tmp_path / "runs", server.uri, monkeypatch, None, more)
    finally:
        server.close()
    assert [len(values) for values in taken.values()] == [72, 72, 72]
    wall, cpu = ({kind: statistics.median(v[i] for v in values) for kind, values in taken.items()} for i in (0, 1))
    for kind in taken:
        print(
            f"\nMLflow's server {kind:<4}: a thousand places {wall[kind]:.3f} s ({wall[kind] / wall['up'] - 1:+.1%}), {cpu[kind]:.3f} s of CPU ({cpu[kind] / cpu['up'] - 1:+.1%})",
            end="",
        )
    print()
    assert max(wall["hung"], wall["gone"]) <= 1.01 * wall["up"]
