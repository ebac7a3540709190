"""A model to start pretraining from: one of ours, or an ERNIE or BERT folder of Hugging Face's transformers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ernie_core.errors import InputError, IntegrityError, RecipeError
from ernie_core.interop.huggingface import HEADS, to_ours
from ernie_core.interop.tokenizer_json import normaliser_of
from ernie_core.manifest import MANIFEST_NAME, Manifest, atomic_write, read_manifest, write_manifest
from ernie_core.model.config import ErnieConfig
from ernie_core.normalise import NORMALISER_NAME
from ernie_core.object_store import refresh
from ernie_core.training.checkpoint import CONFIG_NAME, MODEL_NAME, read_config, read_weights
from ernie_core.vocab import Vocab
from pipelines.model_folder import WEIGHTS, is_ours, model_folder

_SHAPE = ("num_hidden_layers", "hidden_size", "num_attention_heads", "hidden_act")
_TASK = "encoder.embeddings.task.weight"
_CUT = ("encoder.embeddings.position.weight", "encoder.embeddings.sentence.weight")


def initial_config(path: Path, shape: ErnieConfig, vocab: Vocab, longest: int) -> ErnieConfig:
    """Return the shape that the recipe asks for, with epsilon and rows of the model in `path`; `longest`: tokens of the longest training row.

    A checkpoint holds no vocabulary but its hash.

    Raises:
        RecipeError: E-INIT-SHAPE, the recipe's model is another one.
        InputError: E-INIT-VOCAB, the shards were made with another vocabulary.
    """
    folder = model_folder(path, foreign=True)
    found = _config(folder)
    wrong = [f"{name}: {getattr(found, name)}" for name in _SHAPE if getattr(found, name) != getattr(shape, name)]
    if found.max_position_embeddings < longest:
        wrong.append(f"at most {found.max_position_embeddings} for the longest row, which prepare.max_seq_len or prepare.long_rows sets to {longest}")
    if wrong:
        raise RecipeError("E-INIT-SHAPE", "the model to start from has another shape than pretrain.model", where=str(folder), expected="; ".join(wrong),
                          fix="set pretrain.model to it")  # fmt: skip
    table = folder / "vocab.txt"
    recorded = read_manifest(folder).settings.get("vocab_sha256") if is_ours(folder) else None
    if vocab.sha256 != recorded if recorded else Vocab.load(table).tokens != vocab.tokens:
        raise InputError(
            "E-INIT-VOCAB", "the shards were made with another vocabulary than the model to start from", where=str(folder if recorded else table),
            fix="set prepare.vocab to the file tables/vocab.txt of the run's prepare step" if recorded else f"set prepare.vocab: {table}",
        )  # fmt: skip
    positions = min(shape.max_position_embeddings, found.max_position_embeddings)
    return replace(shape, layer_norm_eps=found.layer_norm_eps, vocab_size=found.vocab_size, max_position_embeddings=positions)


def initial_tensors(path: Path) -> dict[str, Tensor]:
    """Return the model's tensors under our names; what it lacks of ours is not among them, but for a task embedding, which is 0 then.

    Raises:
        IntegrityError: E-INTEROP, E-CKPT-HASH, the file is no model.
    """
    folder = model_folder(path, foreign=True)
    config = _config(folder)
    if is_ours(folder):
        return {_TASK: torch.zeros(config.task_type_vocab_size, config.hidden_size), **read_weights(folder)}
    try:
        tensors = load_file(folder / WEIGHTS)
    except SafetensorError as e:
        raise IntegrityError("E-INTEROP", "not a safetensors file", where=str(folder / WEIGHTS), found=str(e), fix="save the model again") from e
    return to_ours(tensors, config, str(folder / WEIGHTS))


def config_of(path: Path) -> ErnieConfig:
    """Return the shape of a model, ours or one of transformers; errors are those of `model_folder`."""
    return _config(model_folder(path, foreign=True))


def own_folder(path: Path, target: Path) -> Path:
    """Return a model's folder in our form: `path`'s own, or `target`, into which one of transformers is written with its vocabulary.

    Raises:
        InputError: E-MODEL-MISSING, E-MODEL-PICKLE.
        IntegrityError: E-INTEROP.
    """
    folder = model_folder(path, foreign=True)
    if is_ours(folder):
        return folder
    config = _config(folder)
    target.mkdir(parents=True, exist_ok=True)
    vocab = Vocab.load(folder / "vocab.txt")
    tensors = {name: t for name, t in initial_tensors(folder).items() if config.use_task_id or name != _TASK}
    files = (
        atomic_write(target / MODEL_NAME, save(tensors)), atomic_write(target / CONFIG_NAME, config.to_json().encode()),
        atomic_write(target / "vocab.txt", vocab.to_bytes()), atomic_write(target / NORMALISER_NAME, normaliser_of(folder).to_bytes()),
    )  # fmt: skip
    refresh(target / MANIFEST_NAME)
    write_manifest(target, Manifest("model", {"from": "transformers"}, {}, files))
    return target


def longest_row(folder: Path) -> int:
    """Return the tokens of the longest row that a model of ours was trained on; its positions where that is not recorded."""
    step = folder.parent
    facts = read_manifest(step).facts if is_ours(step) else {}
    return int(facts.get("trained_positions", read_config(folder).max_position_embeddings))


def start_from(tensors: dict[str, Tensor], model: nn.Module) -> frozenset[str]:
    """Copy tensors into a model of theirs or more positions and sentence types, and return the tasks whose heads were among them.

    Of the positions the first ones are taken; sentence types beyond theirs and heads of other tasks or classes keep their own start.
    """
    known = set()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            tensor = tensors.get(name)
            if tensor is None or (name.startswith(HEADS) and tensor.shape != parameter.shape):
                continue  # what the model lacks, and heads of other classes, keep their own start
            if name not in _CUT and tensor.shape != parameter.shape:
                raise IntegrityError(
                    "E-INTEROP", "a tensor of the model to start from has another shape than its configuration says", where=name,
                    expected=str(tuple(parameter.shape)), found=str(tuple(tensor.shape)), fix="save the model again",
                )  # fmt: skip
            rows = min(len(tensor), len(parameter))
            parameter[:rows].copy_(tensor[:rows])
            known.update([name.split(".")[1]] if name.startswith(HEADS) else [])
    return frozenset(known)


def _config(folder: Path) -> ErnieConfig:
    if is_ours(folder):
        return read_config(folder)
    path = folder / "config.json"
    if not path.exists():
        raise InputError("E-MODEL-MISSING", "weights without a config.json", where=str(folder), fix="give the whole folder")
    return ErnieConfig.from_json(path.read_text(encoding="utf-8"), str(path))
