"""What pretraining asks of a finished prepare step."""

from __future__ import annotations

from pathlib import Path

from ernie_core.errors import IntegrityError
from ernie_core.manifest import Manifest, verified_path
from ernie_core.vocab import Vocab

VOCAB_PATH = "tables/vocab.txt"


def prepared_vocab(prepared: Path, manifest: Manifest) -> Vocab:
    """Return the vocabulary that the shards in `prepared` were made with.

    Raises:
        IntegrityError: E-VOCAB-MISSING, E-SHARD-HASH.
    """
    entry = next((f for f in manifest.files if f.path == VOCAB_PATH), None)
    if entry is None:
        raise IntegrityError(
            "E-VOCAB-MISSING", "the shards' manifest names no vocabulary", where=str(prepared), expected=VOCAB_PATH, fix="prepare the shards again"
        )
    return Vocab.load(verified_path(prepared, entry))
