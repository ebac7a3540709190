"""What a step's folder keeps for MLflow, mlflow itself aside: the run as it should be, what has arrived, and names and values MLflow accepts.

`mlflow_run.json` (`Wanted`) is written by the driver only, `shipped.json` (`Shipped`) by the shipper only.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ernie_core.errors import IntegrityError, RecipeError
from ernie_core.manifest import MANIFEST_NAME, atomic_write, canonical_json, file_sha256, inside, sha256_of, whole
from ernie_core.object_store import fetch, kept_at, put, refresh
from pipelines.journal import JOURNAL_NAME
from pipelines.run_folder import WANTED_NAME

SHIPPED_NAME = "shipped.json"
USER_TAG, NOTE_TAG = "mlflow.user", "mlflow.note.content"
PARAM_CHARS, TAG_CHARS = 6000, 8000  # MLflow's limits (mlflow/utils/validation.py, 3.17)
MODEL_SUFFIXES = frozenset({".safetensors", ".json", ".txt", ".md"})
_SECRET_NAME = re.compile(r"(^|[_.\-/])(token|secret|password|passwd|credential|key)$", re.IGNORECASE)
_URI_USER = re.compile(r"(?<=://)[^/@\s]+(?=@)")
State = TypeVar("State", "Wanted", "Shipped")


@dataclass
class Wanted:
    """The run as MLflow should hold it, metrics aside.

    Args:
        key: random, in a tag of the run: finds the run even if its making was cut off.
        inputs: hashes of what the step reads.
        parent: the parent run's folder, relative to this one.
        attempts: how often the run was opened.
        artifacts, models: path inside the folder -> hash of the content.
        datasets: what the run reads, by name; see `lineage.dataset`.
        links: tag -> folder, relative to this one, of the run whose id the tag shall hold.
        place: the folder itself, absolute or its address in an object store: tells a copy of a run from one that was moved.
        registered: {"name", "folder", "sha256"} of the model to register; {} = none.
    """

    uri: str
    experiment: str
    name: str
    key: str
    start_time_ms: int
    tags: dict[str, str]
    params: dict[str, str]
    inputs: dict[str, str]
    parent: str | None = None
    status: str = "RUNNING"
    end_time_ms: int | None = None
    attempts: int = 1
    artifacts: dict[str, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    datasets: dict[str, dict[str, str]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    place: str = ""
    registered: dict[str, str] = field(default_factory=dict)


@dataclass
class Shipped:
    """What MLflow has taken: bytes of the journal, files and datasets by hash, status. `replaces` is the id of a run that was deleted there."""

    run_id: str | None = None
    replaces: str | None = None
    offset: int = 0
    status: str | None = None
    artifacts: dict[str, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    datasets: dict[str, str] = field(default_factory=dict)
    registered: dict[str, str] = field(default_factory=dict)


def read_state(folder: Path, kind: type[State]) -> State | None:
    """Return what `folder` keeps of `kind`; None if it keeps nothing.

    Raises:
        IntegrityError: E-TRACKING-STATE, the file is damaged.
    """
    path = folder / _name(kind)
    try:
        return kind(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as e:
        raise IntegrityError(
            "E-TRACKING-STATE", "tracking state is damaged", where=str(path), found=str(e), fix="delete the file; MLflow then gets a new run"
        ) from e


def write_state(folder: Path, state: Wanted | Shipped) -> None:
    """Write the state atomically into `folder`."""
    path = folder / _name(type(state))
    atomic_write(path, canonical_json(asdict(state)) + b"\n")
    if isinstance(state, Wanted):
        put([path])  # `Shipped` is found again by the run's key


def _name(kind: type[Wanted | Shipped]) -> str:
    return WANTED_NAME if kind is Wanted else SHIPPED_NAME


def present(folder: Path, name: str) -> Path:
    """Return a file or a model folder inside `folder`; of a run in an object store fetched from there where it is not here."""
    path = inside(folder, name)
    if not path.exists() and not fetch(path) and refresh(path / MANIFEST_NAME):
        whole(path)
    return path


def safe_name(name: str) -> str:
    """Return a metric, parameter or tag name that MLflow takes; names that had to change carry a hash, so that no two become one.

    Example: ``safe_name("train/lm_loss")`` is unchanged; ``safe_name("f1@10%")`` -> ``"f1_10_-1b2c3d"``.
    """
    kept = re.sub(r"[^/\w.\- ]", "_", name)
    kept = "/".join(part for part in kept.split("/") if part.strip(".")) or "_"
    if kept == name and len(name) <= 250:
        return name
    return f"{kept[:240]}-{hashlib.sha256(name.encode('utf-8', 'backslashreplace')).hexdigest()[:6]}"


def clean(values: Mapping[str, Any], max_chars: int) -> dict[str, str]:
    """Flatten nested settings to text that MLflow takes; secrets are hidden, text that is too long is cut and carries its hash.

    Example: ``clean({"model": {"hidden_size": 256}, "hf_token": "x"}, 6000)`` -> ``{"model.hidden_size": "256", "hf_token": "(hidden)"}``.
    """
    out: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            out |= {safe_name(f"{name}.{k}"): v for k, v in clean(value, max_chars).items()}
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        text = without_user(text.encode("utf-8", "backslashreplace").decode())
        if len(text) > max_chars:
            text = f"{text[: max_chars - 100]}… (cut from {len(text)} characters, sha256 {sha256_of(text.encode())[:16]})"
        out[safe_name(name)] = "(hidden)" if _SECRET_NAME.search(name) else text
    return out


def without_user(text: str) -> str:
    """Hide the user and password part of URIs in `text`.

    Example: ``without_user("http://me:pw@host")`` -> ``"http://***@host"``.
    """
    return _URI_USER.sub("***", text)


def place_note(folder: Path) -> str:
    """Return the line of a run's description that says where its files are."""
    return f"Files: `{folder}`"


def relative(folder: Path, path: Path) -> str:
    """Return `path` as the name it has inside `folder`.

    Raises:
        ValueError: it lies elsewhere.
    """
    return path.resolve().relative_to(folder.resolve()).as_posix()


def model_files(folder: Path) -> list[Path]:
    """Return the files of a model folder that may be logged: weights as safetensors, and text; neither pickles nor optimiser state."""
    return sorted(p for p in folder.iterdir() if p.suffix in MODEL_SUFFIXES and not p.name.startswith(("optimizer", ".")))


def model_sha256(folder: Path) -> str:
    """Return the hash of the files `model_files` names."""
    return sha256_of({p.name: file_sha256(p) for p in model_files(folder)})


def want(
    folder: Path,
    uri: str,
    experiment: str,
    name: str,
    tags: Mapping[str, Any],
    params: Mapping[str, Any],
    inputs: dict[str, str],
    parent: Path | None,
    datasets: Mapping[str, dict[str, str]] | None = None,
    links: Mapping[str, Path] | None = None,
) -> Wanted:
    """Return the run that `folder` shall have from now on. Identity, start and files of the run it had stay, if that had the same inputs.

    A copy of a folder whose original is still there is another run, which MLflow gets whole.
    """
    own = {USER_TAG: _user(), "mlflow.source.name": "ernie", "mlflow.source.type": "LOCAL", NOTE_TAG: place_note(folder)}
    wanted = Wanted(uri, experiment, name, secrets.token_hex(16), now_ms(), own | clean(tags, TAG_CHARS), clean(params, PARAM_CHARS), inputs)
    wanted.place, wanted.datasets = kept_at(folder.resolve()), dict(datasets or {})
    wanted.parent = None if parent is None else _from(folder, parent)
    wanted.links = {name: _from(folder, other) for name, other in (links or {}).items()}
    old = read_state(folder, Wanted)
    if old is not None and _is_copy(old, folder):
        shipped = read_state(folder, Shipped) or Shipped()
        wanted.tags["ernie.copied_from_run"] = str(shipped.run_id)
        wanted.artifacts, wanted.models = old.artifacts, old.models
        write_state(folder, Shipped())
    elif old is not None and old.inputs == inputs:
        wanted.key, wanted.start_time_ms, wanted.attempts = old.key, old.start_time_ms, old.attempts + 1
        wanted.experiment, wanted.artifacts, wanted.models, wanted.registered = old.experiment, old.artifacts, old.models, old.registered
    elif old is not None:
        shipped = read_state(folder, Shipped) or Shipped()
        (folder / JOURNAL_NAME).unlink(missing_ok=True)
        write_state(folder, Shipped(replaces=shipped.run_id))
    return wanted


def _from(folder: Path, other: Path) -> str:
    """Return `other` as seen from `folder`: relative, so that a run folder may be moved."""
    return Path(os.path.relpath(other.resolve(), folder.resolve())).as_posix()


def _is_copy(old: Wanted, folder: Path) -> bool:
    if old.place in ("", kept_at(folder.resolve())):
        return False
    try:
        original = read_state(Path(old.place), Wanted)
    except (OSError, IntegrityError):  # it cannot be read: not ours to judge
        return False
    return original is not None and original.key == old.key


def all_taken(folder: Path, wanted: Wanted) -> bool:
    """Return whether MLflow has all that `folder` keeps for it."""
    shipped = read_state(folder, Shipped) or Shipped()
    journal = folder / JOURNAL_NAME
    size = journal.stat().st_size if journal.exists() else 0
    taken = (shipped.status, shipped.artifacts, shipped.models, shipped.registered, shipped.datasets, shipped.offset)
    datasets = {name: d["sha256"] for name, d in wanted.datasets.items()}
    return taken == (wanted.status, wanted.artifacts, wanted.models, wanted.registered, datasets, size)


def is_taken(folder: Path) -> bool:
    """Return whether `folder` keeps a run and MLflow has all of it."""
    wanted = read_state(folder, Wanted)
    return wanted is not None and all_taken(folder, wanted)


def children(folder: Path) -> list[Path]:
    """Return the folders, two below a step's, that keep runs of its parts: groups before trials."""
    return sorted(path.parent for path in folder.glob(f"*/*/{WANTED_NAME}"))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return f"uid {os.getuid()}"


def tracking_uri(root: str, uri: str | None) -> str:
    """Return the store of all runs under `root`: the recipe's `tracking.uri`, or a SQLite file in a local root.

    Example: ``tracking_uri("/data/runs", None)`` -> ``"sqlite:////data/runs/mlflow.db"``.

    Raises:
        RecipeError: E-TRACKING-URI, a remote root has no uri, or the uri is neither http, https nor sqlite.
    """
    valid = "http://HOST:PORT, https://HOST or sqlite:///FILE"
    if uri is None:
        if "://" in root:
            raise RecipeError("E-TRACKING-URI", "a remote root needs an MLflow server", where="tracking.uri", expected=valid, fix="set tracking.uri")
        return f"sqlite:///{Path(root).resolve()}/mlflow.db"
    parts = urlsplit(uri)
    if parts.scheme not in {"http", "https", "sqlite"} or (parts.scheme != "sqlite" and not parts.hostname):
        database = parts.scheme.partition("+")[0] in {"postgresql", "postgres", "mysql", "mssql"}
        fix = "start `mlflow server --backend-store-uri` with it, and give that server's address" if database else "correct tracking.uri"
        raise RecipeError("E-TRACKING-URI", "not an MLflow store", where="tracking.uri", expected=valid, found=without_user(uri), fix=fix)
    return uri


def ui_command(uri: str) -> str:
    """Return what a person types, or opens, to see the runs. Without job execution the server takes a quarter of the memory."""
    if not uri.startswith("sqlite:"):
        return f"open {without_user(uri)} in a browser"
    return f"MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --backend-store-uri {uri}"
