"""Long texts read in overlapping windows: where these lie, and which of them decides on a token (ernie.md 8.3)."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

STRIDE = 128


class Window(NamedTuple):
    """Tokens [start, end) of a text, of which [first, last) are decided here: each token in the window that shows most around it."""

    start: int
    end: int
    first: int
    last: int


@functools.lru_cache(maxsize=1 << 14)
def windows(size: int, room: int) -> tuple[Window, ...]:
    """Return the windows over a text.

    They begin every 128 tokens, or every half window where `room` is below 256. A token is decided by the window with the greatest
    min(tokens before, tokens after) + 0.01 x window length, the earlier of equal ones: such tokens stand together.

    Args:
        size: tokens of the text; one empty window if 0.
        room: most tokens of a window, at least 1.

    Example: ``windows(5, 4)`` -> ``(Window(0, 4, 0, 3), Window(2, 5, 3, 5))``.
    """
    stride = min(STRIDE, (room + 1) // 2)
    starts = np.arange(0, max(size - room, 0) + stride, stride)
    ends = np.minimum(starts + room, size)
    token = np.arange(size)
    around = np.minimum(token - starts[:, None], ends[:, None] - 1 - token)  # int64[windows, tokens], negative outside the window
    best = np.where(around < 0, -np.inf, around + 0.01 * (ends - starts)[:, None]).argmax(axis=0)
    bounds = np.searchsorted(best, np.arange(len(starts) + 1)).tolist()
    return tuple(map(Window, starts.tolist(), ends.tolist(), bounds[:-1], bounds[1:]))
