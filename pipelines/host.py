"""What runs a rank, as the rank sees it: told of checkpoints, asked whether this machine goes. Knows nothing of Ray; `ray_train` has Ray's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from ernie_core.training.worker import Worker


class Host(Protocol):
    """What runs the ranks."""

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None) -> None:
        """Tell that a checkpoint was committed; every rank calls it equally often."""

    def leaving(self) -> bool:
        """Return whether the machine of this rank is about to be taken away."""

    def notes(self) -> list[str]:
        """Return what a person should know of the machine, a line of the log each."""


class LocalHost:
    """This process itself."""

    def report(self, metrics: Mapping[str, float], checkpoint: Path | None) -> None:
        """Tell nobody."""

    def leaving(self) -> bool:
        """Return False: a stop comes by the stop file."""
        return False

    def notes(self) -> list[str]:
        """Return nothing."""
        return []


TrainFunction = Callable[[dict[str, Any], Worker, Host], None]
