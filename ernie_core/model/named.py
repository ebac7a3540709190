"""The published shapes under names, each with the reference's exact differences (ernie.md 5.3; marked there how sure each is), and small ones for a laptop."""

from __future__ import annotations

from dataclasses import replace

from ernie_core.model.config import ErnieConfig


def _base(vocab_size: int, positions: int, sentence_types: int, act: str, *, task: bool = True) -> ErnieConfig:
    return ErnieConfig(vocab_size, 768, 12, 12, positions, sentence_types, hidden_act=act, use_task_id=task)


def _large(vocab_size: int, act: str) -> ErnieConfig:
    return ErnieConfig(vocab_size, 1024, 24, 16, max_position_embeddings=512, sent_type_vocab_size=4, hidden_act=act)


_FILLED = 0.99
"""Share of the published embedding rows that a vocabulary must fill for the published number of rows to be kept."""

NAMED = {
    "ernie1_base_zh": _base(18000, 513, 2, "relu", task=False),
    "ernie2_base_en": _base(30522, 512, 4, "gelu"),
    "ernie2_large_en": _large(30522, "gelu"),
    "ernie2_base_zh": _base(18000, 513, 4, "relu"),
    "ernie2_large_zh": _large(12800, "relu"),
    "ernie_tiny_zh": ErnieConfig(50006, 1024, 3, 16, max_position_embeddings=600, sent_type_vocab_size=2, hidden_act="relu", use_task_id=False),
    "laptop_small": ErnieConfig(6000, 256, 4, 4, max_position_embeddings=128, sent_type_vocab_size=4),
    "laptop_medium": ErnieConfig(8000, 312, 4, 12, max_position_embeddings=128, sent_type_vocab_size=4),
}


def fitted(name: str, vocab_size: int, longest_row: int) -> ErnieConfig:
    """Return the shape `name` over a vocabulary.

    Args:
        name: out of NAMED.
        vocab_size: tokens of the vocabulary. The published rows are kept where it fills 99 % of them and fits (ERNIE's 17,964 tokens and 18,000
            rows); else there are as many rows as tokens.
        longest_row: tokens of the longest training row; there are at least so many positions.

    Example: ``fitted("ernie1_base_zh", 17964, 512).vocab_size`` -> 18000; with 6000 tokens -> 6000.
    """
    shape = NAMED[name]
    keeps = _FILLED * shape.vocab_size <= vocab_size <= shape.vocab_size
    return replace(
        shape, vocab_size=shape.vocab_size if keeps else vocab_size, max_position_embeddings=max(shape.max_position_embeddings, longest_row)
    )
