"""Saves checkpoints in the background: a copy is made at once, writing goes on beside training, at most one at a time (reliability.md 4.6)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ernie_core.errors import ResourceError
from ernie_core.training import checkpoint


class Saver:
    """Writes the checkpoints of a run, on rank 0.

    Args:
        root: the run's checkpoint folder.
        keep: newest complete checkpoints to keep.
        timeout_s: longest wait for a checkpoint in flight.
        first: called before a checkpoint's manifest is written: what it refers to must be durable by then.

    `committed` is the newest checkpoint that this process has completed.
    """

    def __init__(self, root: Path, keep: int, timeout_s: float, first: Callable[[], None] = lambda: None) -> None:
        self._root, self._keep, self._timeout_s, self._first = root, keep, timeout_s, first
        self._copy: checkpoint.Copy | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self.committed: Path | None = None

    def save(
        self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any], fingerprint: Mapping[str, Any],
        scores: Mapping[int, float],
    ) -> None:  # fmt: skip
        """Begin to write a checkpoint, after the one before it is done; see `checkpoint.save`.

        Raises:
            ErnieError: why the one before it failed.
        """
        self.wait()
        copy = self._copy = checkpoint.Copy.of(model, optimizer, state, self._copy)
        scores = dict(scores)

        def write() -> None:
            """Commit it, or keep the error for `check`."""
            try:
                self._first()
                self.committed = checkpoint.save(self._root, step, copy, self._keep, fingerprint, scores)
            except BaseException as e:  # noqa: BLE001  raised by `check`, in the thread that trains
                self._error = e

        self._thread = threading.Thread(target=write, name="checkpoint", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise the error of a checkpoint that could not be written, once that is known; waits for nothing."""
        if self._thread is not None and not self._thread.is_alive():
            self.wait()

    def wait(self) -> None:
        """Return when nothing is in flight.

        Raises:
            ErnieError: why the last checkpoint could not be written; E-CKPT-SILENT, it still is not.
        """
        if self._thread is not None:
            self._thread.join(self._timeout_s)
            if self._thread.is_alive():
                raise ResourceError(
                    "E-CKPT-SILENT", "a checkpoint is still being written", where=str(self._root), expected=f"its end within {self._timeout_s:g} s",
                    fix="see whether that storage answers; where it is slow, raise pretrain.timeout_s and pretrain.save_steps",
                )  # fmt: skip
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error
