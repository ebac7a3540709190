"""What a run does about checkpoints that are cut off, changed, all bad, or of other settings, versions, machines or shapes (reliability F34-F39, F79)."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ranks_helper import Group, arguments, bits, done, last_step
from training_helper import HEADS, make_config

from ernie_core import manifest
from ernie_core.errors import IntegrityError, OutputError
from ernie_core.manifest import Manifest, read_manifest, write_manifest
from ernie_core.model.ernie import ErnieForPretraining
from ernie_core.model.heads import Head
from ernie_core.training import checkpoint, environment
from ernie_core.training.optim import adamw
from ernie_core.training.retention import complete, step_of
from ernie_core.training.worker import LocalWorker
from pipelines.rank_state import CHECKPOINTS, LOG_NAME, RankState
from pipelines.ray_train import LocalHost

SIGKILLED = -9
FILES = ["ernie_config.json", "manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"]


@pytest.fixture(scope="module")
def broken_off(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run killed behind step 22, with checkpoints at steps 15 and 20."""
    folder = tmp_path_factory.mktemp("broken") / "pretrain"
    assert Group(arguments(recipe, folder), 1, failpoint="train.before_step:23").end() == [SIGKILLED]
    assert [step_of(path) for path in complete(folder / CHECKPOINTS)] == [20, 15]
    return folder


@pytest.fixture
def halfway(broken_off: Path, tmp_path: Path) -> Path:
    shutil.copytree(broken_off, tmp_path / "pretrain")
    return tmp_path / "pretrain"


def newest_of(folder: Path) -> tuple[Path | None, list[str]]:
    """Return what a resume would take, and what is said; what this process has verified before is forgotten, as in a fresh one."""
    manifest._verified.clear()
    warnings: list[str] = []
    return checkpoint.latest(folder / CHECKPOINTS, warnings.append), warnings


def damaged(path: Path, data: bytes, folder: Path) -> tuple[Path | None, list[str]]:
    """Return `newest_of(folder)` while `path` holds `data`."""
    whole = path.read_bytes()
    path.write_bytes(data)
    found = newest_of(folder)
    path.write_bytes(whole)
    return found


def test_a_checkpoint_cut_off_at_nine_points_of_each_file_is_passed_over(halfway: Path) -> None:
    """F34: 45 of 45."""
    newest, before = complete(halfway / CHECKPOINTS)
    assert sorted(path.name for path in newest.iterdir()) == FILES
    passed_over = 0
    for name in FILES:
        data = (newest / name).read_bytes()
        for cut in range(9):
            found, warnings = damaged(newest / name, data[: len(data) * cut // 9], halfway)
            assert len(warnings) == 1
            assert f"WARN E-CKPT-HASH checkpoint {newest.name} is damaged, going back to the one before it" in warnings[0]
            passed_over += found == before
    assert passed_over == 45
    assert newest_of(halfway) == (newest, [])


def test_300_flipped_bits_over_all_files_are_300_checkpoints_passed_over(halfway: Path) -> None:
    """F35: 300 of 300, places drawn over the bytes of all files, 40 at least in each."""
    newest, before = complete(halfway / CHECKPOINTS)
    draw = random.Random(35)
    sizes = {name: (newest / name).stat().st_size for name in FILES}
    chosen = [name for name in FILES for _ in range(40)] + draw.choices(FILES, weights=list(sizes.values()), k=100)
    passed_over = 0
    for name in chosen:
        data = bytearray((newest / name).read_bytes())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        found, warnings = damaged(newest / name, bytes(data), halfway)
        passed_over += found == before and len(warnings) == 1 and "E-CKPT-HASH" in warnings[0]
    assert (len(chosen), passed_over) == (300, 300)


def test_a_run_whose_newest_checkpoint_is_damaged_redoes_one_interval_to_the_same_bits(recipe: Path, unbroken: Path, halfway: Path) -> None:
    """F34, F35 as a whole run: nothing begins from zero."""
    weights = complete(halfway / CHECKPOINTS)[0] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert Group(arguments(recipe, halfway), 1).end() == [0]
    log = (halfway / LOG_NAME).read_text(encoding="utf-8")
    assert "WARN E-CKPT-HASH checkpoint step-00000020" in log
    assert "resumed from step-00000015" in log
    assert bits(halfway) == bits(unbroken)


def test_a_run_whose_checkpoints_are_all_damaged_ends_with_4_and_lists_them(recipe: Path, halfway: Path) -> None:
    """F36."""
    one, two = complete(halfway / CHECKPOINTS)
    (one / "optimizer.safetensors").unlink()
    (two / "state.json").write_bytes(b"{}")
    before = last_step(halfway)
    assert Group(arguments(recipe, halfway), 1).end() == [4]
    said = (halfway / "error-0").read_text(encoding="utf-8")
    assert "E-CKPT-BAD" in said
    assert f"{one.name}/optimizer.safetensors" in said
    assert f"{two.name}/state.json" in said
    assert last_step(halfway) == before, "training must not begin"
    assert not done(halfway)


CHANGES = [
    ("seed", "seed=8"), ("settings.learning_rate", "pretrain.learning_rate=2e-3"), ("settings.batch_tokens", "pretrain.batch_tokens=512"),
    ("settings.weight_decay", "pretrain.weight_decay=0.02"), ("settings.clip_norm", "pretrain.clip_norm=0.5"),
    ("settings.warmup_share", "pretrain.warmup_share=0.2"), ("settings.mask_probability", "pretrain.mask_probability=0.3"),
    ("settings.iterations.next_sentence", "pretrain.iterations={knowledge_masking: 36, next_sentence: 13, sentence_reordering: 12}"),
    ("settings.schedule", "pretrain.schedule=sequential"), ("settings.model.hidden_size", "pretrain.model.hidden_size=32"),
    ("settings.precision", "pretrain.precision=bf16"), ("settings.validation_steps", "pretrain.validation_steps=10"),
]  # fmt: skip


def resume(recipe: Path, folder: Path, changes: tuple[str, ...] = (), **given: Any) -> RankState:
    """Return a rank that has gone on from the newest checkpoint in `folder`, with settings or arguments changed."""
    state = RankState({**arguments(recipe, folder, changes), **given}, LocalWorker(torch.device("cpu")), LocalHost())
    try:
        state.restore()
    finally:
        state.close(None)
    return state


@pytest.mark.parametrize(("key", "change"), CHANGES, ids=[key for key, _ in CHANGES])
def test_a_checkpoint_of_other_settings_is_refused_by_key(
    recipe: Path, halfway: Path, key: str, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F37: 12 of 12 single keys of the recipe; what follows from a key, such as the model's config, may be named beside it."""
    monkeypatch.setattr("pipelines.rank_state.matmul_peak", lambda *_: 1.0)
    with pytest.raises(OutputError, match="E-CKPT-FINGERPRINT") as e:
        resume(recipe, halfway, (change,))
    assert e.value.exit_code == 5
    named = [part.partition(":")[0] for part in e.value.found.split("; ")]
    assert key in named
    assert [name for name in named if name not in {key, "settings.seed"} and not name.startswith("config.")] == []
    assert " in the checkpoint, " in e.value.found


@pytest.mark.parametrize("name", ["vocab_sha256", "shards_sha256"])
def test_a_checkpoint_of_another_vocabulary_or_other_data_is_refused(recipe: Path, halfway: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """F37, F61: the hashes are what a recipe cannot set."""
    monkeypatch.setattr("pipelines.rank_state.matmul_peak", lambda *_: 1.0)
    with pytest.raises(OutputError, match=rf"E-CKPT-FINGERPRINT.*{name}: [0-9a-f]{{64}} in the checkpoint, another now"):
        resume(recipe, halfway, **{name: "another"})


def rewritten(folder: Path, change: Callable[[dict[str, Any]], None], name: str = "manifest.json") -> None:
    """Change the record of every checkpoint of a run, with hashes that fit: as another version would have written it."""
    for path in complete(folder / CHECKPOINTS):
        old = read_manifest(path)
        if name == "manifest.json":
            body = {"settings": old.settings, "facts": old.facts}
            change(body)
            write_manifest(path, Manifest(old.step, body["settings"], old.parents, old.files, body["facts"]))
            continue
        state = json.loads((path / name).read_bytes())
        change(state)
        entry = manifest.atomic_write(path / name, manifest.canonical_json(state))
        files = tuple(entry if f.path == name else f for f in old.files)
        write_manifest(path, Manifest(old.step, old.settings, old.parents, files, old.facts))


@pytest.mark.parametrize(
    ("name", "key", "was"), [("manifest.json", "torch", "2.12.9"), ("state.json", "ray", "2.59.0"), ("manifest.json", "processor", "Another CPU")]
)
def test_a_checkpoint_of_another_version_or_machine_is_taken_with_a_warning_of_both(
    recipe: Path, unbroken: Path, halfway: Path, name: str, key: str, was: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F38, F79."""
    monkeypatch.setattr("pipelines.rank_state.matmul_peak", lambda *_: 1.0)

    def other(body: dict[str, Any]) -> None:
        """Put in what another version would have recorded."""
        place = body["facts"]["environment"] if name == "manifest.json" else body["layout"]
        assert key in place, "it is not recorded"
        place[key] = was

    rewritten(halfway, other, name)
    state = resume(recipe, halfway)
    now = state.layout()[key] if name == "state.json" else environment.environment()[key]
    warned = (halfway / LOG_NAME).read_text(encoding="utf-8").splitlines()[-1]
    assert warned.startswith("WARN E-RESUME-BITS the samples are the same, but the last bits of the losses may differ from an unbroken run: ")
    assert warned.endswith(f"{key}: {was} in the checkpoint, {now} now")
    assert not state.replays_bits
    assert state.step == 20


def test_a_checkpoint_of_another_format_is_refused(recipe: Path, halfway: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F38: of the state by its number, of the folder by the manifest's."""
    monkeypatch.setattr("pipelines.rank_state.matmul_peak", lambda *_: 1.0)
    rewritten(halfway, lambda body: body["settings"].update(state=2))
    with pytest.raises(OutputError, match=r"E-CKPT-FINGERPRINT.*state: 2 in the checkpoint, 3 now"):
        resume(recipe, halfway)
    monkeypatch.setattr(manifest, "FORMAT_VERSION", 2)
    with pytest.raises(IntegrityError, match=r"E-CKPT-BAD.*format 1, this version reads 2"):
        newest_of(halfway)


def test_another_number_of_threads_is_said_with_both_and_the_samples_are_the_same(recipe: Path, unbroken: Path, halfway: Path) -> None:
    """F79, F38: the promise of bits is off, that of samples is not."""
    rewritten(halfway, lambda body: body["facts"]["environment"].update(threads=2))
    assert Group(arguments(recipe, halfway), 1).end() == [0]
    log = (halfway / LOG_NAME).read_text(encoding="utf-8")
    assert "WARN E-RESUME-BITS" in log
    assert "threads: 2 in the checkpoint, 1 now" in log
    chains = [json.loads((folder / "result.json").read_bytes())["chain"] for folder in (halfway, unbroken)]
    assert chains[0] == chains[1]


def test_every_tensor_that_does_not_fit_is_listed_with_its_shape_up_to_twenty(tmp_path: Path) -> None:
    """F39: of the weights, and of the optimiser's moments; nothing is loaded in part."""
    model = ErnieForPretraining(make_config(), HEADS, seed=1)
    folder = checkpoint.save(tmp_path, 1, checkpoint.Copy.of(model, adamw(model, weight_decay=0.0, beta2=0.98), {}), 1, {})
    heads = {f"task{i:02d}": Head("sentence", 2, 7) for i in range(12)}
    other = ErnieForPretraining(make_config(), {**heads, "next_sentence": Head("sentence", 3, 7)}, seed=2)
    before = {name: p.clone() for name, p in other.named_parameters()}
    with pytest.raises(IntegrityError, match="E-CKPT-SHAPE") as e:
        checkpoint.load(folder, other, adamw(other, weight_decay=0.0, beta2=0.98))
    listed, _, more = e.value.found.rpartition(" and ")
    wrong = [f"missing heads.task{i:02d}.{part}" for i in range(12) for part in ("bias [2]", "weight [2, 16]")]
    assert listed.split(", missing ") == [wrong[0], *(name.removeprefix("missing ") for name in wrong[1:20])]
    assert more == "8 more"  # 4 missing, 2 unexpected, 2 of another shape
    assert all(torch.equal(p, before[name]) for name, p in other.named_parameters())
