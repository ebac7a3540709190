"""What pretraining asks of a finished prepare step."""

from __future__ import annotations

from pathlib import Path

from ernie_core.errors import IntegrityError
from ernie_core.manifest import Manifest, verified_path
from ernie_core.normalise import NORMALISER_NAME
from ernie_core.tokenization import Tokenizer, load_tokenizer

VOCAB_PATH = "tables/vocab.txt"
NORMALISER_PATH = f"tables/{NORMALISER_NAME}"


def prepared_tokenizer(prepared: Path, manifest: Manifest) -> Tokenizer:
    """Return the vocabulary and the normaliser that the shards in `prepared` were made with.

    Raises:
        IntegrityError: E-VOCAB-MISSING, E-VOCAB-HASH, E-SHARD-HASH, E-NORMALISER.
    """
    entries = {f.path: f for f in manifest.files}
    for path, code in ((VOCAB_PATH, "E-VOCAB-HASH"), (NORMALISER_PATH, "E-SHARD-HASH")):
        if path not in entries:
            raise IntegrityError(
                "E-VOCAB-MISSING", "the shards' manifest names no such table", where=str(prepared), expected=path, fix="prepare the shards again"
            )
        verified_path(prepared, entries[path], code)
    return load_tokenizer(prepared / VOCAB_PATH)
