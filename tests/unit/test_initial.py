"""Starting a pretraining from a model: of ours, or of Hugging Face's; what does not fit is refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_helper import make_batch, make_config, write_model

from ernie_core.errors import InputError, IntegrityError, RecipeError
from ernie_core.model.config import ErnieConfig
from ernie_core.model.embeddings import TorchBatch
from ernie_core.model.ernie import ErnieForBenchmark, ErnieForPretraining
from ernie_core.model.heads import Head
from ernie_core.training.checkpoint import Copy, load_weights, read_config, save
from ernie_core.training.optim import adamw
from ernie_core.vocab import SPECIAL_TOKENS, Vocab
from pipelines.export import export
from pipelines.initial import initial_config, initial_tensors, own_folder, start_from

TOKENS = (*SPECIAL_TOKENS, *(chr(ord("一") + i) for i in range(35)))
HEADS = {"next_sentence": Head("sentence", 2, 7), "capitalization": Head("token", 2, 1)}


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A run's folder whose model is not at its start."""
    model = ErnieForPretraining(make_config(), HEADS, seed=1)
    torch.manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    write_model(tmp_path / "run" / "pretrain" / "model", model, TOKENS)
    return tmp_path / "run"


def hidden(model: ErnieForPretraining) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.encoder(TorchBatch.from_numpy(make_batch("initial"), torch.device("cpu")), None)[0]
    return found


def started(path: Path, config: ErnieConfig, heads: dict[str, Head] = HEADS) -> tuple[ErnieForPretraining, frozenset[str]]:
    model = ErnieForPretraining(initial_config(path, config, Vocab(TOKENS), config.max_position_embeddings), heads, seed=2)
    return model, start_from(initial_tensors(path), model)


def test_a_model_of_ours_goes_on_as_it_was(trained: Path) -> None:
    model, known = started(trained, make_config())
    own = initial_tensors(trained / "pretrain" / "model")
    assert all(torch.equal(p, own[name]) for name, p in model.named_parameters())
    assert known == {"next_sentence", "capitalization"}


def test_a_folder_of_transformers_gives_the_encoder_and_the_heads_that_it_has(trained: Path, tmp_path: Path) -> None:
    export(trained, tmp_path / "hf")
    (tmp_path / "hf" / "tokenizer.json").unlink()
    ours, (theirs, known) = started(trained, make_config())[0], started(tmp_path / "hf", make_config())
    torch.testing.assert_close(hidden(theirs), hidden(ours), atol=0, rtol=0)
    assert known == {"next_sentence"}
    fresh = ErnieForPretraining(make_config(), HEADS, seed=2)
    for name, p in theirs.named_parameters():
        same = dict((fresh if name.startswith("heads.capitalization") else ours).named_parameters())[name]
        assert torch.equal(p, same), name


def test_a_model_without_a_task_embedding_gives_rows_of_zeros(tmp_path: Path) -> None:
    bare = ErnieForPretraining(make_config(use_task_id=False), HEADS, seed=1)
    write_model(tmp_path / "bare" / "model", bare, TOKENS)
    export(tmp_path / "bare", tmp_path / "hf")
    for source in ("bare", "hf"):
        model, _ = started(tmp_path / source, make_config())
        torch.testing.assert_close(hidden(model), hidden(bare), atol=0, rtol=0)
        task = model.encoder.embeddings.task
        assert task is not None
        assert not task.weight.any()


@pytest.mark.parametrize("use_task_id", [True, False])
def test_a_model_of_transformers_in_our_form_fine_tunes_as_it_is(tmp_path: Path, use_task_id: bool) -> None:
    ours = ErnieForPretraining(make_config(use_task_id=use_task_id), HEADS, seed=1)
    write_model(tmp_path / "run" / "model", ours, TOKENS)
    export(tmp_path / "run", tmp_path / "hf")
    folder = own_folder(tmp_path / "hf", tmp_path / "start")
    assert own_folder(folder, tmp_path / "other") == folder, "ours is taken as it stands"
    config = read_config(folder)
    assert config.use_task_id is use_task_id
    model = ErnieForBenchmark(config, "classification", 2, seed=2)
    load_weights(folder, model, new=("output.",), unused=("lm_head.", "heads."))
    for name, parameter in model.encoder.named_parameters():
        assert torch.equal(parameter, ours.encoder.get_parameter(name)), name


def test_fewer_positions_are_the_first_ones_and_further_sentence_types_start_fresh(trained: Path) -> None:
    config = replace(make_config(), max_position_embeddings=20, sent_type_vocab_size=4)
    model, _ = started(trained, config)
    fresh, own = ErnieForPretraining(config, HEADS, seed=2), initial_tensors(trained)
    embeddings = model.encoder.embeddings
    assert torch.equal(embeddings.position.weight, own["encoder.embeddings.position.weight"][:20])
    assert torch.equal(embeddings.sentence.weight[:2], own["encoder.embeddings.sentence.weight"])
    assert torch.equal(embeddings.sentence.weight[2:], fresh.encoder.embeddings.sentence.weight[2:])


def test_a_head_of_other_classes_starts_fresh(trained: Path) -> None:
    model, known = started(trained, make_config(), {"next_sentence": Head("sentence", 3, 7)})
    assert known == frozenset()
    assert torch.equal(model.heads["next_sentence"].weight, ErnieForPretraining(make_config(), {"next_sentence": Head("sentence", 3, 7)}, seed=2).heads["next_sentence"].weight)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_hidden_layers": 3}, "num_hidden_layers: 2"),
        ({"hidden_size": 24}, "hidden_size: 16"),
        ({"hidden_act": "relu"}, "hidden_act: gelu"),
        ({"max_position_embeddings": 25}, "at most 24 for the longest row, which prepare.max_seq_len or prepare.long_rows sets to 25"),
    ],
)
def test_another_shape_is_refused_with_what_it_has(trained: Path, changes: dict[str, object], says: str) -> None:
    with pytest.raises(RecipeError, match="E-INIT-SHAPE") as e:
        initial_config(trained, config := replace(make_config(), **changes), Vocab(TOKENS), config.max_position_embeddings)
    assert e.value.expected == says


def test_another_vocabulary_is_refused(trained: Path) -> None:
    with pytest.raises(InputError, match="E-INIT-VOCAB") as e:
        initial_config(trained, make_config(), Vocab((*TOKENS[:-2], TOKENS[-1], TOKENS[-2])), 24)
    assert e.value.fix.endswith("pretrain/model/vocab.txt")


def test_a_checkpoint_is_a_model_to_start_from_and_its_vocabulary_is_compared(trained: Path, tmp_path: Path) -> None:
    model = ErnieForPretraining(make_config(), HEADS, seed=1)
    load_weights(trained / "pretrain" / "model", model)
    vocab, other = Vocab(TOKENS), Vocab((*TOKENS[:-2], TOKENS[-1], TOKENS[-2]))
    copy = Copy.of(model, adamw(model, weight_decay=0.01, beta2=0.98), {})
    folder = save(tmp_path / "checkpoints", 7, copy, 2, {"vocab_sha256": vocab.sha256})
    again, known = started(folder, make_config())
    assert known == set(HEADS)
    assert torch.equal(hidden(again), hidden(model))
    with pytest.raises(InputError, match="E-INIT-VOCAB") as e:
        initial_config(folder, make_config(), other, 24)
    assert "tables/vocab.txt" in e.value.fix


def test_epsilon_is_that_of_the_model(trained: Path, tmp_path: Path) -> None:
    export(trained, tmp_path / "hf")
    path = tmp_path / "hf" / "config.json"
    path.write_text(path.read_text().replace('"layer_norm_eps": 1e-05', '"layer_norm_eps": 1e-12'))
    assert initial_config(tmp_path / "hf", make_config(), Vocab(TOKENS), 24).layer_norm_eps == 1e-12


def test_what_is_no_model_is_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="E-MODEL-MISSING"):
        initial_tensors(tmp_path)
    (tmp_path / "pickle").mkdir()
    (tmp_path / "pickle" / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(InputError, match="E-MODEL-PICKLE"):
        initial_tensors(tmp_path / "pickle")
    export(trained, tmp_path / "hf")
    weights = tmp_path / "hf" / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-8])
    with pytest.raises(IntegrityError, match="E-INTEROP"):
        initial_tensors(tmp_path / "hf")
    weights.write_bytes(data.replace(b"layer.1.output.dense", b"layer.9.output.dense"))
    with pytest.raises(IntegrityError, match=r"E-INTEROP no ERNIE or BERT encoder.*layer\.1\.output\.dense"):
        initial_tensors(tmp_path / "hf")
    weights.write_bytes(data)
    (tmp_path / "hf" / "config.json").unlink()
    with pytest.raises(InputError, match="E-MODEL-MISSING"):
        initial_tensors(tmp_path / "hf")
