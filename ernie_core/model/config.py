"""The model's settings, and the two JSON spellings it is read from (ernie.md 5.1 to 5.3)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from ernie_core.errors import IntegrityError, RecipeError, closest

ACTIVATIONS = ("gelu", "relu")
_SENTENCE_TYPES = ("sent_type_vocab_size", "type_vocab_size")  # the first wins where both stand


@dataclass(frozen=True)
class ErnieConfig:
    """Shape of an ERNIE encoder. The FFN is always 4 x hidden_size wide.

    Args:
        vocab_size: V, rows of the word embedding.
        hidden_size: D, a multiple of num_attention_heads.
        num_hidden_layers: L.
        num_attention_heads: H.
        max_position_embeddings: positions that can be told apart; no row may be longer.
        sent_type_vocab_size: sentence types, one a segment.
        hidden_act: "gelu" (exact, by erf) or "relu".
        hidden_dropout_prob: after the embeddings and both projections of a layer, and before a benchmark's head.
        attention_probs_dropout_prob: on attention weights.
        initializer_range: standard deviation of the truncated normal start.
        use_task_id: whether the task embedding is added.
        task_type_vocab_size: its rows, one a task id.
        layer_norm_eps: 1e-5, Paddle's default (1e-12 is BERT's).

    Raises:
        RecipeError: E-MODEL-CONFIG.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int
    sent_type_vocab_size: int
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    initializer_range: float = 0.02
    use_task_id: bool = True
    task_type_vocab_size: int = 16
    layer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings", "sent_type_vocab_size"):
            if getattr(self, name) < 1:
                raise _wrong(name, "at least 1", str(getattr(self, name)))
        if self.hidden_size % self.num_attention_heads:
            raise _wrong("hidden_size", "a multiple of num_attention_heads", f"{self.hidden_size} and {self.num_attention_heads} heads")
        if self.hidden_act not in ACTIVATIONS:
            raise _wrong("hidden_act", f"one of {closest(self.hidden_act, ACTIVATIONS)}", self.hidden_act)
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            if not 0 <= getattr(self, name) < 1:
                raise _wrong(name, "a probability in [0, 1)", str(getattr(self, name)))

    @property
    def intermediate_size(self) -> int:
        """Width of the FFN's inner layer."""
        return 4 * self.hidden_size

    def to_json(self) -> str:
        """Return the settings as JSON under ERNIE's own keys."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    @staticmethod
    def from_json(text: str, where: str) -> ErnieConfig:
        """Read ERNIE's ``ernie_config.json`` or Hugging Face's ``config.json``; keys that say nothing of the shape are left alone.

        Args:
            text: JSON of one object.
            where: the file's name, for the error.

        Raises:
            IntegrityError: E-MODEL-CONFIG, naming what is missing.

        Example: ``{"vocab_size": 18000, "type_vocab_size": 2, …}`` -> ``ErnieConfig(vocab_size=18000, sent_type_vocab_size=2, …, use_task_id=False)``.
        """
        try:
            body: dict[str, Any] = json.loads(text)
            sentence_types = next((body[k] for k in _SENTENCE_TYPES if k in body), None)
            values = {k: v for k, v in body.items() if k in ErnieConfig.__dataclass_fields__}
            values |= {"use_task_id": bool(body.get("use_task_id", False))}
            if sentence_types is not None:
                values["sent_type_vocab_size"] = sentence_types
            config = ErnieConfig(**values)
        except (ValueError, TypeError, AttributeError) as e:
            raise IntegrityError(
                "E-MODEL-CONFIG", "cannot read the model's configuration", where=where, found=str(e), fix="give an ERNIE config"
            ) from e
        if (positions := body.get("position_embedding_type", "absolute")) != "absolute":
            raise IntegrityError(
                "E-MODEL-CONFIG", "not an ERNIE shape", where=where, expected="absolute positions", found=str(positions), fix="use another model"
            )
        if body.get("intermediate_size", config.intermediate_size) != config.intermediate_size:
            found = f"intermediate_size {body['intermediate_size']} with hidden_size {config.hidden_size}"
            raise IntegrityError(
                "E-MODEL-CONFIG", "not an ERNIE shape", where=where, expected="an FFN of 4 x hidden_size", found=found, fix="use another model"
            )
        return config


def _wrong(name: str, expected: str, found: str) -> RecipeError:
    return RecipeError(
        "E-MODEL-CONFIG",
        "the model's shape is impossible",
        where=name,
        expected=expected,
        found=found,
        fix="correct it in the recipe's pretrain.model",
    )
