"""The best tag sequence that B-/I-/O allows: an I-X stands only after B-X or I-X, so a sentence starts with O or a B (Viterbi)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
_LARGEST = float(np.finfo(np.float32).max)


def transitions(labels: Sequence[str]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Say which tags are legal.

    Args:
        labels: tag names by id: "O", "B-PER", "I-PER", …

    Returns:
        (bool[C], which may start a sentence; bool[C, C], whether the second may follow the first).

    Example: labels B-X, I-X, O -> ``([1, 0, 1], [[1, 1, 1], [1, 1, 1], [1, 0, 1]])``.
    """
    inside = np.array([tag.startswith("I-") for tag in labels])
    kinds = np.array([tag[1:] for tag in labels])  # "" for O
    return ~inside, ~inside[None, :] | (kinds[:, None] == kinds[None, :])


def first_illegal(tags: NDArray[np.integer[Any]], offsets: NDArray[np.int64], labels: Sequence[str]) -> NDArray[np.bool_]:
    """Return bool[N]: whether a tag may not stand after the one before it in its sentence; arguments as in `best_tags`.

    Example: tags of O I-PER I-PER, offsets [0, 1, 3] -> [False, True, False].
    """
    may_start, may_follow = transitions(labels)
    first = np.zeros(len(tags) + 1, dtype=np.bool_)
    first[offsets] = True
    bad: NDArray[np.bool_] = first[:-1] & ~may_start[tags]
    bad[1:] |= ~first[1:-1] & ~may_follow[tags[:-1], tags[1:]]
    return bad


def best_tags(logits: Floats, offsets: NDArray[np.int64], labels: Sequence[str]) -> NDArray[np.int64]:
    """Return the legal tags of the highest summed score of each sentence; a softmax's logarithm would choose the same, for it only shifts a token.

    Args:
        logits: float[N, C], of the tokens of all sentences end to end. Any numbers give legal tags: NaN counts as the lowest score.
        offsets: int64[n + 1], where each sentence starts; the last is N. A sentence may be empty.
        labels: C tag names by id, O among them.

    Returns:
        int64[N]. Each token's best tag where these are legal together; of equal sequences one, always the same.

    Example: labels B-X, I-X, O; one sentence of logits [[0, 0, 2], [2, 3, 0]] -> [2, 0], O B-X, of score 4: O I-X is not legal, B-X I-X has 3.

    Source: Viterbi (1967); time is O(longest sentence) steps over all sentences at once, O(N C²) operations.
    """
    scores = np.nan_to_num(logits.astype(np.float64), nan=-_LARGEST, posinf=_LARGEST, neginf=-_LARGEST)
    scores -= scores.max(axis=1, keepdims=True)
    tags: NDArray[np.int64] = scores.argmax(axis=1).astype(np.int64)
    bad = np.flatnonzero(first_illegal(tags, offsets, labels))
    sentences = np.unique(np.searchsorted(offsets, bad, side="right") - 1)
    lengths = np.diff(offsets)[sentences]
    longest_first = np.argsort(-lengths, kind="stable")
    _viterbi(scores, offsets[:-1][sentences][longest_first], lengths[longest_first], *transitions(labels), tags)
    return tags


def _viterbi(
    scores: NDArray[np.float64],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    may_start: NDArray[np.bool_],
    may_follow: NDArray[np.bool_],
    tags: NDArray[np.int64],
) -> None:
    """Write the best legal tags of the sentences at `starts`, longest first, into `tags`; the loops are over places in a sentence."""
    places = int(lengths.max(initial=0))
    still = np.searchsorted(-lengths, -np.arange(places), side="left")  # sentences longer than each place
    step = np.where(may_follow, 0.0, -np.inf)
    came = np.zeros(scores.shape, dtype=np.int16)  # the best tag before, for each token and tag
    best = np.where(may_start, scores[starts], -np.inf)  # [sentences, C], of the sequences that end in each tag
    for place in range(1, places):
        n = still[place]
        at = starts[:n] + place
        paths = best[:n, :, None] + step
        chosen = paths.argmax(axis=1)
        came[at] = chosen
        best[:n] = np.take_along_axis(paths, chosen[:, None], axis=1)[:, 0] + scores[at]
    tag = best.argmax(axis=1)
    for place in range(places - 1, -1, -1):
        n = still[place]
        at = starts[:n] + place
        tags[at] = tag[:n]
        tag[:n] = came[at, tag[:n]]
