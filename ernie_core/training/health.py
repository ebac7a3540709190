"""Which steps are left out, and when training goes back or gives up (reliability.md F67-F70). All of it is in the checkpoint, and the same on all ranks."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ernie_core.errors import DivergedError
from ernie_core.training.precision import LossScale

MAX_BAD_STEPS = 3
"""Steps in a row with non-finite numbers after which training goes back or gives up; fp16 overflows while the loss scale can go down do not count."""
MAX_ROLLBACKS = 2
"""How often a run goes back to a good checkpoint before it gives up."""
WINDOW, SEEN = 128, 64
"""Losses of a task that a spike is held against, and how many of them there must be."""
LEAST_DEVIATION = 0.02
"""Of the mean: where losses hardly differ, a spike at 6 deviations is still 12 % above it."""
NONFINITE, OVERFLOW, SPIKE = "non-finite", "overflow", "spike"


class Spikes:
    """Tells a loss that stands out from the last ones of its task.

    Args:
        sigma: how many standard deviations above the mean of the window; None = nothing ever does.

    A loss that stands out goes into the window cut to the bound, so that one spike does not hide the next, and losses that stay high are
    taken after some steps. (The rule is OLMo-core's SkipStepOptimizer's: reliability.md 1.)
    """

    def __init__(self, sigma: float | None = None) -> None:
        self._sigma = sigma
        self._windows: dict[str, deque[float]] = {}

    def stands_out(self, task: str, loss: float) -> bool:
        """Take note of a finite loss, and return whether it is a spike."""
        if self._sigma is None:
            return False
        window = self._windows.setdefault(task, deque(maxlen=WINDOW))
        bound = math.inf
        if len(window) >= SEEN:
            values = np.array(window)
            mean = float(values.mean())
            bound = mean + self._sigma * max(float(values.std()), LEAST_DEVIATION * abs(mean))
        window.append(min(loss, bound))
        return loss > bound

    def restart(self) -> None:
        """Forget all losses: what is masked has changed."""
        self._windows.clear()

    def state(self) -> dict[str, list[float]]:
        """Return the windows, as JSON values."""
        return {task: list(window) for task, window in sorted(self._windows.items())}

    def load_state(self, state: Mapping[str, list[float]]) -> None:
        """Go on from a `state()`."""
        self._windows = {task: deque(values, maxlen=WINDOW) for task, values in state.items()}


class Health:
    """Judges each step by numbers that are the same on all ranks.

    Args:
        precision: see `precision.PRECISIONS`.
        spike_sigma: see `Spikes`.

    `skipped` are the steps left out so far, `bad_in_a_row` the last ones of them that are a sign of divergence, `rollbacks` how often
    training went back.
    """

    def __init__(self, precision: str, spike_sigma: float | None = None) -> None:
        self.scaling, self.spikes = LossScale(precision), Spikes(spike_sigma)
        self.skipped: list[int] = []
        self.bad_in_a_row = self.rollbacks = 0

    def judge(self, step: int, task: str, losses: Mapping[str, float], watched: float | None, grad_norm: float) -> str:
        """Return why a step is to be left out: NONFINITE, OVERFLOW (fp16, excused as long as the scale can go down), SPIKE; "" if it is good.

        Args:
            step: from 1.
            task: of the batch.
            losses: means over the global batch.
            watched: that of them, if any, which must not stand out.
            grad_norm: of the global batch.
        """
        losses_finite, gradients_finite = all(map(math.isfinite, losses.values())), math.isfinite(grad_norm)
        excused = self.scaling.update(losses_finite=losses_finite, gradients_finite=gradients_finite)
        why = ""
        if not (losses_finite and gradients_finite):
            why = OVERFLOW if excused else NONFINITE
        elif watched is not None and self.spikes.stands_out(task, watched):
            why = SPIKE
        self.bad_in_a_row = self.bad_in_a_row + 1 if why == NONFINITE else 0
        if why:
            self.skipped.append(step)
        return why

    def check(self, step: int, sample_ids: NDArray[np.uint64]) -> None:
        """Raise once as many steps in a row were bad as there may be.

        Args:
            step: the last one.
            sample_ids: of its global batch.

        Raises:
            DivergedError: E-DIVERGED, with the samples of the last batch.
        """
        if self.bad_in_a_row < MAX_BAD_STEPS:
            return
        raise DivergedError(
            "E-DIVERGED", "training gave numbers that are not finite", where=f"steps {step - self.bad_in_a_row + 1} to {step}",
            expected="finite losses and gradients", found=f"{self.bad_in_a_row} bad steps in a row, the last on samples {shown_ids(sample_ids, 256)}",
            fix="lower the learning rate or lengthen the warmup; if it is always the same samples, look at them",
        )  # fmt: skip

    def went_back(self, good_step: int, step: int) -> None:
        """Take note that weights and moments are those of `good_step` again, and what came after it up to `step` is left out."""
        self.skipped = sorted({*self.skipped, *range(good_step + 1, step + 1)})
        self.rollbacks, self.bad_in_a_row = self.rollbacks + 1, 0

    def state(self) -> dict[str, Any]:
        """Return all of it, as JSON values."""
        return {
            "skipped": list(self.skipped), "bad_in_a_row": self.bad_in_a_row, "rollbacks": self.rollbacks,
            "loss_scale": self.scaling.state(), "spikes": self.spikes.state(),
        }  # fmt: skip

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state()`."""
        self.skipped, self.bad_in_a_row, self.rollbacks = list(state["skipped"]), state["bad_in_a_row"], state["rollbacks"]
        self.scaling.load_state(state["loss_scale"])
        self.spikes.load_state(state["spikes"])


def shown_ids(sample_ids: NDArray[np.uint64], most: int) -> str:
    """Return ids as text, the first `most` of them.

    Example: ``shown_ids(np.array([255, 256], np.uint64), 1)`` -> ``"00000000000000ff and 1 more"``.
    """
    more = f" and {len(sample_ids) - most} more" if len(sample_ids) > most else ""
    return ", ".join(f"{i:016x}" for i in sample_ids[:most].tolist()) + more
