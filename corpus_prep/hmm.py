"""jieba's hidden Markov model over runs of single characters, many runs at once: its sums in its order, and its ties (`finalseg.viterbi`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
STATES = "BMES"  # begin, middle, end of a word; single
IMPOSSIBLE = -3.14e100  # jieba's logarithm of 0
_B, _M, _E, _S = range(4)
# The two states that may stand before each; of equal scores jieba's `max` over (score, letter) takes the later letter, named second here.
_BEFORE = ((_E, _S), (_B, _M), (_B, _M), (_E, _S))


class Hmm:
    """The model's tables over the basic plane.

    Args:
        start: state -> log probability of beginning with it.
        transitions: state -> state -> log probability.
        emissions: state -> character -> log probability.
    """

    def __init__(
        self, start: Mapping[str, float], transitions: Mapping[str, Mapping[str, float]], emissions: Mapping[str, Mapping[str, float]]
    ) -> None:
        self._start = [start[s] for s in STATES]
        self._steps = [[transitions[a].get(b, IMPOSSIBLE) for b in STATES] for a in STATES]
        self._emissions = np.full((4, 1 << 16), IMPOSSIBLE)
        for state, table in zip(range(4), (emissions[s] for s in STATES), strict=True):
            for character, weight in table.items():
                self._emissions[state, ord(character)] = weight

    def word_ends(self, codes: NDArray[np.uint32], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return for each code point whether a word ends there, on the most probable path of the run that holds it.

        Args:
            codes: uint32[N], code points of a text.
            starts: int64[R], where runs begin in it.
            lengths: int64[R], their lengths, 1 or more; runs do not overlap.

        Returns:
            bool[N], False outside of the runs.

        Example: 常在某 as one run -> ``[True, True, True]``.
        """
        ends = np.zeros(len(codes), bool)
        if not len(starts):
            return ends
        order = np.argsort(-lengths, kind="stable")
        starts, lengths = starts[order], lengths[order]
        # runs longer than t come first: `alive[t]` of them
        alive = len(lengths) - np.searchsorted(lengths[::-1], np.arange(int(lengths[0])), "right")
        scores = [start + row for start, row in zip(self._start, self._emissions[:, codes[starts]], strict=True)]
        origins: list[NDArray[np.bool_]] = []
        final = np.empty((2, len(starts)))
        for t in range(1, len(alive)):
            count = int(alive[t])
            final[:, count : len(scores[_E])] = scores[_E][count:], scores[_S][count:]
            scores, origin = self._step([s[:count] for s in scores], self._emissions[:, codes[starts[:count] + t]])
            origins.append(origin)
        final[:, : len(scores[_E])] = scores[_E], scores[_S]
        state = np.where(final[1] >= final[0], _S, _E)
        before = np.array(_BEFORE)
        for t in range(len(alive) - 1, -1, -1):
            now = state[: int(alive[t])]
            ends[starts[: len(now)] + t] = now >= _E
            if t:
                second = origins[t - 1][now, np.arange(len(now))]
                state[: len(now)] = before[now, second.astype(np.int64)]
        return ends

    def _step(self, scores: list[Floats], emitted: Floats) -> tuple[list[Floats], NDArray[np.bool_]]:
        """Return the scores of one character further, and whether each came from the second state of `_BEFORE`: bool[4, runs]."""
        found: list[Floats] = []
        origin = np.empty((4, len(scores[0])), bool)
        for state, (first, second) in enumerate(_BEFORE):
            one = scores[first] + self._steps[first][state] + emitted[state]
            other = scores[second] + self._steps[second][state] + emitted[state]
            np.greater_equal(other, one, out=origin[state])
            found.append(np.maximum(one, other))
        return found, origin
