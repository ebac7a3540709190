"""Follows a text through normalisation, so that what a model finds in the normalised text can be shown in the text as it was written."""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ernie_core.normalise import DROPPED, Normaliser, normalise

_OPENS, _JOINS, _VANISHES = 0, 1, 2
_ANCHOR = "\u4e00"  # stands on either side of a piece of text so that its outer white space is kept
_SCANNED = 0x20000  # no code point beyond composes with the one before it, but for those that are dropped (a test says so)


@dataclass(frozen=True)
class Followed:
    """A normalised text and where it comes from.

    Args:
        text: normalised, of n code points.
        starts, ends: int32[n] each; code point i was made of original[starts[i]:ends[i]]. Both never fall.
    """

    text: str
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]


def follow(text: str, normaliser: Normaliser = normalise) -> Followed:
    """Normalise any text and say where each code point of the result stands in it.

    The text is cut before every code point that composes with nothing before it (Unicode's boundaries of NFC); pieces are normalised
    one by one, and the whole is checked against the normaliser's own result. Simplified characters stand one for one.

    Args:
        text: any.
        normaliser: gives the result.

    Example: ``follow("Ａ\\u200b \\u3000e\\u0301")`` -> ``Followed("a é", [0, 2, 4], [1, 3, 6])``.
    """
    kinds = _kinds(normaliser.bert.dropped if normaliser.bert else DROPPED)[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)]
    kept = np.flatnonzero(kinds != _VANISHES)
    opens = kinds[kept] == _OPENS
    opens[:1] = True
    first, last = kept[opens], kept[np.append(opens, True)[1:]] + 1
    parts, sizes = [], []
    after_space = True
    for start, end in zip(first.tolist(), last.tolist(), strict=True):
        part = _alone(text[start:end], Normaliser(bert=normaliser.bert))
        if after_space and part.startswith(" "):
            part = part[1:]
        if part:
            after_space = part.endswith(" ")
        parts.append(part)
        sizes.append(len(part))
    joined, normal = "".join(parts).removesuffix(" "), normaliser(text)[0]
    assert joined == normal or (normaliser.to_simplified and len(joined) == len(normal) and joined == normalise(text)[0]), (joined, normal)
    size = len(normal)
    return Followed(normal, np.repeat(first, sizes)[:size].astype(np.int32), np.repeat(last, sizes)[:size].astype(np.int32))


@functools.lru_cache(maxsize=1 << 16)
def _alone(text: str, normaliser: Normaliser) -> str:
    """Return `text` normalised as inside a longer text: white space at its ends is kept, as one space."""
    return normaliser(_ANCHOR + text + _ANCHOR)[0][1:-1]


@functools.lru_cache(maxsize=2)
def _kinds(dropped: str) -> NDArray[np.uint8]:
    """Return uint8[0x110000], by code point: whether it opens a piece of text, may join the piece before it, or vanishes, as the class `dropped` does."""
    kinds = np.full(0x110000, _OPENS, np.uint8)
    for code in range(_SCANNED):
        parts = unicodedata.decomposition(chr(code)).split()
        if unicodedata.combining(chr(code)):
            kinds[code] = _JOINS
        elif parts and not parts[0].startswith("<"):
            if unicodedata.combining(chr(int(parts[0], 16))):
                kinds[code] = _JOINS
            if len(parts) == 2:
                kinds[int(parts[1], 16)] = _JOINS
    kinds[0x1161:0x1176] = kinds[0x11A8:0x11C3] = _JOINS  # Hangul's vowels and finals compose by rule (Unicode, chapter 3.12)
    for match in re.finditer(f"[{dropped}]+", "".join(map(chr, range(0x110000)))):
        kinds[match.start() : match.end()] = _VANISHES
    return kinds
