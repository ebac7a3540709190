"""The published shapes under names, each with the reference's exact differences (ernie.md 5.3; marked there how sure each is), and small ones for a laptop."""

from __future__ import annotations

from dataclasses import replace

from ernie_core.model.config import ErnieConfig

_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
_LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
_FILLED = 0.99
"""Share of the published embedding rows that a vocabulary must fill for the published number of rows to be kept."""

NAMED = {
    "ernie1_base_zh": ErnieConfig(
        vocab_size=18000, max_position_embeddings=513, sent_type_vocab_size=2, hidden_act="relu", use_task_id=False, **_BASE
    ),
    "ernie2_base_en": ErnieConfig(vocab_size=30522, max_position_embeddings=512, sent_type_vocab_size=4, **_BASE),
    "ernie2_large_en": ErnieConfig(vocab_size=30522, max_position_embeddings=512, sent_type_vocab_size=4, **_LARGE),
    "ernie2_base_zh": ErnieConfig(vocab_size=18000, max_position_embeddings=513, sent_type_vocab_size=4, hidden_act="relu", **_BASE),
    "ernie2_large_zh": ErnieConfig(vocab_size=12800, max_position_embeddings=512, sent_type_vocab_size=4, hidden_act="relu", **_LARGE),
    "ernie_tiny_zh": ErnieConfig(
        vocab_size=50006, hidden_size=1024, num_hidden_layers=3, num_attention_heads=16, max_position_embeddings=600, sent_type_vocab_size=2,
        hidden_act="relu", use_task_id=False,
    ),
    "laptop_small": ErnieConfig(
        vocab_size=6000, hidden_size=256, num_hidden_layers=4, num_attention_heads=4, max_position_embeddings=128, sent_type_vocab_size=4
    ),
    "laptop_medium": ErnieConfig(
        vocab_size=8000, hidden_size=312, num_hidden_layers=4, num_attention_heads=12, max_position_embeddings=128, sent_type_vocab_size=4
    ),
}  # fmt: skip


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
