"""The one normaliser, and BERT's basic tokenisation of what it returns (DESIGN, Text in = text in).

Never NFKC: it rewrites CJK punctuation that the vocabulary holds. Tables are listed here, so a change of them is a change of the
version; the Unicode version stands in it because NFC, lower case and the punctuation category come from Python's data.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from ernie_core.errors import IntegrityError
from ernie_core.manifest import canonical_json
from ernie_core.normalise_bert import BertForm

_VERSION = f"1-unicode{unicodedata.unidata_version}"
NORMALISER_NAME = "normaliser.json"
"""File beside a vocabulary that says how the text was normalised from which it was made."""

# Dropped: C0/C1 controls, all of Default_Ignorable_Code_Point (zero-width, bidi, soft hyphen, BOM, variation selectors, tags),
# the other format characters (category Cf), surrogates, private use, non-characters, U+FFFC and U+FFFD.
DROPPED = (
    r"\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    r"\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ud800-\udfff\ue000-\uf8ff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff"
    r"\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U0001fffe\U0001ffff\U0002fffe\U0002ffff\U000e0000-\U0010ffff"
)
SPACES = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_CJK = (  # BERT's ranges (google-research/bert tokenization.py, _is_chinese_char)
    r"\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b73f\U0002b740-\U0002b81f\U0002b820-\U0002ceaf\uf900-\ufaff\U0002f800-\U0002fa1f"
)
FULL_WIDTH = "\uff10-\uff19\uff21-\uff3a\uff41-\uff5a"
_FULL_WIDTH_OFFSET = 0xFEE0


def _is_punctuation(c: str) -> bool:
    return (c.isascii() and c.isprintable() and not c.isalnum() and c != " ") or unicodedata.category(c)[0] == "P"


# Category P has no members beyond plane 1 (a test says so); scanning two planes takes 15 ms.
_PUNCTUATION = "".join(re.escape(c) for c in map(chr, range(0x20000)) if _is_punctuation(c))

_DROP = re.compile(f"[{DROPPED}]+")
# Most text is printable, which means: no control or format character, no white space but the space. The classes that are left are
# smaller, so they are searched several times faster.
_DROP_PRINTABLE = re.compile(r"[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\ufff0-\uffff\U000e0000-\U0010ffff]+")
_MANY_SPACES = re.compile("  +")
_AT_ENDS = " \t\n\v\f\r\xa0\u3000"
_HALF = re.compile(f"[{FULL_WIDTH}]+")
_SPACE = re.compile(f" *[{SPACES.replace(' ', '')}][{SPACES}]*|  +")
_ODD_CASE = re.compile("[İΣ]")
_CLUSTER = re.compile(r"\w[^\w\s]+")
# The first branch is the last one for plain runs: the class of all that ends a run is slow to search.
_BASIC = re.compile(f"[0-9A-Za-z]++(?![^ {_CJK}{_PUNCTUATION}])|[{_CJK}]|[{_PUNCTUATION}]|[^ {_CJK}{_PUNCTUATION}]+")
_NO_RUN = re.compile(f"[{_CJK}{_PUNCTUATION}]+")
RUN, SINGLE, SPACE = 0, 1, 2
"""Classes of `basic_classes`."""
_IDEOGRAPH = re.compile(f"[{_CJK}]")
RUN_CHARACTER = f"[^ {_CJK}{_PUNCTUATION}]"  # a pattern: what `is_run_char` says of one character
_RUN = re.compile(RUN_CHARACTER)


def _half_width(match: re.Match[str]) -> str:
    return "".join(chr(ord(c) - _FULL_WIDTH_OFFSET) for c in match.group())


def _lower(text: str) -> str:
    """Lower-case code point by code point: İ stays (its lower case has two), Σ is always σ (`str.lower` looks at the word's end)."""
    if not _ODD_CASE.search(text):
        return text.lower()
    return "".join(c if c == "İ" else c.lower() for c in text)


def _lower_composing(match: re.Match[str]) -> str:
    cluster = match.group()
    lowered = unicodedata.normalize("NFC", _lower(cluster))
    return cluster if len(lowered) == len(cluster) else lowered


@functools.lru_cache(maxsize=1)
def _opencc() -> Callable[[str], str]:
    import opencc

    convert: Callable[[str], str] = opencc.OpenCC("t2s").convert
    return convert


_MAX_CONVERSIONS = 4  # 薴 becomes 苧, and 苧 becomes 苎; no chain in the dictionary is longer
_KEPT = "坏"  # 打坏 is good simplified Chinese, and the dictionary makes 打坯 of it: in traditional text 坏 is a rare spelling of 坯


def simplified(text: str) -> str:
    """Return any text in simplified characters, code point for code point, converted until nothing changes.

    Example: ``simplified("計畫在頭髮")`` -> ``"计划在头发"``.
    """
    for _ in range(_MAX_CONVERSIONS):
        converted = _KEPT.join(map(_opencc(), text.split(_KEPT)))
        if len(converted) != len(text):  # no phrase of OpenCC 1.4.2 changes the length; one that did would be left out
            converted = "".join(map(_simplified_alone, text))
        if converted == text:
            break
        text = converted
    return text


@functools.lru_cache(maxsize=1 << 16)
def _simplified_alone(c: str) -> str:
    converted = _opencc()(c)
    return converted if len(converted) == 1 and c != _KEPT else c


@dataclass(frozen=True)
class Normaliser:
    """Normalises text; `to_simplified` turns traditional Chinese characters into simplified ones (OpenCC's t2s: phrases first).

    `bert` is set for a model of others alone, whose text was normalised as that says; it goes without `to_simplified`.

    Example: ``Normaliser()("Ａpple\\u200b　手机，\\r\\n第１代")`` -> ``("apple 手机， 第1代", "Apple 手机， 第1代")``.
    """

    to_simplified: bool = False
    bert: BertForm | None = None

    def __call__(self, text: str) -> tuple[str, str]:
        """Return `text` normalised and lower-cased, and the same with its original case, equal in length code point for code point.

        In order: listed invisible characters dropped; full-width ASCII letters and digits to half width (punctuation kept); NFC; every
        run of white space to one space, none at the ends; simplified characters, if asked for, one for one; lower case where it is one
        code point. Idempotent on either result. With `bert` as `BertForm` says.
        """
        if self.bert is not None:
            return self.bert(text)
        text = text.strip(_AT_ENDS)
        dropped, space = (_DROP_PRINTABLE, _MANY_SPACES) if text.isprintable() else (_DROP, _SPACE)
        if not text.isascii() or dropped is _DROP:
            text = dropped.sub("", text)
            text = _HALF.sub(_half_width, text)
            text = unicodedata.normalize("NFC", text)
        text = space.sub(" ", text).strip(" ")
        if self.to_simplified:
            text = simplified(text)
        lowered = _lower(text)
        if not unicodedata.is_normalized("NFC", lowered):
            # A few letters compose with a mark in lower case only (J and U+030C): those lose their capital in `original` too.
            text = _CLUSTER.sub(_lower_composing, text)
            lowered = unicodedata.normalize("NFC", _lower(text))
        return lowered, text

    @property
    def version(self) -> str:
        """What its results depend on, its option included.

        Example: ``"1-unicode14.0.0"``, ``"1-unicode14.0.0-t2s-opencc1.4.2"``, ``"bert1-unicode14.0.0"``.
        """
        if self.bert is not None:
            return f"bert{_VERSION}"
        return f"{_VERSION}-t2s-opencc{version('opencc')}" if self.to_simplified else _VERSION

    def to_bytes(self) -> bytes:
        """Return the file `normaliser.json`."""
        bert = {} if self.bert is None else {"bert": {"lowercase": self.bert.lowercase, "strip_accents": self.bert.strip_accents}}
        return canonical_json({"to_simplified": self.to_simplified, "version": self.version, **bert}) + b"\n"

    @staticmethod
    def from_bytes(data: bytes, where: str) -> Normaliser:
        """Return the normaliser that a file describes, if this program normalises as it says.

        Raises:
            IntegrityError: E-NORMALISER, the text was normalised by other tables, or the file is damaged.
        """
        try:
            row = json.loads(data)
            form = row.get("bert")
            bert = None if form is None else BertForm(form["lowercase"] is True, form["strip_accents"] is True)
            found = Normaliser(row["to_simplified"] is True, bert)
            recorded = str(row["version"])
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise IntegrityError("E-NORMALISER", "the file that says how text was normalised is damaged", where=where, fix="make it again") from e
        if recorded != found.version:
            raise IntegrityError(
                "E-NORMALISER", "this program normalises text otherwise than the one that made this", where=where, expected=recorded,
                found=found.version, fix="use the same Python and OpenCC versions, or prepare and train again",
            )  # fmt: skip
        return found


normalise = Normaliser()
"""The normaliser without options."""


def num_dropped(text: str) -> int:
    """Return how many characters of any text the normaliser drops as invisible.

    Example: ``num_dropped("a\\u200b\\x00b c")`` -> ``2``.
    """
    text = text.strip(_AT_ENDS)
    return sum(map(len, (_DROP_PRINTABLE if text.isprintable() else _DROP).findall(text)))


def basic_tokens(text: str) -> list[str]:
    """Return BERT's basic tokens of normalised text: CJK characters and punctuation single, other runs whole, spaces dropped.

    Example: ``basic_tokens("gpt-4 很好")`` -> ``["gpt", "-", "4", "很", "好"]``.
    """
    return _BASIC.findall(text)


def basic_spans(text: str) -> list[tuple[int, int]]:
    """Return the basic tokens of normalised text as (start, end) code point offsets.

    Example: ``basic_spans("a 好")`` -> ``[(0, 1), (2, 3)]``.
    """
    return [m.span() for m in _BASIC.finditer(text)]


@functools.lru_cache(maxsize=1)
def basic_classes() -> NDArray[np.uint8]:
    """Return uint8[0x110000], by code point: RUN (runs of these form one basic token), SINGLE (CJK and punctuation) or SPACE (space, line break).

    Example: the classes of "a", "好", " " -> 0, 1, 2.
    """
    classes = np.full(0x110000, RUN, np.uint8)
    for match in _NO_RUN.finditer("".join(map(chr, range(0x110000)))):
        classes[match.start() : match.end()] = SINGLE
    classes[[ord(" "), ord("\n")]] = SPACE
    return classes


def num_cjk(text: str) -> int:
    """Return how many characters are CJK ideographs.

    Example: ``num_cjk("买 iphone 吧")`` -> ``2``.
    """
    return len(_IDEOGRAPH.findall(text))


def is_run_char(c: str) -> bool:
    """Say whether the character is neither CJK nor punctuation nor space: runs of these form one basic token.

    Example: ``is_run_char("a")`` -> True; ``is_run_char("好")`` -> False.
    """
    return _RUN.fullmatch(c) is not None


def single_characters() -> str:
    """Return every character that is a basic token by itself: CJK ideographs and punctuation."""
    return "".join(re.findall(f"[{_CJK}{_PUNCTUATION}]", "".join(map(chr, range(0x110000)))))
