"""What a log line says: sums since the last line, kept in the checkpoint so that a resumed run prints the same figures, and the seed's wording."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ernie_core.model.heads import LM
from ernie_core.training.evaluate import Evaluation
from ernie_core.training.feed import FeedStep
from ernie_core.training.loop import StepResult

EXP_LIMIT = 700.0


class Meter:
    """Sums over the steps since the last `restart`.

    Args:
        weights: loss name -> its weight in the total loss.
        sums: name -> value, from `state`.
    """

    def __init__(self, weights: Mapping[str, float], sums: Mapping[str, float] | None = None) -> None:
        self._weights, self._sums = dict(weights), dict(sums or {})

    def add(self, result: StepResult[FeedStep], flops: float) -> None:
        """Add a step, which took this rank `flops` operations; one that was left out for non-finite numbers counts only in time."""
        self._plus("seconds", result.seconds)
        self._plus("data_seconds", result.data_seconds)
        self._plus("places", result.places)
        self._plus("real", sum(int(batch.lengths.sum()) for batch in result.feed.batches))
        self._plus("flops", flops)
        self._plus("steps", 1)
        if result.skipped:
            return
        self._plus("tokens", result.tokens)
        self._plus("updates", 1)
        self._plus("total", sum(self._weights[name] * loss for name, loss in result.losses.items()))
        for name, count in result.counts.items():
            self._plus(f"count/{name}", count)
            self._plus(f"loss/{name}", result.losses[name] * count)
            self._plus(f"correct/{name}", result.correct[name] * count)
        if LM in result.losses:
            self._plus("exp_lm", math.exp(min(result.losses[LM], EXP_LIMIT)))
            self._plus("lm_steps", 1)

    def _plus(self, name: str, value: float) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + value

    def restart(self) -> None:
        """Begin a new interval."""
        self._sums.clear()

    def state(self) -> dict[str, float]:
        """Return the sums, as JSON values."""
        return dict(self._sums)

    def mean(self, name: str) -> float | None:
        """Return the mean loss `name` over the interval's scored items, or None if there were none."""
        return self._ratio(f"loss/{name}", f"count/{name}")

    def accuracy(self, name: str) -> float | None:
        """Return the share of right classes of `name` over the interval, or None if there were none."""
        return self._ratio(f"correct/{name}", f"count/{name}")

    def _ratio(self, above: str, below: str) -> float | None:
        return self._sums[above] / self._sums[below] if self._sums.get(below) else None

    @property
    def names(self) -> list[str]:
        """Losses that were there in the interval, the masked LM's left out."""
        return sorted(n.removeprefix("count/") for n in self._sums if n.startswith("count/") and n != f"count/{LM}")

    def speed(self) -> tuple[float, float]:
        """Return (steps/s, real tokens/s) of the interval."""
        seconds = max(self._sums.get("seconds", 0.0), 1e-9)
        return self._sums.get("steps", 0.0) / seconds, self._sums.get("tokens", 0.0) / seconds

    def total(self) -> float:
        """Return the mean weighted loss of a step; NaN if no step of the interval was finite."""
        total = self._ratio("total", "updates")
        return math.nan if total is None else total

    def ppl(self) -> float | None:
        """Return the mean over steps of exp(masked-LM loss), as the seed prints it."""
        return self._ratio("exp_lm", "lm_steps")

    def metrics(self, peak: float) -> dict[str, float]:
        """Return the interval's figures under their journal names; `peak`: operations a second that this rank's device reached on a matrix product."""
        found = {"train/lm_loss": self.mean(LM), "train/lm_ppl": self.ppl(), "train/lm_acc": self.accuracy(LM), "train/loss": self.total()}
        for name in self.names:
            found |= {f"train/{name}/loss": self.mean(name), f"train/{name}/acc": self.accuracy(name)}
        return {name: value for name, value in found.items() if value is not None} | self._performance(peak)

    def _performance(self, peak: float) -> dict[str, float]:
        seconds = max(self._sums.get("seconds", 0.0), 1e-9)
        found = {"perf/tokens_per_s": self.speed()[1], "perf/data_wait_share": self._sums.get("data_seconds", 0.0) / seconds}
        if places := self._sums.get("places"):
            found["perf/padding_share"] = 1 - self._sums["real"] / places
            found["perf/mfu"] = self._sums["flops"] / seconds / peak
        return found


def log_line(result: StepResult[FeedStep], meter: Meter) -> str:
    """Return the seed's training line (ernie.md 6.6): figures over the steps since the last one; accuracies only of tasks that were there.

    Example: ``epoch: 1, progress: 31/4480, step: 20, loss: 8.671612, ppl: 5826.1, next_sent_acc: 0.515625, speed: 3.08 steps/s, 6120 tokens/s,
    file: shards/next_sentence/train-00002.parquet, mask_type: mask_word, learning_rate: 1.000000e-03``.
    """
    feed, (steps_per_s, tokens_per_s) = result.feed, meter.speed()
    done, total = feed.progress
    ppl = meter.ppl()
    parts = [f"epoch: {feed.epoch + 1}", f"progress: {done}/{total}", f"step: {result.step}", f"loss: {meter.total():.6f}"]
    parts += [] if ppl is None else [f"ppl: {ppl:.6f}"]
    parts += [f"{accuracy_name(name)}: {meter.accuracy(name):.6f}" for name in meter.names]
    parts += [f"speed: {steps_per_s:.2f} steps/s, {tokens_per_s:.0f} tokens/s", f"file: {feed.file}", f"mask_type: {feed.mask_type}"]
    return ", ".join([*parts, f"learning_rate: {result.learning_rate:.6e}"])


def memory_mb(device: torch.device) -> float:
    """Return the most memory this process has held so far, MiB: on the card where there is one, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def validation_metrics(task: str, found: Mapping[str, Evaluation], *, masked: bool) -> dict[str, float]:
    """Return an evaluation under its journal names.

    Perplexity both ways: "lm_ppl", the mean over batches of exp(mean loss), as the seed prints it, and "lm_global_ppl", exp of the mean over targets.

    Example (masked rows of next_sentence): ``{"valid/next_sentence/lm_loss": 6.1, "valid/next_sentence/acc_masked": 0.52}``.
    """
    metrics: dict[str, float] = {}
    if masked and LM in found:
        lm = found[LM]
        metrics |= {
            f"valid/{task}/{name}": value
            for name, value in (("lm_loss", lm.loss), ("lm_ppl", lm.batch_ppl), ("lm_global_ppl", lm.global_ppl), ("lm_acc", lm.accuracy))
        }
    if task in found:
        own = found[task]
        if masked:
            return metrics | {f"valid/{task}/acc_masked": own.accuracy}
        metrics |= {f"valid/{task}/loss": own.loss, f"valid/{task}/acc": own.accuracy}
        metrics |= {
            f"valid/{task}/{name}": value for name, value in (("average_precision", own.average_precision), ("auc", own.auc)) if value is not None
        }
        metrics |= {f"valid/{task}/{name}": value for name, value in own.figures.items()}
    return metrics


def more_is_better(name: str) -> bool:
    """Return whether a validation metric grows as the model gets better: "valid/next_sentence/acc" does, "valid/knowledge_masking/lm_loss" does not."""
    return not name.endswith(("loss", "ppl"))


def accuracy_name(task: str) -> str:
    """Return the seed's name of a task's accuracy: `next_sent_acc`, and Baidu's later `acc_<task>` for the others."""
    return "next_sent_acc" if task == "next_sentence" else f"acc_{task}"


def validation_line(step: int, tasks: Sequence[str], metrics: Mapping[str, Any]) -> str:
    """Return the seed's validation line, the figures of every task that has entered.

    Example: ``[validation_set] step: 200, knowledge_masking: lm_loss: 6.18, global ppl: 483.0, next_sentence: next_sent_acc: 0.53, …``.
    """
    parts = [f"[validation_set] step: {step}"]
    for task in tasks:
        shown = []
        lm_loss = metrics.get(f"valid/{task}/lm_loss")
        if lm_loss is not None:
            shown += [f"lm_loss: {lm_loss:.6f}", f"global ppl: {metrics[f'valid/{task}/lm_global_ppl']:.3f}"]
        if f"valid/{task}/acc" in metrics:
            shown.append(f"{accuracy_name(task)}: {metrics[f'valid/{task}/acc']:.6f}")
        said = {f"valid/{task}/{name}" for name in ("lm_loss", "lm_ppl", "lm_global_ppl", "lm_acc", "loss", "acc", "acc_masked")}
        others = [name for name in metrics if name.startswith(f"valid/{task}/") and name not in said]
        shown += [f"{name.rsplit('/', 1)[1]}: {metrics[name]:.6f}" for name in others]
        parts.append(f"{task}: " + ", ".join(shown))
    return ", ".join(parts)
