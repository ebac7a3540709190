"""The shortcut audit: how far baselines that must fail get on each task, so that a trained model is judged against them (TASKS, Common rules).

Baselines of sentence tasks see only lengths, only punctuation, one half, a bag of tokens, or how many words the segments share (a
forest, and a regression on those counts and the lengths). Which ones a task gets follows from its level; a new task is in no list. They train on training rows and are scored on held-out rows, read as training reads them (reordering: permuted).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ernie_core.data.rows import Rows
from ernie_core.seeding import combine, key
from ernie_core.tasks.base import Task

MAX_TRAIN_ROWS = 20_000
MAX_VALID_ROWS = 5_000
AMBIGUOUS = 0.05  # share of a word's uses with the rarer label, above which its table is unsure (TASKS, capitalization)
NUM_MARKS = 16  # the most frequent punctuation tokens that are counted one by one
_OPENING, _CLOSING = "“‘「『《〈【（([", "”’」』》〉】）)]"

Floats = NDArray[np.float64]


def audit(train: Rows, valid: Rows, *, task: Task, tokens: Sequence[str], seed: int) -> dict[str, Any]:
    """Return the bars of one task.

    Args:
        train: rows to fit on, as stored (at most 20,000 are used, evenly spaced).
        valid: held-out rows to score on (at most 5,000 are used).
        task: its level, metric and read-time hook.
        tokens: the vocabulary, by id.
        seed: the recipe's seed.

    Returns:
        "metric"; "majority" (accuracy of the commonest class; share of positives for token tasks; None for masking); "bars"
        (baseline -> value); "best_bar" (the best value, None without rows), "best_bar_name", "train_rows", "valid_rows";
        token tasks add "auc", "f1", "accuracy" and "ambiguous_auc", the AUC on words that occur with both labels (each baseline -> value),
        and "ambiguous_share" of the scored tokens.

    Example: {"metric": "accuracy", "majority": 0.5, "bars": {"length": 0.51, "unigram_table": 0.54}, "best_bar": 0.54, …}.
    """
    train, valid = _spaced(train, MAX_TRAIN_ROWS), _spaced(valid, MAX_VALID_ROWS)
    result: dict[str, Any] = {
        "metric": task.metric, "majority": None, "bars": {}, "best_bar": None, "best_bar_name": None,
        "train_rows": len(train), "valid_rows": len(valid),
    }  # fmt: skip
    if not len(train) or not len(valid):
        return result
    if task.level == "mask":
        result["bars"] = {"unigram": unigram_loss(train, valid, len(tokens))}
    elif task.level == "token":
        result |= _token_bars(train, valid, task.name, len(tokens))
    else:
        result |= _sentence_bars(_as_read(train, task, seed), _as_read(valid, task, seed), tokens, seed)
    bars = {name: round(value, 4) for name, value in result["bars"].items()}
    if bars:
        best = min(bars, key=lambda b: bars[b]) if task.metric == "loss" else max(bars, key=lambda b: bars[b])
        result |= {"bars": bars, "best_bar": bars[best], "best_bar_name": best}
    return result


def unigram_loss(train: Rows, valid: Rows, vocab_size: int) -> float:
    """Return the mean loss, in nats, of predicting each held-out token by its frequency in training, with add-one smoothing."""
    counts = np.bincount(train.token_ids[train.seg_labels >= 0], minlength=vocab_size) + 1.0
    return float(-np.log(counts / counts.sum())[valid.token_ids[valid.seg_labels >= 0]].mean())


def _spaced(rows: Rows, most: int) -> Rows:
    if len(rows) <= most:
        return rows
    return rows.take(np.linspace(0, len(rows) - 1, most).astype(np.int64))


def _as_read(rows: Rows, task: Task, seed: int) -> Rows:
    if task.at_read is None:
        return rows
    hook = task.at_read
    return Rows.from_samples([hook(rows.sample(i), key(seed, "audit", i)) for i in range(len(rows))], list(rows.token_labels))


def _sentence_bars(train: Rows, valid: Rows, tokens: Sequence[str], seed: int) -> dict[str, Any]:
    """Return majority and bars of a task with a class per row."""
    classes, counts = np.unique(train.labels, return_counts=True)
    bars = {"majority": float(np.mean(valid.labels == classes[counts.argmax()]))}
    majority = round(bars["majority"], 4)
    if len(classes) < 2:
        return {"majority": majority, "bars": bars}
    num_segments = 1 + int(max(_segments(train).max(), _segments(valid).max()))
    marks = _marks(train, tokens)
    dense: dict[str, Callable[[Rows], Floats]] = {
        "length": lambda rows: _length_features(rows, num_segments),
        "punctuation": lambda rows: _punctuation_features(rows, num_segments, marks, tokens),
        "word_overlap": lambda rows: _overlap_features(rows, num_segments),
    }
    bags: dict[str, Callable[[Rows], csr_matrix]] = {
        "first_half": lambda rows: _bag(rows, _segments(rows) == 0, len(tokens), 1),
        "second_half": lambda rows: _bag(rows, _segments(rows) == _last_segment(rows), len(tokens), 1),
        "unigram_table": lambda rows: _bag(rows, np.ones(rows.num_tokens, bool), len(tokens), num_segments),
    }
    for name, features in dense.items():
        model = RandomForestClassifier(n_estimators=20, min_samples_leaf=20, random_state=seed % 2**32)
        bars[name] = float(model.fit(features(train), train.labels).score(features(valid), valid.labels))
    line = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    both = [np.column_stack([dense["length"](rows), dense["word_overlap"](rows)]) for rows in (train, valid)]
    bars["overlap_and_length"] = float(line.fit(both[0], train.labels).score(both[1], valid.labels))
    for name, bag in bags.items():
        table = SGDClassifier(loss="log_loss", alpha=1e-4, max_iter=10, tol=None, random_state=seed % 2**32)
        bars[name] = float(table.fit(bag(train), train.labels).score(bag(valid), valid.labels))
    return {"majority": majority, "bars": bars}


def _row_of_token(rows: Rows) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(rows)), rows.lengths)


def _slots(rows: Rows, num_segments: int) -> NDArray[np.int64]:
    """Return row * num_segments + segment for every token."""
    return _row_of_token(rows) * num_segments + _segments(rows)


def _segments(rows: Rows) -> NDArray[np.int64]:
    """Return the segment of every token: how many [SEP] stand before it. (Sentence types count segments too, but for roles of a dialogue.)

    Example: [CLS] a [SEP] b [SEP] -> 0 0 0 1 1.
    """
    special = rows.seg_labels < 0
    before: NDArray[np.int64] = np.cumsum(special) - special
    return np.maximum(before - np.repeat(before[rows.offsets[:-1]], rows.lengths) - 1, 0)


def _last_segment(rows: Rows) -> NDArray[np.int64]:
    """Return, for every token, the number of the last segment of its row."""
    return np.repeat(_segments(rows)[rows.offsets[1:] - 1], rows.lengths)


def _length_features(rows: Rows, num_segments: int) -> Floats:
    """Return tokens per segment and in all, float64[n, num_segments + 1]."""
    lengths = np.bincount(_slots(rows, num_segments)[rows.seg_labels >= 0], minlength=len(rows) * num_segments).reshape(len(rows), -1)
    return np.column_stack([lengths, lengths.sum(1)]).astype(np.float64)


def _marks(train: Rows, tokens: Sequence[str]) -> NDArray[np.int64]:
    """Return a code for every token id: 1..NUM_MARKS for the most frequent punctuation, NUM_MARKS + 1 for the rest of it, 0 for no punctuation."""
    is_mark = np.array([not any(map(str.isalnum, token.removeprefix("##"))) for token in tokens])
    counts = np.bincount(train.token_ids[train.seg_labels >= 0], minlength=len(tokens)) * is_mark
    codes = np.where(is_mark, NUM_MARKS + 1, 0).astype(np.int64)
    frequent = np.argsort(-counts, kind="stable")[:NUM_MARKS]
    codes[frequent[is_mark[frequent]]] = 1 + np.arange(is_mark[frequent].sum())
    return codes


def _punctuation_features(rows: Rows, num_segments: int, marks: NDArray[np.int64], tokens: Sequence[str]) -> Floats:
    """Return, per segment, counts of each mark, the first and the last token's mark, and opening less closing marks."""
    slots, size = _slots(rows, num_segments), len(rows) * num_segments
    codes = np.where(rows.seg_labels >= 0, marks[rows.token_ids], 0)
    width = NUM_MARKS + 2
    counts = np.bincount(slots * width + codes, minlength=size * width).reshape(size, width)[:, 1:]
    opening = np.array([token in _OPENING for token in tokens], dtype=np.float64) - np.array([token in _CLOSING for token in tokens])
    depth = np.bincount(slots, weights=np.where(rows.seg_labels >= 0, opening[rows.token_ids], 0), minlength=size)
    # a segment starts after a special and ends before one
    special = np.flatnonzero(rows.seg_labels < 0)
    starts = special[:-1][special[:-1] + 1 < special[1:]] + 1
    ends = special[1:][special[:-1] + 1 < special[1:]] - 1
    first, last = np.zeros(size), np.zeros(size)
    first[slots[starts]] = codes[starts]
    last[slots[ends]] = codes[ends]
    return np.column_stack([counts, depth, first, last]).reshape(len(rows), -1).astype(np.float64)


def _bag(rows: Rows, chosen: NDArray[np.bool_], vocab_size: int, num_segments: int) -> csr_matrix:
    """Return L2-normalised counts of the chosen tokens, told apart by segment where num_segments > 1."""
    chosen = chosen & (rows.seg_labels >= 0)
    row = _row_of_token(rows)[chosen]
    column = rows.token_ids[chosen].astype(np.int64)
    if num_segments > 1:
        column += _segments(rows)[chosen] * vocab_size
    bag = csr_matrix((np.ones(len(row)), (row, column)), shape=(len(rows), vocab_size * num_segments))
    bag.sum_duplicates()
    norm = np.sqrt(np.asarray(bag.multiply(bag).sum(1)).ravel())
    bag.data /= np.repeat(norm, np.diff(bag.indptr))
    return bag


def _words(rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]:
    """Return every word's first position, a hash of its tokens, and its number of tokens."""
    positions = np.flatnonzero(rows.seg_labels >= 0)
    is_start = rows.seg_labels[positions] == 0
    starts = np.flatnonzero(is_start)
    place = np.arange(len(positions)) - starts[np.cumsum(is_start) - 1]
    hashes = np.add.reduceat(combine(rows.token_ids[positions].astype(np.uint64), place.astype(np.uint64)), starts)
    return positions[starts], hashes, np.diff(np.append(starts, len(positions)))


def _overlap_features(rows: Rows, num_segments: int) -> Floats:
    """Return distinct words per segment and, for each pair of segments, words and words of two tokens or more in common, and their share."""
    first, hashes, sizes = _words(rows)
    row = _row_of_token(rows)[first]
    order = np.lexsort((hashes, row))
    row, hashes, sizes, bits = row[order], hashes[order], sizes[order], 1 << _segments(rows)[first][order]
    starts = np.flatnonzero(np.append(True, (row[1:] != row[:-1]) | (hashes[1:] != hashes[:-1])))
    row, sizes, held = row[starts], sizes[starts], np.bitwise_or.reduceat(bits, starts)

    def per_row(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(row[mask], minlength=len(rows))

    distinct = [per_row((held >> s & 1) == 1) for s in range(num_segments)]
    columns: list[NDArray[Any]] = list(distinct)
    for a, b in combinations(range(num_segments), 2):
        both = (held >> a & held >> b & 1) == 1
        common = per_row(both)
        columns += [common, per_row(both & (sizes > 1)), common / np.maximum(1, np.minimum(distinct[a], distinct[b]))]
    return np.column_stack(columns).astype(np.float64)


def _token_bars(train: Rows, valid: Rows, name: str, vocab_size: int) -> dict[str, Any]:
    """Return bars of a task with a label per token: tables of P(label 1) by token and by word, scored on held-out tokens."""
    scored, target = train.token_labels[name] >= 0, valid.token_labels[name] >= 0
    truth = valid.token_labels[name][target]
    if not scored.any() or not 0 < truth.sum() < len(truth):
        return {}
    labels = train.token_labels[name][scored]
    by_token = _table(train.token_ids[scored], labels, vocab_size, np.full(vocab_size, float(labels.mean())))
    by_word, ambiguous = _word_scores(train, valid, name, by_token)
    scores = {"unigram_table": by_token[valid.token_ids][target], "word_table": by_word[target]}
    unsure = ambiguous[target]
    both = 0 < truth[unsure].sum() < unsure.sum()
    found: dict[str, dict[str, float]] = {"bars": {}, "auc": {}, "ambiguous_auc": {}, "f1": {}, "accuracy": {}}
    for bar, score in scores.items():
        found["bars"][bar] = float(average_precision_score(truth, score))
        found["auc"][bar] = round(float(roc_auc_score(truth, score)), 4)
        found["f1"][bar] = round(float(f1_score(truth, score > 0.5)), 4)
        found["accuracy"][bar] = round(float(np.mean(truth == (score > 0.5))), 4)
        if both:
            found["ambiguous_auc"][bar] = round(float(roc_auc_score(truth[unsure], score[unsure])), 4)
    return {"majority": round(float(truth.mean()), 4), "ambiguous_share": round(float(unsure.mean()), 4), **found}


def _table(ids: NDArray[Any], labels: NDArray[np.int8], size: int, prior: Floats) -> Floats:
    """Return P(label 1) by id, the prior counting as two observations."""
    return (np.bincount(ids, weights=labels, minlength=size) + 2 * prior) / (np.bincount(ids, minlength=size) + 2)


def _word_scores(train: Rows, valid: Rows, name: str, by_token: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return for each held-out token P(label 1) of its word, backed off to the mean of its tokens, and whether the word is ambiguous.

    A word is ambiguous if in training more than 5 % of its uses have the label that most of them have not.
    """
    first, hashes, _ = _words(train)
    label = train.token_labels[name][first]
    known, index = np.unique(hashes[label >= 0], return_inverse=True)
    counts = np.bincount(index, minlength=len(known))
    positive = np.bincount(index, weights=label[label >= 0], minlength=len(known))
    first, hashes, sizes = _words(valid)
    content = np.flatnonzero(valid.seg_labels >= 0)
    prior = np.add.reduceat(by_token[valid.token_ids[content]], np.searchsorted(content, first)) / sizes
    place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    found = known[place] == hashes
    of_word = np.column_stack([
        (np.where(found, positive[place], 0) + 2 * prior) / (np.where(found, counts[place], 0) + 2),
        found & (np.minimum(positive, counts - positive)[place] > AMBIGUOUS * counts[place]),
    ])  # fmt: skip
    of_token = np.zeros((valid.num_tokens, 2))
    of_token[content] = np.repeat(of_word, sizes, axis=0)
    return of_token[:, 0], of_token[:, 1] > 0
