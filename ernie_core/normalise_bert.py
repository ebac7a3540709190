"""BERT's own normalisation (`BertNormalizer` of Hugging Face's tokenizers), for models that were trained by others on text normalised so."""

from __future__ import annotations

import functools
import re
import sys
import unicodedata
from dataclasses import dataclass

_NO_CONTROL = "\t\n\r"
_OTHER = frozenset({"Cc", "Cf", "Co", "Cs"})


@dataclass(frozen=True)
class BertForm:
    """How a tokenizer of BERT's normalises.

    Args:
        lowercase: whether capitals are lost; else both results keep them.
        strip_accents: whether text is decomposed and marks that take no place (category Mn) are dropped: é becomes e, and a Hangul syllable its letters.
    """

    lowercase: bool = True
    strip_accents: bool = True

    def __call__(self, text: str) -> tuple[str, str]:
        """Return `text` normalised, and the same with its original case, equal in length code point for code point.

        In order: control, format and private characters and U+FFFD dropped; white space to spaces, of which one is left of a run and none at the
        ends; accents, if they are to go; lower case. Full-width letters stay, and nothing is composed. Any text; idempotent on either result.
        Of characters newer than Unicode 8 (2015) their tokenizers know no category: marks among these stay there and go here.

        Example: ``BertForm()("José\\u200b  Ａ")`` -> ``("jose ａ", "Jose Ａ")``.
        """
        text = " ".join(_dropped().sub("", text).split())
        if self.strip_accents and not text.isascii():
            text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
            text = " ".join(text.split())  # a mark may have stood alone between spaces
        if not self.lowercase:
            return text, text
        text = text.replace("İ", "i\u0307")  # the only lower case of two code points
        return text.replace("Σ", "σ").lower(), text  # str.lower looks at the word's end; their lower case does not

    @property
    def dropped(self) -> str:
        """The class of characters dropped before all else, for a regular expression."""
        return dropped_class()


@functools.lru_cache(maxsize=1)
def dropped_class() -> str:
    """Return what stands between the brackets of a character class: every control, format, private and surrogate character, and U+FFFD."""
    found = []
    start = -1
    for code in range(sys.maxunicode + 2):
        inside = code <= sys.maxunicode and _drops(chr(code))
        if inside and start < 0:
            start = code
        elif not inside and start >= 0:
            found.append(f"\\U{start:08x}-\\U{code - 1:08x}")
            start = -1
    return "".join(found)


def _drops(c: str) -> bool:
    return c == "\ufffd" or (unicodedata.category(c) in _OTHER and c not in _NO_CONTROL)


@functools.lru_cache(maxsize=1)
def _dropped() -> re.Pattern[str]:
    return re.compile(f"[{dropped_class()}]+")
