"""A feed that ends with an error where data do not come, never with a hang: storage that no longer answers blocks a read for ever."""

from __future__ import annotations

import queue
import threading
from typing import Generic, Protocol, TypeVar

from ernie_core.errors import ResourceError

StepT_co = TypeVar("StepT_co", covariant=True)


class Source(Protocol[StepT_co]):
    """A feed that can say what it reads."""

    @property
    def reading(self) -> str: ...

    def next(self) -> StepT_co: ...


class WatchedFeed(Generic[StepT_co]):
    """Gives the steps of `source`, each read in a thread of its own, and waits for it `timeout_s` seconds at most."""

    def __init__(self, source: Source[StepT_co], timeout_s: float) -> None:
        self._source, self._timeout_s = source, timeout_s
        self._asked: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._given: queue.SimpleQueue[StepT_co | BaseException] = queue.SimpleQueue()
        threading.Thread(target=self._read, name="feed", daemon=True).start()  # a daemon: nothing waits for it at the end

    def _read(self) -> None:
        while self._asked.get():
            try:
                self._given.put(self._source.next())
            except BaseException as e:  # noqa: BLE001  raised where it was asked for
                self._given.put(e)

    def next(self) -> StepT_co:
        """Return the next step.

        Raises:
            ResourceError: E-DATA-SILENT, nothing came in time.
            Exception: what the source raises.
        """
        self._asked.put(True)
        try:
            given = self._given.get(timeout=self._timeout_s)
        except queue.Empty:
            raise ResourceError(
                "E-DATA-SILENT", "no sample came", where=self._source.reading, expected=f"the next batch within {self._timeout_s:g} s",
                found="a read that has not ended", fix="see whether that storage answers, then run the same command again; pretrain.timeout_s is the limit",
            ) from None  # fmt: skip
        if isinstance(given, BaseException):
            raise given
        return given

    def close(self) -> None:
        """End the thread, if it is not stuck."""
        self._asked.put(False)
