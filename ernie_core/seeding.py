"""Counter-based randomness: every draw is a function of (seed, names, counters); there is no generator state to save (DESIGN, Randomness)."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


def key(*parts: int | str | bytes) -> int:
    """Return a 64-bit key of `parts`, distinct for distinct tuples (types and lengths are hashed too).

    Example: ``key(7, "mask", 0) != key(7, "mask", 1)``.
    """
    h = hashlib.blake2b(digest_size=8)
    for part in parts:
        raw = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        h.update(type(part).__name__[:1].encode() + len(raw).to_bytes(8, "little") + raw)
    return int.from_bytes(h.digest(), "little")


def mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash uint64 values elementwise (the SplitMix64 finaliser of Steele, Lea and Flood, OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        z = x + _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * _MIX1
        z = (z ^ (z >> np.uint64(27))) * _MIX2
        return np.asarray(z ^ (z >> np.uint64(31)), dtype=np.uint64)


def combine(a: NDArray[np.uint64] | int, b: NDArray[np.uint64] | int) -> NDArray[np.uint64]:
    """Hash two broadcastable uint64 arrays (or ints) into one; order matters."""
    left = np.asarray(a, dtype=np.uint64)
    right = np.asarray(b, dtype=np.uint64)
    return mix(mix(left) ^ (right + _GOLDEN))


def uniform(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Map uint64 bits to floats in [0, 1) with 53 random bits."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def generator(*parts: int | str | bytes) -> np.random.Generator:
    """Return a fresh Philox generator keyed by `parts`; use it and throw it away."""
    return np.random.Generator(np.random.Philox(key=key(*parts)))
