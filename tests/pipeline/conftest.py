"""One local Ray for all pipeline tests of this process: starting takes seconds, and a process keeps the token of its first cluster."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A folder with a short path: Ray's sockets lie in it, and it stands in for HOME."""
    folder = Path(tempfile.mkdtemp(prefix="ep"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def cluster(short_folder: Path) -> Iterator[None]:
    """A running Ray with two CPUs; code under test connects to it instead of starting its own."""
    from pipelines.resources import ray_cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(short_folder))
        patch.setenv("RAY_TMPDIR", str(short_folder / "r"))
        with ray_cluster(2):
            yield
