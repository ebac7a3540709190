"""Our models as folders of Hugging Face's transformers (ErnieModel, ErnieForMaskedLM, ErnieForPreTraining), and these as ours.

Names and shapes stand in one table. Two things differ beside names: queries, keys and values are one matrix here and three there; and
`next_sentence` is 1 for next here, as in the seed, and 0 there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ernie_core.errors import IntegrityError
from ernie_core.model.config import ErnieConfig

_NAMES = {
    "encoder.embeddings.word": "embeddings.word_embeddings", "encoder.embeddings.position": "embeddings.position_embeddings",
    "encoder.embeddings.sentence": "embeddings.token_type_embeddings", "encoder.embeddings.task": "embeddings.task_type_embeddings",
    "encoder.embeddings.norm": "embeddings.LayerNorm", "encoder.pooler": "pooler.dense",
    "encoder.layers.{i}.attention_output": "encoder.layer.{i}.attention.output.dense",
    "encoder.layers.{i}.attention_norm": "encoder.layer.{i}.attention.output.LayerNorm",
    "encoder.layers.{i}.ffn_in": "encoder.layer.{i}.intermediate.dense", "encoder.layers.{i}.ffn_out": "encoder.layer.{i}.output.dense",
    "encoder.layers.{i}.ffn_norm": "encoder.layer.{i}.output.LayerNorm",
}  # fmt: skip
"""Our module -> theirs below `ernie.`; {i} is the layer."""
_HEAD_NAMES = {"lm_head.transform": "cls.predictions.transform.dense", "lm_head.norm": "cls.predictions.transform.LayerNorm"}
_QKV = ("query", "key", "value")
_NEXT_SENTENCE = "heads.next_sentence."
HEADS = "heads."


def to_theirs(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return (tensors of ErnieForPreTraining, our other heads as they are).

    Args:
        tensors: those of `ErnieForPretraining`, by name.

    Example: ``encoder.layers.0.qkv.weight [768, 256]`` -> ``ernie.encoder.layer.0.attention.self.query.weight [256, 256]``, key, value.
    """
    found: dict[str, Tensor] = {}
    others: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name == "lm_head.bias":
            found["cls.predictions.bias"] = tensor
        elif name.startswith(_NEXT_SENTENCE) and tensor.shape[0] == 2:
            found[f"cls.seq_relationship.{name.removeprefix(_NEXT_SENTENCE)}"] = tensor.flip(0).contiguous()
        elif name.startswith(HEADS):
            others[name] = tensor
        else:
            found |= {theirs: part.contiguous() for theirs, part in zip(_theirs(name), _parts(name, tensor), strict=True)}
    return found, others


def to_ours(tensors: Mapping[str, Tensor], config: ErnieConfig, where: str) -> dict[str, Tensor]:
    """Return our encoder and masked-LM head from tensors of an ERNIE or BERT model of theirs, whichever of its classes wrote them.

    Args:
        tensors: by their names, with or without `ernie.` or `bert.` in front; LayerNorm's may be called gamma and beta.
        config: the model's shape; a task embedding that they lack starts at 0, so it changes nothing at first.
        where: the file, for the error.

    Raises:
        IntegrityError: E-INTEROP, a tensor of the encoder is missing.
    """
    held = {}
    for name, tensor in tensors.items():
        plain = name.removeprefix("ernie.").removeprefix("bert.")
        held[plain.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")] = tensor
    found: dict[str, Tensor] = {}
    missing = []
    for name in _names(config):
        parts = [held.get(theirs.removeprefix("ernie.")) for theirs in _theirs(name)]
        whole = [part for part in parts if part is not None]
        if len(whole) == len(parts):
            found[name] = torch.cat(whole) if len(whole) > 1 else whole[0]
        elif name == "encoder.embeddings.task.weight":
            found[name] = torch.zeros(config.task_type_vocab_size, config.hidden_size)
        elif name.startswith("encoder.") and not name.startswith("encoder.pooler"):
            missing += [theirs for theirs, part in zip(_theirs(name), parts, strict=True) if part is None]
    if missing:
        raise IntegrityError(
            "E-INTEROP", "no ERNIE or BERT encoder", where=where, expected=", ".join(missing[:5]), found=", ".join(sorted(tensors)[:5]),
            fix="give a folder that transformers saved of an ERNIE or BERT model",
        )  # fmt: skip
    if "cls.predictions.bias" in held:
        found["lm_head.bias"] = held["cls.predictions.bias"]
    if "cls.seq_relationship.weight" in held:
        found |= {_NEXT_SENTENCE + kind: held[f"cls.seq_relationship.{kind}"].flip(0).contiguous() for kind in ("weight", "bias")}
    return found


def config_json(config: ErnieConfig, *, pad_id: int, next_sentence: bool) -> str:
    """Return the config.json of a model of ours: ErnieForPreTraining if it has a next-sentence head, else ErnieForMaskedLM."""
    body: dict[str, Any] = {
        "architectures": ["ErnieForPreTraining" if next_sentence else "ErnieForMaskedLM"], "model_type": "ernie", "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size, "num_hidden_layers": config.num_hidden_layers, "num_attention_heads": config.num_attention_heads,
        "intermediate_size": config.intermediate_size, "hidden_act": config.hidden_act, "hidden_dropout_prob": config.hidden_dropout_prob,
        "attention_probs_dropout_prob": config.attention_probs_dropout_prob, "max_position_embeddings": config.max_position_embeddings,
        "type_vocab_size": config.sent_type_vocab_size, "use_task_id": config.use_task_id, "task_type_vocab_size": config.task_type_vocab_size,
        "initializer_range": config.initializer_range, "layer_norm_eps": config.layer_norm_eps, "pad_token_id": pad_id, "tie_word_embeddings": True,
    }  # fmt: skip
    if next_sentence:
        body |= {"label2id": {"next": 0, "not next": 1}, "id2label": {"0": "next", "1": "not next"}}
    return json.dumps(body, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _theirs(name: str) -> list[str]:
    """Return the names of theirs that a parameter of ours is made of."""
    module, _, kind = name.rpartition(".")
    if module in _HEAD_NAMES:
        return [f"{_HEAD_NAMES[module]}.{kind}"]
    layer = next((part for part in module.split(".") if part.isdigit()), "")
    if module.endswith(".qkv"):
        return [f"ernie.encoder.layer.{layer}.attention.self.{part}.{kind}" for part in _QKV]
    pattern = ".".join("{i}" if part.isdigit() else part for part in module.split("."))
    return [f"ernie.{_NAMES[pattern].format(i=layer)}.{kind}"]


def _parts(name: str, tensor: Tensor) -> tuple[Tensor, ...]:
    return tensor.chunk(3) if ".qkv." in name else (tensor,)


def _names(config: ErnieConfig) -> list[str]:
    """Return the names of our encoder's parameters and of the masked-LM head's, but for its bias."""
    names = [f"encoder.embeddings.{name}.weight" for name in ("word", "position", "sentence", "task")]
    modules = ["encoder.embeddings.norm", "encoder.pooler", *_HEAD_NAMES]
    for i in range(config.num_hidden_layers):
        modules += [f"encoder.layers.{i}.{part}" for part in ("qkv", "attention_output", "attention_norm", "ffn_in", "ffn_out", "ffn_norm")]
    return names + [f"{module}.{kind}" for module in modules for kind in ("weight", "bias")]
