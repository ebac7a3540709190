"""Chinese word segmentation by jieba 0.42.1 (dictionary and HMM): the only place that imports it.

jieba's own loader reads a marshal cache from a shared temporary folder, so that whoever writes there changes the words
(reliability P13, S8). Here the dictionary is parsed anew in every process (0.6 s) and no cache is read or written at all.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from pathlib import Path

import jieba

logging.getLogger("jieba").setLevel(logging.WARNING)

MAX_CHARS = 50_000  # jieba's time and memory grow faster than its input beyond (reliability P13)
SEGMENTER = f"jieba {jieba.__version__} hmm"


class Segmenter:
    """Cuts normalised text into jieba's words, and knows the dictionary's tags.

    Args:
        dictionary: file in jieba's format: word, frequency and tag, separated by spaces.
    """

    def __init__(self, dictionary: Path) -> None:
        data = dictionary.read_bytes()
        self.dictionary_sha256 = hashlib.sha256(data).hexdigest()
        self._tokenizer = jieba.Tokenizer(str(dictionary))
        with dictionary.open("rb") as f:
            self._tokenizer.FREQ, self._tokenizer.total = self._tokenizer.gen_pfdict(f)
        self._tokenizer.initialized = True
        rows = (line.split(" ") for line in data.decode("utf-8").splitlines())
        self._tags = {row[0]: row[2] for row in rows if len(row) == 3}

    def words(self, text: str) -> list[str]:
        """Return the words of normalised text; they join back to it, white space included.

        Example: ``words("哈尔滨是黑龙江的省会")`` -> ``["哈尔滨", "是", "黑龙江", "的", "省会"]``.
        """
        if len(text) <= MAX_CHARS:
            return list(self._tokenizer.cut(text, HMM=True))
        return [word for start in range(0, len(text), MAX_CHARS) for word in self._tokenizer.cut(text[start : start + MAX_CHARS], HMM=True)]

    def tag(self, word: str) -> str:
        """Return the dictionary's part-of-speech tag of a word, "" if it is not listed.

        Example: ``tag("哈尔滨")`` -> ``"ns"``.
        """
        return self._tags.get(word, "")


def dictionary_path() -> Path:
    """Return the dictionary that comes with jieba."""
    return Path(jieba.__file__).parent / "dict.txt"


@functools.lru_cache(maxsize=2)
def load_segmenter(dictionary: Path | None = None) -> Segmenter:
    """Return the segmenter of a dictionary (jieba's own by default), built once per process."""
    return Segmenter(dictionary or dictionary_path())
