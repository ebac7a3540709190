"""Rows: many samples as flat arrays, the form in which shards are read, taken apart and put together."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ernie_core.schemas import Sample

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Rows:
    """n samples with N tokens in all; row i is the slice offsets[i]:offsets[i + 1] of every token column.

    Args:
        offsets: int64[n + 1], rising from 0 to N.
        token_ids: int32[N].
        sentence_type_ids: int8[N].
        position_ids: int16[N].
        seg_labels: int8[N], word boundaries 0/1, -1 at specials.
        labels: int32[n], the sentence-level label, -1 for none.
        sample_ids: uint64[n], stored in no shard: derived when a shard is read (`shards.sample_ids`).
        unit_labels: int8[N] boundaries with phrases and entities merged, or None (text shards, word-only data).
        unit_kind: int8[N] WORD, PHRASE or ENTITY, -1 at specials, or None together with unit_labels.
        token_labels: task name -> int8[N], -1 = not scored.

    Example: one row [CLS] 好 [SEP] -> offsets [0, 3], token_ids [1, 5, 2], seg_labels [-1, 0, -1], labels [-1].
    """

    offsets: NDArray[np.int64]
    token_ids: NDArray[np.int32]
    sentence_type_ids: NDArray[np.int8]
    position_ids: NDArray[np.int16]
    seg_labels: NDArray[np.int8]
    labels: NDArray[np.int32]
    sample_ids: NDArray[np.uint64]
    unit_labels: NDArray[np.int8] | None = None
    unit_kind: NDArray[np.int8] | None = None
    token_labels: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Return tokens per row, int64[n]."""
        return np.diff(self.offsets)

    def take(self, index: NDArray[np.integer]) -> Rows:
        """Return the rows `index` (int[k], repeats allowed) in that order."""
        index = np.asarray(index, dtype=np.int64)
        lengths = self.lengths[index]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        flat = np.repeat(self.offsets[index] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Rows(
            offsets=offsets,
            token_ids=self.token_ids[flat],
            sentence_type_ids=self.sentence_type_ids[flat],
            position_ids=self.position_ids[flat],
            seg_labels=self.seg_labels[flat],
            labels=self.labels[index],
            sample_ids=self.sample_ids[index],
            unit_labels=None if self.unit_labels is None else self.unit_labels[flat],
            unit_kind=None if self.unit_kind is None else self.unit_kind[flat],
            token_labels={name: column[flat] for name, column in self.token_labels.items()},
        )

    @staticmethod
    def concat(parts: Sequence[Rows]) -> Rows:
        """Return the rows of all parts in order.

        Parts must have the same token labels. Units are kept only if every part has them.
        """
        if len(parts) == 1:
            return parts[0]
        units = [(p.unit_labels, p.unit_kind) for p in parts if p.unit_labels is not None and p.unit_kind is not None]
        whole = bool(parts) and len(units) == len(parts)
        names = list(parts[0].token_labels) if parts else []
        assert all(list(p.token_labels) == names for p in parts), "parts differ in token labels"
        lengths = [p.lengths for p in parts]
        return Rows(
            offsets=np.concatenate([np.zeros(1, np.int64), *lengths]).cumsum(),
            token_ids=_join([p.token_ids for p in parts], np.int32),
            sentence_type_ids=_join([p.sentence_type_ids for p in parts], np.int8),
            position_ids=_join([p.position_ids for p in parts], np.int16),
            seg_labels=_join([p.seg_labels for p in parts], np.int8),
            labels=_join([p.labels for p in parts], np.int32),
            sample_ids=_join([p.sample_ids for p in parts], np.uint64),
            unit_labels=_join([u for u, _ in units], np.int8) if whole else None,
            unit_kind=_join([k for _, k in units], np.int8) if whole else None,
            token_labels={name: _join([p.token_labels[name] for p in parts], np.int8) for name in names},
        )

    @staticmethod
    def from_samples(samples: Sequence[Sample], token_label_names: Sequence[str] = ()) -> Rows:
        """Return samples as rows with units; sample ids are 0 until a shard gives them.

        Raises:
            KeyError: a sample lacks one of `token_label_names`.
            OverflowError: a value does not fit its column.
        """
        lengths = [len(s.token_ids) for s in samples]
        total = sum(lengths)
        columns = ("sentence_type_ids", "position_ids", "seg_labels", "unit_labels", "unit_kind")
        assert all(len(getattr(s, c)) == n for s, n in zip(samples, lengths, strict=True) for c in columns), "columns of a sample differ in length"
        assert all(len(s.token_labels[name]) == n for s, n in zip(samples, lengths, strict=True) for name in token_label_names), (
            "token labels differ in length"
        )

        return Rows(
            offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
            token_ids=np.fromiter(chain.from_iterable(s.token_ids for s in samples), np.int32, total),
            sentence_type_ids=np.fromiter(chain.from_iterable(s.sentence_type_ids for s in samples), np.int8, total),
            position_ids=np.fromiter(chain.from_iterable(s.position_ids for s in samples), np.int16, total),
            seg_labels=np.fromiter(chain.from_iterable(s.seg_labels for s in samples), np.int8, total),
            labels=np.fromiter((s.label for s in samples), np.int32, len(samples)),
            sample_ids=np.zeros(len(samples), np.uint64),
            unit_labels=np.fromiter(chain.from_iterable(s.unit_labels for s in samples), np.int8, total),
            unit_kind=np.fromiter(chain.from_iterable(s.unit_kind for s in samples), np.int8, total),
            token_labels={
                name: np.fromiter(chain.from_iterable(s.token_labels[name] for s in samples), np.int8, total) for name in token_label_names
            },
        )

    def sample(self, i: int) -> Sample:
        """Return row `i` as a Sample; without units, every word is its own unit."""
        s = slice(int(self.offsets[i]), int(self.offsets[i + 1]))
        seg = self.seg_labels[s]
        unit = seg if self.unit_labels is None else self.unit_labels[s]
        kind = np.minimum(seg, 0) if self.unit_kind is None else self.unit_kind[s]
        return Sample(
            token_ids=self.token_ids[s].tolist(),
            sentence_type_ids=self.sentence_type_ids[s].tolist(),
            position_ids=self.position_ids[s].tolist(),
            seg_labels=seg.tolist(),
            unit_labels=unit.tolist(),
            unit_kind=kind.tolist(),
            label=int(self.labels[i]),
            token_labels={name: column[s].tolist() for name, column in self.token_labels.items()},
        )

    def with_sample_ids(self, sample_ids: NDArray[np.uint64]) -> Rows:
        """Return the same rows with other sample ids, uint64[n]."""
        assert len(sample_ids) == len(self)
        return replace(self, sample_ids=sample_ids)

    def content_sha256(self) -> str:
        """Return the hash of the five columns (units and token labels aside): the same for either encoding of a shard."""
        h = hashlib.sha256()
        columns = (
            self.offsets.astype("<i8"), self.token_ids.astype("<i4"), self.sentence_type_ids.astype("<i1"),
            self.position_ids.astype("<i2"), self.seg_labels.astype("<i1"), self.labels.astype("<i4"),
        )  # fmt: skip
        for column in columns:
            h.update(len(column).to_bytes(8, "little") + column.tobytes())
        return h.hexdigest()


def _join(parts: Sequence[NDArray[T]], dtype: type[T]) -> NDArray[T]:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype)
