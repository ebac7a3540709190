"""A toy run folder for the tests of fine-tuning: a planted signal in both benchmarks, and a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ernie_core.benchmarks.base import Benchmark, Example
from ernie_core.benchmarks.classification import REVIEWS
from ernie_core.benchmarks.sequence_labelling import DAILY_NER, JOINT
from ernie_core.manifest import FileEntry, Manifest, atomic_write, write_manifest
from ernie_core.model.config import ErnieConfig
from ernie_core.model.ernie import ErnieForPretraining
from ernie_core.model.heads import Head
from ernie_core.seeding import generator
from ernie_core.tokenization import Tokenizer
from ernie_core.training.checkpoint import save_model
from ernie_core.training.finetune import Settings
from ernie_core.vocab import SPECIAL_TOKENS, Vocab
from pipelines.steps import StepContext

WORDS = "天地玄黄宇宙洪荒日月"
TOKENIZER = Tokenizer(Vocab((*SPECIAL_TOKENS, *WORDS, "好", "坏")))
CONFIG = ErnieConfig(
    vocab_size=TOKENIZER.vocab.size, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=24, sent_type_vocab_size=2,
    initializer_range=0.1,
)  # fmt: skip
SETTINGS = Settings(epochs=3, batch_size=8, learning_rate=1e-2, eval_times=3, precision="fp32", dropout=0.0, warmup_share=0.1, weight_decay=0.01)
SIZES = {"train": 200, "dev": 60, "test": 80}


def planted(benchmark: Benchmark, subset: str) -> list[Example]:
    """A text holds 好 (label 1) or 坏 (0); 好 is a place."""
    out = []
    for i in range(SIZES[subset]):
        draw = generator("planted", subset, i)
        text = [WORDS[k] for k in draw.integers(0, len(WORDS), int(draw.integers(4, 16)))]
        at, label = int(draw.integers(0, len(text) - 2)), i % 2
        text[at] = "坏好"[label]
        tags = ["O"] * len(text)
        if label:
            tags[at] = "B-LOC"
        tagged = Example(tuple(text), tuple(DAILY_NER.labels.index(t) for t in tags))
        out.append(tagged if benchmark is DAILY_NER else Example(("".join(text),), (label,)))
    return out


def save_start(folder: Path, seed: int) -> Path:
    model = ErnieForPretraining(CONFIG, {"next_sentence": Head("sentence", 2, 7)}, seed)
    folder.mkdir(parents=True)
    write_manifest(folder, Manifest("checkpoint", {}, {}, save_model(folder, model)))
    return folder


def toy_step(
    root: Path, seeds: Sequence[int] = (1, 2), *, model_seed: int = 5, names: Sequence[str] = ("reviews", "daily_ner")
) -> tuple[StepContext, dict[str, Any], list[str]]:
    """A run folder with an import step and a checkpoint, made where missing."""
    entries = []
    for benchmark in (REVIEWS, DAILY_NER):
        for subset in SIZES:
            rows = planted(benchmark, subset)
            if benchmark is REVIEWS:
                lines = ["label\ttext_a", *(f"{e.labels[0]}\t{e.texts[0]}" for e in rows)]
            else:
                lines = ["text_a\tlabel", *(f"{JOINT.join(e.texts)}\t{JOINT.join(DAILY_NER.labels[t] for t in e.labels)}" for e in rows)]
            path = f"benchmarks/{benchmark.name}/{subset}.tsv"
            entry = atomic_write(root / "import" / path, ("\n".join(lines) + "\n").encode())
            entries.append(FileEntry(path, entry.size_bytes, entry.sha256))
    write_manifest(root / "import", Manifest("import", {}, {}, tuple(entries)))
    atomic_write(root / "vocab.txt", TOKENIZER.vocab.to_bytes())
    atomic_write(root / "normaliser.json", TOKENIZER.normaliser.to_bytes())
    model = root / f"model-{model_seed}"
    if not model.exists():
        save_start(model, model_seed)
    trial = {
        "package": "reviews", "train_rows": 200, "dev_rows": 60, "test_rows": 80, "max_seq_len": 24, "epochs": 1, "batch_size": 16,
        "learning_rates": [1e-3, 3e-3], "eval_times": 2, "precision": "fp32", "dropout": 0.0, "warmup_share": 0.1, "weight_decay": 0.01,
        "pooling": "cls",
    }  # fmt: skip
    settings = {"arms": ["pretrained", "untrained"], "seeds": list(seeds), "benchmarks": dict.fromkeys(names, trial)}
    said: list[str] = []
    folder = root / "finetune"
    folder.mkdir(exist_ok=True)
    context = StepContext("finetune", folder, {"import": root / "import"}, {"import": "0" * 64}, settings, said.append)
    return context, {"data": root / "import", "model": model, "vocab": root / "vocab.txt", "seed": 7, "workers": 0}, said
