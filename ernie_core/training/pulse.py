"""Names the ranks that others wait for in vain (reliability.md F7): each rank says twice a second that it lives, and at which collective call it stands."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

from torch import distributed
from torch.distributed import distributed_c10d

INTERVAL_S = 0.5
_LOOK_S = 2.0  # a process that is merely slow says something in this time
_STORE_S = 3.0  # the store answers within this time, or its process is silent itself


class Pulse:
    """This rank's word in the group's store, which lives in the process of rank 0."""

    def __init__(self) -> None:
        self.rank, self._world = distributed.get_rank(), distributed.get_world_size()
        self.calls = self._beats = 0
        store: Any = distributed_c10d._get_default_store()  # noqa: SLF001  torch hands it out nowhere else
        self._told, self._asked = (distributed_c10d.PrefixStore("ernie-pulse", store.clone()) for _ in range(2))  # a call blocks its own store only
        self._say()
        distributed.barrier()  # every rank's word is there
        threading.Thread(target=self._go_on, name="pulse", daemon=True).start()

    def _say(self) -> None:
        self._beats += 1
        self._told.set(str(self.rank), f"{self._beats} {self.calls}")

    def _go_on(self) -> None:
        with suppress(RuntimeError):  # the store is gone: the group has ended
            while True:
                time.sleep(INTERVAL_S)
                self._say()

    def silent_ranks(self) -> list[int]:
        """Return the ranks that say nothing any more, or stand at an earlier collective call than this one; 0 where its store is silent."""
        found: list[list[int]] = []
        thread = threading.Thread(
            target=lambda: found.append(self._look()), name="pulse-look", daemon=True
        )  # a store call has no time-out that holds
        thread.start()
        thread.join(_LOOK_S + _STORE_S)
        if self.rank == 0:
            time.sleep(_LOOK_S / 2)  # the others ask its store too
        return found[0] if found else [0]

    def _look(self) -> list[int]:
        try:
            before = [self._heard(rank) for rank in range(self._world)]
            time.sleep(_LOOK_S)
            after = [self._heard(rank) for rank in range(self._world)]
        except RuntimeError:
            return [0]
        others = [rank for rank in range(self._world) if rank != self.rank]
        return [rank for rank in others if before[rank][0] == after[rank][0] or after[rank][1] < self.calls]

    def _heard(self, rank: int) -> tuple[int, int]:
        beats, calls = self._asked.get(str(rank)).decode().split()
        return int(beats), int(calls)
