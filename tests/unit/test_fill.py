"""`ernie fill`: the likeliest tokens of each mask, as the masked-LM head gives them; what cannot be filled is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_helper import make_config, write_model

from ernie_core.inference.fill import Filler
from ernie_core.model.ernie import ErnieForPretraining
from ernie_core.model.heads import Head
from ernie_core.vocab import SPECIAL_TOKENS
from jobs.cli import main

TOKENS = (*SPECIAL_TOKENS, *(chr(ord("一") + i) for i in range(35)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that answers with token 8, and then 7, wherever it is asked."""
    model = ErnieForPretraining(make_config(), {"capitalization": Head("token", 2, 1)}, seed=1)
    with torch.no_grad():
        model.lm_head.bias[8], model.lm_head.bias[7] = 50.0, 48.0
    write_model(tmp_path / "pretrain" / "model", model, TOKENS)
    return tmp_path


def test_each_mask_gets_the_likeliest_tokens_with_their_probabilities(folder: Path) -> None:
    filler = Filler(folder / "pretrain" / "model")
    found = filler.fill(f"{TOKENS[10]}[MASK]Ａ [MASK]{TOKENS[11]}", top=3)
    assert found.text == f"{TOKENS[10]}{TOKENS[8]}[UNK]{TOKENS[8]}{TOKENS[11]}"
    assert len(found.guesses) == 2
    for guesses in found.guesses:
        assert [token for token, _ in guesses[:2]] == [TOKENS[8], TOKENS[7]]
        assert [p for _, p in guesses[:2]] == pytest.approx([0.88, 0.12], abs=0.05)
        assert len(guesses) == 3


def test_a_mask_is_seen_in_its_context(folder: Path) -> None:
    filler = Filler(folder / "pretrain" / "model")
    one, other = (filler.fill(f"{TOKENS[i]}[MASK]").guesses[0][0][1] for i in (10, 20))
    assert one != other


def test_the_command_prints_text_guesses_and_the_filled_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fill", str(folder), "[MASK]", f"{TOKENS[10]}[MASK]", "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [lines[0], lines[2], lines[3], lines[5]] == ["[MASK]", f"    {TOKENS[8]}", f"{TOKENS[10]}[MASK]", f"    {TOKENS[10]}{TOKENS[8]}"]
    assert lines[1].startswith(f"    {TOKENS[8]} 0.")


@pytest.mark.parametrize(("text", "code"), [("没有", "E-NO-MASK"), ("[MASK]" * 23, "E-TOO-LONG"), ("", "E-NO-MASK")])
def test_what_cannot_be_filled_is_refused(folder: Path, text: str, code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fill", str(folder), text]) == 3
    assert code in capsys.readouterr().err


@pytest.mark.parametrize("top", ["0", "-1", "many"])
def test_a_number_of_tokens_that_makes_no_sense_is_refused(folder: Path, top: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as e:
        main(["fill", str(folder), "[MASK]", f"--top={top}"])
    assert e.value.code == 2
    assert "no whole number above 0" in capsys.readouterr().err


def test_the_longest_text_is_filled(folder: Path) -> None:
    assert len(Filler(folder / "pretrain" / "model").fill("[MASK]" * 22).guesses) == 22
