"""A toy run folder for the tests of fine-tuning: a planted signal in both benchmarks, and a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ernie_core.benchmarks.base import Benchmark, Example
from ernie_core.benchmarks.classification import REVIEWS
from ernie_core.benchmarks.rows import to_lines
from ernie_core.benchmarks.sequence_labelling import DAILY_NER
from ernie_core.manifest import FileEntry, Manifest, atomic_write, write_manifest
from ernie_core.model.config import ErnieConfig
from ernie_core.model.ernie import ErnieForPretraining
from ernie_core.model.heads import Head
from ernie_core.seeding import generator
from ernie_core.tokenization import Tokenizer
from ernie_core.training.checkpoint import save_model
from ernie_core.training.finetune import Settings
from ernie_core.vocab import SPECIAL_TOKENS, Vocab
from pipelines.recipe_finetune import BenchmarkSettings
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
        tagged = Example(tuple(text), tuple(DAILY_NER.labels.index(t) for t in tags), id=str(i))
        out.append(tagged if benchmark is DAILY_NER else Example(("".join(text),), (label,), id=str(i)))
    return out


def save_start(folder: Path, seed: int) -> Path:
    model = ErnieForPretraining(CONFIG, {"next_sentence": Head("sentence", 2, 7)}, seed)
    folder.mkdir(parents=True)
    tables = {"vocab.txt": TOKENIZER.vocab.to_bytes(), "normaliser.json": TOKENIZER.normaliser.to_bytes()}
    files = (*save_model(folder, model), *(atomic_write(folder / name, data) for name, data in tables.items()))
    write_manifest(folder, Manifest("model", {}, {}, files))
    return folder


def imported_facts(name: str, subset: str, rows: int) -> dict[str, Any]:
    return {
        "benchmark": name, "subset": subset, "rows": rows, "labelled": rows, "read": rows, "dropped": {}, "notes": {}, "from": "planted", "official": None,
    }  # fmt: skip


def toy_step(
    root: Path, seeds: Sequence[int] = (1, 2), *, model_seed: int = 5, names: Sequence[str] = ("reviews", "daily_ner")
) -> tuple[StepContext, dict[str, Any], list[str]]:
    """A run folder with an import step and a checkpoint, made where missing."""
    entries = []
    for benchmark in (REVIEWS, DAILY_NER):
        for subset in SIZES:
            rows = planted(benchmark, subset)
            path = f"benchmarks/{benchmark.name}/{subset}.jsonl"
            entry = atomic_write(root / "import" / path, to_lines(rows, benchmark))
            entries.append(FileEntry(path, entry.size_bytes, entry.sha256, imported_facts(benchmark.name, subset, len(rows))))
    write_manifest(root / "import", Manifest("import", {}, {}, tuple(entries)))
    model = root / f"model-{model_seed}"
    if not model.exists():
        save_start(model, model_seed)
    trial = {
        **BenchmarkSettings(package="reviews", max_seq_len=24).model_dump(), "epochs": 1, "learning_rates": [1e-3, 3e-3], "eval_times": 2,
        "precision": "fp32", "dropout": 0.0,
    }  # fmt: skip
    settings = {"arms": ["pretrained", "untrained"], "seeds": list(seeds), "benchmarks": dict.fromkeys(names, trial)}
    said: list[str] = []
    folder = root / "finetune"
    folder.mkdir(exist_ok=True)
    context = StepContext("finetune", folder, {"import": root / "import"}, {"import": "0" * 64}, settings, said.append)
    return context, {"data": root / "import", "model": model, "seed": 7, "workers": 0}, said
