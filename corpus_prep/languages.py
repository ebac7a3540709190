"""A recipe's language: who cuts its words and finds its entities, with the user's dictionary and gazetteer."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from corpus_prep.english import EnglishSegmenter
from corpus_prep.entities import Entities, EntityTags, Gazetteer
from corpus_prep.segment import Segmenter, load_segmenter, segmenter_name
from ernie_core.errors import InputError
from ernie_core.normalise import Normaliser, num_cjk

DICTIONARIES = ("user_dictionary", "gazetteer")
MAX_WORD_CHARS = 255  # of a user's word: the search holds a word's length in a byte


class MixedSegmenter:
    """Cuts texts with CJK characters as jieba does, others into English words."""

    def __init__(self, chinese: Segmenter, english: Segmenter) -> None:
        self.name = f"{english.name} where no CJK character is, else {chinese.name}"
        self._chinese, self._english = chinese, english

    def words(self, texts: Sequence[str]) -> list[list[str]]:
        """Return the words of each normalised text.

        Example: ``words(["i'm 5", "我在北京"])`` -> ``[["i", "'", "m", " ", "5"], ["我", "在", "北京"]]``.
        """
        is_chinese = [num_cjk(text) > 0 for text in texts]
        chinese = iter(self._chinese.words([text for text, yes in zip(texts, is_chinese, strict=True) if yes]))
        english = iter(self._english.words([text for text, yes in zip(texts, is_chinese, strict=True) if not yes]))
        return [next(chinese if yes else english) for yes in is_chinese]

    def tag(self, word: str) -> str:
        """Return the Chinese dictionary's tag."""
        return self._chinese.tag(word)


def segmenter_of(settings: Mapping[str, Any]) -> Segmenter:
    """Return the segmenter of a recipe's "language" and "user_dictionary", built once per process.

    Raises:
        InputError: E-DICTIONARY, a user dictionary that cannot be read.
    """
    return _segmenter(settings["language"], _user_dictionary(settings))


def segmenter_name_of(settings: Mapping[str, Any]) -> str:
    """Return the name for the record of `segmenter_of`, and of the rules and the gazetteer of its entities, without building anything."""
    language, gazetteer = settings["language"], settings["gazetteer"]
    name = EnglishSegmenter.name if language == "en" else segmenter_name(None, _user_dictionary(settings))
    hashed = f", gazetteer sha256 {hashlib.sha256(_read(gazetteer)).hexdigest()}" if gazetteer else ""
    return f"{language}: {name}, entities 1{hashed}"


def entities_of(settings: Mapping[str, Any]) -> Entities:
    """Return what finds the entities of a recipe's "language" with its "gazetteer", built once per process.

    Raises:
        InputError: E-DICTIONARY, a gazetteer or user dictionary that cannot be read.
    """
    return _entities(settings["language"], _user_dictionary(settings), _gazetteer(settings))


def dictionaries(settings: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the bytes of "user_dictionary" and "gazetteer", those that a recipe names, after reading them as text.

    Raises:
        InputError: E-DICTIONARY.
    """
    _user_dictionary(settings)
    _gazetteer(settings)
    return {name: _read(settings[name]) for name in DICTIONARIES if settings[name]}


@functools.lru_cache(maxsize=2)
def _segmenter(language: str, user_dictionary: bytes) -> Segmenter:
    if language == "en":
        return EnglishSegmenter()
    chinese = load_segmenter(None, user_dictionary)
    return chinese if language == "zh" else MixedSegmenter(chinese, EnglishSegmenter())


@functools.lru_cache(maxsize=2)
def _entities(language: str, user_dictionary: bytes, gazetteer: Gazetteer | None) -> Entities:
    return Entities(EntityTags(_segmenter(language, user_dictionary).tag), gazetteer)


def _gazetteer(settings: Mapping[str, Any]) -> Gazetteer | None:
    path = settings["gazetteer"]
    return _names(path, _read(path), settings["to_simplified"]) if path else None


@functools.lru_cache(maxsize=2)
def _names(path: str, data: bytes, to_simplified: bool) -> Gazetteer:
    try:
        return Gazetteer.from_bytes(data, Normaliser(to_simplified))
    except UnicodeDecodeError as e:
        raise InputError("E-DICTIONARY", "a gazetteer is not UTF-8", where=f"{path} byte {e.start}", expected="one name a line, in UTF-8") from e


def _user_dictionary(settings: Mapping[str, Any]) -> bytes:
    path = settings["user_dictionary"]
    return _normalised(path, _read(path), settings["to_simplified"]) if path else b""


@functools.lru_cache(maxsize=2)
def _normalised(path: str, data: bytes, to_simplified: bool) -> bytes:
    """Return a user dictionary with its words as text has them: normalised and lower-cased.

    Raises:
        InputError: E-DICTIONARY, it is not UTF-8, or a line is none of jieba's, or a word is too long.
    """
    normaliser, lines = Normaliser(to_simplified), []
    try:
        rows = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as e:
        raise InputError("E-DICTIONARY", "a user dictionary is not UTF-8", where=f"{path} byte {e.start}", expected=_EXPECTED) from e
    for number, line in enumerate(rows, 1):
        fields = line.split()
        if not fields:
            continue
        word = normaliser(fields[0])[0]
        if not _REST.fullmatch(" ".join(["", *fields[1:]])) or not 0 < len(word) <= MAX_WORD_CHARS:
            raise InputError(
                "E-DICTIONARY", "a line of a user dictionary cannot be used", where=f"{path}:{number}", expected=_EXPECTED, found=line[:80]
            )
        lines.append(" ".join([word, *fields[1:]]))
    return ("\n".join(lines) + "\n").encode()


_REST = re.compile(r"( [0-9]+)?( [a-z]+)?")  # jieba's: frequency, tag
_EXPECTED = f"word [frequency] [tag] in UTF-8, words of at most {MAX_WORD_CHARS} characters"


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as e:
        raise InputError("E-DICTIONARY", "a dictionary cannot be read", where=path, found=e.strerror or str(e)) from e
