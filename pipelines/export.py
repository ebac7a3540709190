"""A pretrained model as a folder of Hugging Face's transformers (`ernie export`)."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save

from ernie_core.errors import OutputError
from ernie_core.interop.huggingface import config_json, to_theirs
from ernie_core.interop.tokenizer_json import TOKENIZER_CONFIG, tokenizer_json
from ernie_core.manifest import atomic_write, canonical_json
from ernie_core.tokenization import load_tokenizer
from ernie_core.training.checkpoint import read_config, read_weights
from pipelines.model_folder import WEIGHTS, model_folder

HEADS_NAME = "task_heads.safetensors"


def export(source: Path, target: Path) -> list[str]:
    """Write the model in `source` to the fresh folder `target`; return what a person should know of it, a line each.

    Files: config.json, model.safetensors, tokenizer.json, tokenizer_config.json, vocab.txt; the heads that transformers has no place for
    stand in task_heads.safetensors under our names.

    Raises:
        InputError: E-MODEL-MISSING.
        IntegrityError: the model's files are damaged.
        OutputError: E-OUTPUT-FOREIGN, `target` holds something already.
    """
    folder = model_folder(source, foreign=False)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError("E-OUTPUT-FOREIGN", "there is something already", where=str(target), fix="give a new folder")
    config, tokenizer = read_config(folder), load_tokenizer(folder / "vocab.txt")
    tensors, heads = to_theirs(read_weights(folder))
    next_sentence = "cls.seq_relationship.weight" in tensors
    files = {
        WEIGHTS: save(tensors, {"format": "pt"}),
        "config.json": config_json(config, pad_id=tokenizer.vocab.pad_id, next_sentence=next_sentence).encode(),
        "tokenizer.json": tokenizer_json(tokenizer.vocab, tokenizer.normaliser).encode(),
        "tokenizer_config.json": canonical_json({**TOKENIZER_CONFIG, "model_max_length": config.max_position_embeddings}),
        "vocab.txt": tokenizer.vocab.to_bytes(),
        **({HEADS_NAME: save(heads)} if heads else {}),
    }
    for name, data in files.items():
        atomic_write(target / name, data)
    notes = [
        f"{target}: AutoModel.from_pretrained and AutoTokenizer.from_pretrained load it; at most {config.max_position_embeddings} positions are trained"
    ]
    if heads:
        notes.append(
            f"{HEADS_NAME} holds the heads of {', '.join(sorted({name.split('.')[1] for name in heads}))}, which transformers has no place for"
        )
    if config.use_task_id:
        notes.append("task_type_ids choose the task embedding's row; without them it is row 0, that of knowledge masking")
    if tokenizer.normaliser.to_simplified:
        notes.append("the text was turned into simplified characters (OpenCC's t2s): do so before you give text to the tokenizer")
    return notes
