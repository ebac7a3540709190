"""An exported model in Hugging Face's transformers: equal outputs from its classes, equal ids from its tokenizer, nothing missing; and back."""

from __future__ import annotations

import io
import unicodedata
from contextlib import redirect_stdout
from pathlib import Path

import chinese_text
import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from training_helper import write_model

from ernie_core.data.batches import Batch
from ernie_core.interop.huggingface import to_ours, to_theirs
from ernie_core.model.config import ErnieConfig
from ernie_core.model.embeddings import TorchBatch
from ernie_core.model.ernie import ErnieForPretraining
from ernie_core.model.heads import Head
from ernie_core.normalise import Normaliser
from ernie_core.seeding import generator
from ernie_core.tokenization import Tokenizer, load_tokenizer
from ernie_core.vocab import SPECIAL_TOKENS, Vocab
from jobs.cli import main

pytestmark = pytest.mark.parity
TASK_ID = 3
TOKENS = (*SPECIAL_TOKENS, *"好的哈尔滨，。!abcdeiou12", "##b", "##c", "##1", "ab", "café", "é", "ß", "σ", "한", "的的")


def built(use_task_id: bool, heads: dict[str, Head], hidden_act: str = "gelu") -> ErnieForPretraining:
    config = ErnieConfig(len(TOKENS), 32, 3, 4, 24, 4, hidden_act=hidden_act, hidden_dropout_prob=0.0, initializer_range=0.2, use_task_id=use_task_id)
    model = ErnieForPretraining(config, heads, seed=1)
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return model


def exported(model: ErnieForPretraining, folder: Path) -> Path:
    """Write a model's folder as pretraining does, and export it by the command."""
    write_model(folder / "model", model, TOKENS)
    out = io.StringIO()
    with redirect_stdout(out):
        assert main(["export", str(folder / "model"), str(folder / "out")]) == 0
    assert "AutoModel.from_pretrained" in out.getvalue()
    return folder / "out"


def batch() -> Batch:
    draw = generator("export")
    lengths = np.array([16, 9, 3, 12])
    real = np.arange(16) < lengths[:, None]
    ids = np.where(real, draw.integers(5, len(TOKENS), (4, 16)), 0)
    types, positions = np.where(real, draw.integers(0, 4, (4, 16)), 0), np.where(real, np.arange(16), 0)
    return Batch(
        ids, types, positions, lengths, TASK_ID, np.zeros(0, np.int64), np.zeros(0, np.int64), np.full(4, -1), {}, np.arange(4, dtype=np.uint64)
    )


def arguments(data: TorchBatch, *, task: bool) -> dict[str, torch.Tensor]:
    more = {"task_type_ids": torch.full_like(data.token_ids, TASK_ID)} if task else {}
    mask = (torch.arange(16) < data.lengths[:, None]).long()
    return {"input_ids": data.token_ids, "token_type_ids": data.sentence_type_ids, "position_ids": data.position_ids, "attention_mask": mask, **more}


@pytest.mark.parametrize("use_task_id", [True, False])
@pytest.mark.parametrize("hidden_act", ["gelu", "relu"])
def test_every_class_gives_our_outputs_and_misses_nothing(tmp_path: Path, use_task_id: bool, hidden_act: str) -> None:
    heads = {"next_sentence": Head("sentence", 2, 7), "sentence_reordering": Head("sentence", 8, 2), "capitalization": Head("token", 2, 4)}
    model = built(use_task_id, heads, hidden_act)
    folder = exported(model, tmp_path)
    data = TorchBatch.from_numpy(batch(), torch.device("cpu"))
    real = torch.arange(16) < data.lengths[:, None]
    with torch.no_grad():
        hidden, pooled = model.encoder(data, None)
        positions = torch.arange(64)
        logits = model.lm_head(hidden, positions, model.encoder.embeddings.word.weight).view(4, 16, -1)
        next_sentence = model.heads["next_sentence"](pooled)
    given = arguments(data, task=use_task_id)
    for name in ("ErnieForPreTraining", "ErnieForMaskedLM", "ErnieModel"):
        theirs, report = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
        allowed = {"ErnieForPreTraining": (), "ErnieForMaskedLM": ("cls.seq_relationship.", "ernie.pooler."), "ErnieModel": ("cls.",)}[name]
        assert not report["missing_keys"]
        assert not report["mismatched_keys"]
        assert [key for key in report["unexpected_keys"] if not key.startswith(allowed)] == []
        with torch.no_grad():
            found = theirs.eval()(**given)
        if name == "ErnieModel":
            torch.testing.assert_close(found.last_hidden_state[real], hidden[real], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(found.pooler_output, pooled, atol=1e-5, rtol=1e-5)
        elif name == "ErnieForMaskedLM":
            torch.testing.assert_close(found.logits[real], logits[real], atol=1e-5, rtol=1e-5)
        else:
            torch.testing.assert_close(found.prediction_logits[real], logits[real], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(found.seq_relationship_logits, next_sentence.flip(1), atol=1e-5, rtol=1e-5)  # 0 is next there
            assert theirs.config.id2label == {0: "next", 1: "not next"}
    held = load_file(folder / "task_heads.safetensors")
    assert sorted(held) == [
        "heads.capitalization.bias",
        "heads.capitalization.weight",
        "heads.sentence_reordering.bias",
        "heads.sentence_reordering.weight",
    ]
    assert all(torch.equal(held[name], dict(model.named_parameters())[name]) for name in held)


def test_without_a_next_sentence_head_it_is_a_masked_language_model(tmp_path: Path) -> None:
    folder = exported(built(True, {"next_sentence": Head("sentence", 3, 7)}), tmp_path)
    assert type(transformers.AutoModelForMaskedLM.from_pretrained(folder)).__name__ == "ErnieForMaskedLM"
    assert transformers.AutoConfig.from_pretrained(folder).architectures == ["ErnieForMaskedLM"]
    assert sorted(load_file(folder / "task_heads.safetensors")) == ["heads.next_sentence.bias", "heads.next_sentence.weight"]


def test_there_and_back_gives_the_same_tensors() -> None:
    model = built(True, {"next_sentence": Head("sentence", 2, 7)})
    ours = {name: p.detach() for name, p in model.named_parameters()}
    theirs, others = to_theirs(ours)
    back = to_ours(theirs, model.config, "x")
    assert not others
    assert sorted(back) == sorted(ours)
    assert all(torch.equal(back[name], ours[name]) for name in ours)


def tokenizers(folder: Path) -> tuple[Tokenizer, transformers.PreTrainedTokenizerBase]:
    return load_tokenizer(folder.parent / "model" / "vocab.txt"), transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(built(True, {}), tmp_path_factory.mktemp("small"))


@given(
    st.text(
        st.one_of(
            st.sampled_from("哈尔滨，ａＢ１ ab\u200b\u00ad\u3000\u2028İΣßé\u0301한\u1112\u1161\ufe0f👩"),
            st.characters(exclude_categories=["Cs", "Cn"]),
        ),
        max_size=40,
    )
)
def test_ids_of_any_text_are_ours(small: Path, text: str) -> None:
    ours, theirs = tokenizers_of(small)
    assert theirs(text, add_special_tokens=False)["input_ids"] == ours.encode(text)


_held: dict[Path, tuple[Tokenizer, transformers.PreTrainedTokenizerBase]] = {}


def tokenizers_of(folder: Path) -> tuple[Tokenizer, transformers.PreTrainedTokenizerBase]:
    if folder not in _held:
        _held[folder] = tokenizers(folder)
    return _held[folder]


def test_pairs_get_special_tokens_and_sentence_types(small: Path) -> None:
    ours, theirs = tokenizers_of(small)
    cls, sep = ours.vocab.cls_id, ours.vocab.sep_id
    found = theirs("哈尔滨", "好的")
    first, second = ours.encode("哈尔滨"), ours.encode("好的")
    assert found["input_ids"] == [cls, *first, sep, *second, sep]
    assert found["token_type_ids"] == [0] * (len(first) + 2) + [1] * (len(second) + 1)
    assert (theirs.mask_token_id, theirs.pad_token_id, theirs.unk_token_id) == (ours.vocab.mask_id, ours.vocab.pad_id, ours.vocab.unk_id)
    assert theirs.model_max_length == 24


@pytest.mark.parametrize("every", [pytest.param(200, id="sample"), pytest.param(1, id="all", marks=[pytest.mark.slow, pytest.mark.timeout(3600)])])
def test_ids_of_real_lines_are_ours(test_data: Path, tmp_path: Path, every: int) -> None:
    from ernie_core.interop.tokenizer_json import TOKENIZER_CONFIG, tokenizer_json
    from ernie_core.manifest import canonical_json

    vocab = Vocab.load(test_data / "ernie_reference" / "vocab_zh.txt")
    (tmp_path / "tokenizer.json").write_text(tokenizer_json(vocab), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_bytes(canonical_json(TOKENIZER_CONFIG))
    theirs, ours = transformers.AutoTokenizer.from_pretrained(tmp_path), Tokenizer(vocab, Normaliser())
    compared = 0
    for path in chinese_text.files(test_data):
        lines = chinese_text.lines(path)[::every]
        for start in range(0, len(lines), 1000):
            some = [line for line in lines[start : start + 1000] if not any(unicodedata.category(c) == "Cs" for c in line)]
            for line, ids in zip(some, theirs(some, add_special_tokens=False)["input_ids"], strict=True):
                assert ids == ours.encode(line), line
            compared += len(some)
    assert compared > 600_000 // every


def test_what_is_not_a_model_or_stands_in_the_way_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path), str(tmp_path / "out")]) == 3
    assert "E-MODEL-MISSING" in capsys.readouterr().err
    write_model(tmp_path / "model", built(True, {}), TOKENS)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert main(["export", str(tmp_path), str(tmp_path / "out")]) == 5
    assert "E-OUTPUT-FOREIGN" in capsys.readouterr().err
