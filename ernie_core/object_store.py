"""Files of a run in an object store (`root: s3://BUCKET/PATH`, `gs://…`); `object_folders` has what is done to whole folders.

Work is done in a scratch folder of each machine, whose path says where its home is: ``SCRATCH/.ernie-store/s3/BUCKET/PATH/…``. Two kinds of
files go home. *Content* is put there before the record that names it by its hash, and fetched by whoever finds it missing or not of that
hash. A *record* (a manifest, a split's entry, step.json) is put last and conditionally: it must be absent, or still the one that this process
read; of two writers the second loses (E-COMMIT-LOST). What the store holds is the truth, a scratch folder may be deleted at any time.
With paths that have no home every function here leaves the disk as it is.
"""

from __future__ import annotations

import datetime as dt
import functools
import os
import secrets
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ernie_core.errors import ErnieError, OutputError, RecipeError, ResourceError
from ernie_core.failpoints import failpoint
from ernie_core.object_conditions import is_another, put_if

MARK = ".ernie-store"
SCHEMES = ("s3", "gs")
TEMPORARY = ".tmp-"
"""How names of files begin that are being written."""
TRANSFERS = 8
RETRY_S = 60.0
"""How long a request is tried again where the store does not answer; a gateway that is started again takes 10 to 30 s."""
SMALL_BYTES = 5 << 20
_seen: dict[Path, dict[str, str]] = {}
"""Version of each record as this process last read or put it."""


def is_remote(root: str) -> bool:
    return "://" in root


def scratch(root: str) -> Path:
    """Return this machine's folder for what lies under `root`, below $ERNIE_SCRATCH or ~/.cache/ernie.

    Example: ``scratch("s3://bucket/runs")`` -> ``Path("/home/me/.cache/ernie/.ernie-store/s3/bucket/runs")``.

    Raises:
        RecipeError: E-URI, E-CREDENTIALS.
    """
    parts = urlsplit(root)
    if "@" in parts.netloc:
        where = f"{parts.scheme}://***@{parts.netloc.rpartition('@')[2]}"
        raise RecipeError("E-CREDENTIALS", "a recipe holds no keys", where=where, fix="give them by the store's environment variables")
    inner = parts.path.strip("/").split("/")
    if parts.scheme not in SCHEMES or not parts.netloc or parts.query or parts.fragment or {".", ".."} & set(inner) or "" in inner[:-1]:
        raise RecipeError(
            "E-URI", "runs cannot lie there", where=root, expected="a folder, s3://BUCKET/PATH or gs://BUCKET/PATH", fix="correct `root`"
        )
    own = os.environ.get("ERNIE_SCRATCH") or str(Path.home() / ".cache" / "ernie")
    return Path(own).resolve().joinpath(MARK, parts.scheme, parts.netloc, *filter(None, inner))


def home(path: Path) -> str | None:
    """Return the address of a scratch path, None for a path without a home.

    Example: ``home(Path("/x/.ernie-store/s3/bucket/runs/a"))`` -> ``"s3://bucket/runs/a"``.
    """
    _, mark, inner = str(path).partition(f"/{MARK}/")
    if not mark:
        return None
    scheme, _, rest = inner.partition("/")
    return f"{scheme}://{rest}"


def kept_at(path: Path) -> str:
    """Return where what stands at a path is kept: its address in an object store, or the path itself.

    Example: ``kept_at(Path("/runs/a"))`` -> ``"/runs/a"``.
    """
    return home(path) or str(path)


def place_of(path: Path, retry_s: float = RETRY_S) -> tuple[Any, str] | None:
    """Return (store, key) of a scratch path; requests are tried again for `retry_s` seconds."""
    uri = home(path)
    if uri is None:
        return None
    parts = urlsplit(uri)
    return _store(f"{parts.scheme}://{parts.netloc}", os.environ.get("AWS_ENDPOINT_URL", ""), retry_s), parts.path.lstrip("/")


@functools.lru_cache(maxsize=8)
def _store(bucket: str, endpoint: str, retry_s: float = RETRY_S) -> Any:
    from obstore.store import from_url

    plain: Any = {"allow_http": True} if endpoint.startswith("http://") else {}
    wait: Any = {"init_backoff": dt.timedelta(seconds=0.1), "max_backoff": dt.timedelta(seconds=5), "base": 2}
    retry: Any = {"max_retries": 1_000, "retry_timeout": dt.timedelta(seconds=retry_s), "backoff": wait}  # it is the time that ends it
    return from_url(bucket, client_options=plain, retry_config=retry)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn what a store answers into our errors; that something is not there is the caller's business."""
    from obstore.exceptions import BaseError

    try:
        yield
    except ErnieError:
        raise
    except (BaseError, ValueError, OSError) as e:
        if isinstance(e, FileNotFoundError) and "NoSuchBucket" not in str(e):
            raise
        raise _error(path, "no such bucket" if "NoSuchBucket" in str(e) else str(e)) from e


def _error(path: Path, found: str) -> ErnieError:
    fix = "check bucket, network and credentials (pipelines/docs/object_stores.md), then run the same command again; finished work is kept"
    code = found.partition("<Code>")[2].partition("</Code>")[0]  # S3's word for it, which may stand far down
    words = (f"{code}: " if code else "") + " ".join(found.partition("Debug source")[0].split())[:300]
    return ResourceError("E-STORE", "the object store does not do this", where=str(home(path)), found=words, fix=fix)


def _replace(path: Path, chunks: Iterable[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.parent / f"{TEMPORARY}{path.name}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with temp.open("wb") as f:
            f.writelines(chunks)
        temp.rename(path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise


def fetch(path: Path) -> bool:
    """Replace a file by what the store holds; return whether it holds any."""
    if (place := place_of(path)) is None:
        return False
    import obstore

    try:
        with told(path):
            got = obstore.get(*place)
            _replace(path, got.stream(8 << 20))
    except FileNotFoundError:
        return False
    return True


def local(path: Path) -> Path:
    """Return `path`, fetched if it is missing here; also where the store has none."""
    if not path.exists():
        fetch(path)
    return path


def refresh(path: Path, retry_s: float = RETRY_S) -> bool:
    """Make a record here what the store holds, or take it away; return whether it exists. `retry_s`: see `place_of`."""
    if (place := place_of(path, retry_s)) is None:
        return path.exists()
    import obstore
    from obstore.exceptions import NotModifiedError

    was_here = path.exists()  # else another process may write it in between
    tag = _seen.get(path, {}).get("e_tag") if was_here else None
    try:
        with told(path):
            try:
                got = obstore.get(*place, options=None if tag is None else {"if_none_match": tag})
            except NotModifiedError:
                return True
            data = got.bytes().to_bytes()
    except FileNotFoundError:
        _seen.pop(path, None)
        if was_here:
            path.unlink(missing_ok=True)
        return False
    _replace(path, [data])
    _seen[path] = _version(got.meta)
    return True


def take_longer(path: Path) -> None:
    """Make a file that only grows here the store's, unless it is that and more."""
    if home(path) is None:
        return
    here = path.read_bytes() if path.exists() else b""
    if fetch(path) and here.startswith(path.read_bytes()):
        _replace(path, [here])


def put(paths: Iterable[Path]) -> None:
    """Put content into the store, several files at a time; each is there when this returns.

    Raises:
        ResourceError: E-STORE.
    """
    places = [(path, place) for path in paths if (place := place_of(path)) is not None]
    if not places:
        return
    import obstore

    def one(path: Path, place: tuple[Any, str]) -> None:
        with told(path):
            obstore.put(*place, path if path.stat().st_size > SMALL_BYTES else path.read_bytes())  # a small one may still grow

    with ThreadPoolExecutor(min(TRANSFERS, len(places))) as pool:
        for done in [pool.submit(one, *item) for item in places]:
            done.result()


def commit(path: Path, data: bytes, content: Iterable[Path] = (), retry_s: float = RETRY_S) -> None:
    """Put content, then the record `data` under the name of `path`; the caller writes it here afterwards.

    The put is conditional: no record of that name may be there, or only the one that this process last read or put. One with these very
    bytes is no conflict: an answer may have been lost on its way. Content is put only where the record could be, so that a writer that comes
    too late does not touch what the first one's record names. `retry_s`: see `place_of`.

    Raises:
        OutputError: E-COMMIT-LOST, another writer's record is there.
        ResourceError: E-STORE; E-STORE-CONDITIONS.
    """
    if (place := place_of(path, retry_s)) is None:
        return
    from obstore.exceptions import AlreadyExistsError, PreconditionError

    seen = _seen.get(path)
    with told(path):
        if (content := list(content)) and is_another(place, seen):
            _seen[path] = _version(_put_before(path, place, data))
            return
    put(content)
    if content:
        failpoint("store.before_commit")
    with told(path):
        try:
            done = put_if(place, data, seen, str(home(path)))
        except (AlreadyExistsError, PreconditionError, FileNotFoundError):
            done = _put_before(path, place, data)
    _seen[path] = _version(done)
    if content:
        failpoint("store.after_commit")


def _put_before(path: Path, place: tuple[Any, str], data: bytes) -> Any:
    """Return the meta data of the record that is there, if it is `data`."""
    import obstore

    found = "none: it was taken away"
    try:
        now = obstore.get(*place)
        if now.bytes().to_bytes() == data:
            return now.meta
        found = f"one of {now.meta['last_modified']:%Y-%m-%d %H:%M:%S} UTC"
    except FileNotFoundError as e:
        if "NoSuchBucket" in str(e):
            raise
    raise OutputError(
        "E-COMMIT-LOST", "another writer was here; its work stays, that of this one is not used", where=str(home(path)),
        expected="no record, or the one read at the start", found=found,
        fix="let one driver at a time work in a run; run the same command again when the other has ended",
    )  # fmt: skip


def _version(meta: Any) -> dict[str, str]:
    """Return what names one version of an object, for conditional puts."""
    return {name: meta[name] for name in ("e_tag", "version") if meta[name] is not None}


def forget(folder: Path) -> None:
    """Forget what was read of the records in a folder that the store holds no longer."""
    for path in [path for path in _seen if path.is_relative_to(folder)]:
        del _seen[path]


def remove(path: Path, retry_s: float = RETRY_S) -> None:
    """Take a record away, in the store first. `retry_s`: see `place_of`.

    Raises:
        OutputError: E-COMMIT-LOST, the store holds another one than this process read.
    """
    if (place := place_of(path, retry_s)) is not None:
        import obstore

        with told(path), suppress(FileNotFoundError):
            if path in _seen and is_another(place, _seen[path]):
                _put_before(path, place, b"")
            obstore.delete(*place)
        _seen.pop(path, None)
    path.unlink(missing_ok=True)
