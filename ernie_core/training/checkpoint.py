"""Checkpoints: safetensors and JSON in a fresh folder per attempt, manifest last, hashes checked before loading (DESIGN, Checkpoint).

Layout of ``step-00000200-<attempt>/``: model.safetensors, ernie_config.json, optimizer.safetensors, state.json, manifest.json.
A folder without a manifest is an attempt that was cut off; nothing reads it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of
from torch import Tensor, nn

from ernie_core.errors import IntegrityError, OutputError, ResourceError
from ernie_core.failpoints import failpoint
from ernie_core.manifest import (
    FileEntry,
    Manifest,
    canonical_json,
    disk_errors,
    fsync_folder,
    read_manifest,
    verified_path,
    write_manifest,
)  # fmt: skip
from ernie_core.model.config import ErnieConfig
from ernie_core.training.environment import environment
from ernie_core.training.optim import load_optimizer_tensors, optimizer_tensors
from ernie_core.training.retention import STATE_NAME, complete, new_folder, remove, superfluous

STEP = "checkpoint"
"""Step name in a checkpoint's manifest."""
MODEL_NAME, CONFIG_NAME, OPTIMIZER_NAME = "model.safetensors", "ernie_config.json", "optimizer.safetensors"
_MAX_LISTED = 20


@dataclass(frozen=True)
class Copy:
    """All that a checkpoint holds as it was at one moment, in memory of its own: tensors on the CPU, the rest as JSON."""

    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    config: bytes
    state: bytes

    @classmethod
    def of(cls, model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any], into: Copy | None = None) -> Copy:
        """Copy everything as it is; the memory of `into`, an earlier copy that nobody needs, is used again.

        Args:
            model: has a `config` of type ErnieConfig.
            optimizer: over the model's parameters.
            state: JSON values that resume needs (feed, health, …).
            into: see above.
        """
        config: Any = model.config
        old = ({}, {}) if into is None else (into.model, into.optimizer)
        return cls(
            _copied(model.state_dict(), old[0]),
            _copied(optimizer_tensors(model, optimizer), old[1]),
            config.to_json().encode(),
            canonical_json(dict(state)),
        )


def _copied(tensors: Mapping[str, Tensor], old: Mapping[str, Tensor]) -> dict[str, Tensor]:
    def place(name: str, tensor: Tensor) -> Tensor:
        found = old.get(name)
        return torch.empty(tensor.shape, dtype=tensor.dtype) if found is None or found.shape != tensor.shape else found

    with torch.no_grad():
        return {name: place(name, tensor).copy_(tensor) for name, tensor in tensors.items()}


def save(root: Path, step: int, copy: Copy, keep: int, fingerprint: Mapping[str, Any], scores: Mapping[int, float] | None = None) -> Path:
    """Write a checkpoint, then delete cut-off attempts and all complete ones that need not stay. Called by rank 0 only.

    Args:
        root: the run's checkpoint folder.
        step: optimiser steps done.
        copy: what to save.
        keep: newest complete checkpoints to keep, at least 1.
        fingerprint: settings that change results, and parents' hashes; `check_fingerprint` compares them at resume.
        scores: see `retention.superfluous`: the best checkpoint is kept too.

    Returns:
        The checkpoint's folder.

    Raises:
        ResourceError: E-DISK-FULL, E-PERMISSION; what was written of it is deleted.
    """
    failpoint("ckpt.before_tmp")
    folder = new_folder(root, step)
    try:
        with disk_errors(folder):
            folder.mkdir(parents=True)
            files = (
                _write(folder / MODEL_NAME, bytes_of(copy.model)),
                _write(folder / CONFIG_NAME, copy.config),
                _write(folder / OPTIMIZER_NAME, bytes_of(copy.optimizer)),
                _write(folder / STATE_NAME, copy.state),
            )
            fsync_folder(folder)
            failpoint("ckpt.after_files")
            facts = {"step": step, "environment": environment()}
            failpoint("ckpt.before_manifest")
            write_manifest(folder, Manifest(STEP, dict(fingerprint), {}, files, facts))
            fsync_folder(root)
    except ResourceError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    failpoint("ckpt.after_manifest")
    for old in superfluous(root, keep, scores or {}, folder):
        remove(old)
    return folder


def save_model(folder: Path, model: nn.Module) -> tuple[FileEntry, ...]:
    """Write model.safetensors and ernie_config.json into `folder`; the caller writes its manifest."""
    config: Any = model.config
    return _write(folder / MODEL_NAME, bytes_of(_cpu(model.state_dict()))), _write(folder / CONFIG_NAME, config.to_json().encode())


def _cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _write(path: Path, data: bytes) -> FileEntry:
    with path.open("wb") as f:
        f.write(memoryview(data)[: len(data) // 2])
        failpoint("ckpt.mid_write")
        f.write(memoryview(data)[len(data) // 2 :])
        f.flush()
        os.fsync(f.fileno())
    return FileEntry(path.name, len(data), hashlib.sha256(data).hexdigest())


def latest(root: Path, warn: Callable[[str], None]) -> Path | None:
    """Return the newest checkpoint whose files all have their hashes, or None where no attempt was completed.

    Args:
        root: the run's checkpoint folder; may be missing.
        warn: told of each damaged checkpoint that is passed over.

    Raises:
        IntegrityError: E-CKPT-BAD, there are complete checkpoints and all are damaged: what is wrong with each is listed.
    """
    damaged = []
    for folder in complete(root):
        try:
            for entry in read_manifest(folder, STEP).files:
                verified_path(folder, entry, "E-CKPT-HASH")
        except IntegrityError as e:
            damaged.append(str(e))
            warn(f"WARN E-CKPT-HASH checkpoint {folder.name} is damaged, going back to the one before it: {e}")
            continue
        return folder
    if damaged:
        raise IntegrityError(
            "E-CKPT-BAD", "every checkpoint is damaged", where=str(root), found=" | ".join(damaged),
            fix="restore one from a backup, or delete this folder to train from the start",
        )  # fmt: skip
    return None


def load(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Load weights and moments in place, strictly, and return the state given to `Copy.of`.

    Raises:
        IntegrityError: E-CKPT-HASH, or E-CKPT-SHAPE listing missing, unexpected and differently shaped tensors.
    """
    load_weights(folder, model)
    tensors = _read_tensors(folder, OPTIMIZER_NAME)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    with_state = {name.partition("/")[2] for name in tensors}
    expected = {f"{part}/{name}": shapes[name] for name in with_state & set(shapes) for part in ("exp_avg", "exp_avg_sq")}
    expected |= {f"step/{name}": () for name in with_state & set(shapes)}
    _check_shapes(folder / OPTIMIZER_NAME, expected, tensors)
    load_optimizer_tensors(model, optimizer, tensors)
    state: dict[str, Any] = json.loads(_read(folder, STATE_NAME))
    return state


def load_weights(folder: Path, model: nn.Module, *, new: Collection[str] = (), unused: Collection[str] = ()) -> None:
    """Load model.safetensors of a finished folder (a checkpoint, or any step with a manifest) in place.

    Args:
        folder: has a manifest that names model.safetensors.
        model: to load into.
        new: prefixes of parameters that may be missing in the file; they keep their start.
        unused: prefixes of tensors in the file that the model may lack.

    Raises:
        IntegrityError: E-CKPT-HASH, E-CKPT-SHAPE.
    """
    tensors = {name: t for name, t in _read_tensors(folder, MODEL_NAME).items() if not name.startswith(tuple(unused))}
    own = dict(model.named_parameters())
    expected = {name: tuple(p.shape) for name, p in own.items() if name in tensors or not name.startswith(tuple(new))}
    _check_shapes(folder / MODEL_NAME, expected, tensors)
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of the model.safetensors of a finished folder, by name.

    Raises:
        IntegrityError: E-CKPT-HASH, E-CKPT-FILE.
    """
    return _read_tensors(folder, MODEL_NAME)


def read_config(folder: Path) -> ErnieConfig:
    """Return the model's settings from the ernie_config.json of a finished folder."""
    return ErnieConfig.from_json(_read(folder, CONFIG_NAME).decode(), str(folder / CONFIG_NAME))


def _read(folder: Path, name: str) -> bytes:
    entry = next((f for f in read_manifest(folder).files if f.path == name), None)
    if entry is None:
        raise IntegrityError("E-CKPT-FILE", "the manifest names no such file", where=str(folder), expected=name, fix="give a checkpoint's folder")
    return verified_path(folder, entry, "E-CKPT-HASH").read_bytes()


def _read_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = tensors_of(_read(folder, name))
    except SafetensorError as e:
        raise IntegrityError("E-CKPT-HASH", "not a safetensors file", where=str(folder / name), found=str(e), fix="use another checkpoint") from e
    return tensors


def _check_shapes(path: Path, expected: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor]) -> None:
    problems = [f"missing {name} {list(expected[name])}" for name in sorted(set(expected) - set(tensors))]
    problems += [f"unexpected {name} {list(tensors[name].shape)}" for name in sorted(set(tensors) - set(expected))]
    shared = sorted(set(expected) & set(tensors))
    problems += [f"{n} is {list(tensors[n].shape)}, not {list(expected[n])}" for n in shared if tuple(tensors[n].shape) != expected[n]]
    if problems:
        more = f" and {len(problems) - _MAX_LISTED} more" if len(problems) > _MAX_LISTED else ""
        raise IntegrityError(
            "E-CKPT-SHAPE", "the file's tensors are not this model's", where=str(path), found=", ".join(problems[:_MAX_LISTED]) + more,
            fix="use the recipe that trained it",
        )  # fmt: skip


def check_fingerprint(folder: Path, expected: Mapping[str, Any]) -> None:
    """Refuse to go on from a checkpoint of other settings.

    Raises:
        OutputError: E-CKPT-FINGERPRINT, naming each key that differs.

    Example of what is found: ``learning_rate: 0.001 in the checkpoint, 0.002 now``.
    """
    if differences := _differences(_flat(read_manifest(folder, STEP).settings), _flat(expected)):
        raise OutputError(
            "E-CKPT-FINGERPRINT", "the checkpoint belongs to other settings", where=str(folder), found="; ".join(differences[:_MAX_LISTED]),
            fix="undo the change, or begin a new run under another name",
        )  # fmt: skip


def environment_differences(folder: Path) -> list[str]:
    """Return what differs between the machine that wrote a checkpoint and this one: with any, resume is not equal to the bit.

    A value that the checkpoint does not record, since an earlier version wrote it, is no difference.

    Example: ``["threads: 2 in the checkpoint, 1 now"]``.
    """
    was = _flat(read_manifest(folder, STEP).facts["environment"])
    now = _flat(environment())
    return _differences(was, {name: now.get(name) for name in was})


def _differences(found: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    changed = [k for k in sorted({*found, *expected}) if found.get(k) != expected.get(k)]
    return [f"{k}: {found.get(k, 'absent')} in the checkpoint, {expected.get(k, 'absent')} now" for k in changed]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one level: {"a": {"b": 1}} -> {"a.b": 1}; values as JSON reads them back."""
    out: dict[str, Any] = {}
    for name, value in json.loads(canonical_json(dict(values))).items():
        out |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return out
