"""Fills [MASK] in text with a pretrained model's masked-LM head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ernie_core.errors import InputError
from ernie_core.model.embeddings import TorchBatch
from ernie_core.model.ernie import ErnieForPretraining
from ernie_core.tasks.knowledge_masking import TASK
from ernie_core.tokenization import Tokenizer, load_tokenizer
from ernie_core.training.checkpoint import load_weights, read_config

MASK = "[MASK]"


@dataclass(frozen=True)
class Filled:
    """What a model puts in the place of the masks of a text.

    Args:
        text: with the likeliest token in every place, each chosen by itself.
        guesses: for each mask (token, probability) of the likeliest tokens, best first.
    """

    text: str
    guesses: tuple[tuple[tuple[str, float], ...], ...]


class Filler:
    """A pretrained model and its tokenizer.

    Args:
        folder: a finished model folder (model.safetensors, ernie_config.json, vocab.txt, normaliser.json, manifest).

    Raises:
        IntegrityError: a file of it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.tokenizer: Tokenizer = load_tokenizer(folder / "vocab.txt")
        self.model = ErnieForPretraining(read_config(folder), {}, seed=0)
        load_weights(folder, self.model, unused=("heads.",))

    def fill(self, text: str, top: int = 5) -> Filled:
        """Return what stands in the place of each [MASK] of a text.

        Args:
            text: with one [MASK] or more; the rest is normalised as the model's corpus was.
            top: tokens to name for each mask.

        Raises:
            InputError: E-NO-MASK, or E-TOO-LONG for the model's positions.

        Example: 哈尔滨是[MASK]龙江的省会 -> guesses ((("黑", 0.98), …),), text "哈尔滨是黑龙江的省会".
        """
        vocab = self.tokenizer.vocab
        ids, places = self._encode(text)
        most = self.model.config.max_position_embeddings
        if not places:
            raise InputError(
                "E-NO-MASK", "nothing to fill", where=repr(text[:80]), expected=f"a text with {MASK}", fix=f"put {MASK} where a token is to be found"
            )
        if len(ids) > most:
            raise InputError(
                "E-TOO-LONG",
                "the text is longer than the model",
                where=repr(text[:80]),
                expected=f"at most {most} tokens",
                found=str(len(ids)),
                fix="give a shorter text",
            )
        row = torch.tensor([ids])
        empty = torch.zeros(0, dtype=torch.int64)
        batch = TorchBatch(
            row, torch.zeros_like(row), torch.arange(len(ids))[None], torch.tensor([len(ids)]), TASK.task_id, empty, empty, torch.tensor([-1]), {}
        )
        with torch.no_grad():
            hidden, _ = self.model.encoder(batch, None)
            logits = self.model.lm_head(hidden, torch.tensor(places), self.model.encoder.embeddings.word.weight)[
                :, : vocab.size
            ]  # spare rows are no tokens
        likeliest = torch.softmax(logits, -1).topk(min(top, vocab.size))
        guesses = tuple(
            tuple((vocab.tokens[i], p) for i, p in zip(of, ps, strict=True))
            for of, ps in zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True)
        )
        for place, best in zip(places, likeliest.indices[:, 0].tolist(), strict=True):
            ids[place] = best
        return Filled(self.tokenizer.decode(ids[1:-1]), guesses)

    def _encode(self, text: str) -> tuple[list[int], list[int]]:
        """Return the ids of [CLS] text [SEP], and where the masks stand."""
        vocab = self.tokenizer.vocab
        ids, places = [vocab.cls_id], []
        for number, part in enumerate(text.split(MASK)):
            if number:
                places.append(len(ids))
                ids.append(vocab.mask_id)
            ids += self.tokenizer.encode(part)
        return [*ids, vocab.sep_id], places


def guesses_line(guesses: Sequence[tuple[str, float]]) -> str:
    """Return a mask's guesses as one line.

    Example: ``"黑 0.98  白 0.01"``.
    """
    return "  ".join(f"{token} {p:.2f}" for token, p in guesses)
