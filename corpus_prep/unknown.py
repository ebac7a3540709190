"""Which scripts a vocabulary does not cover: [UNK] among the basic tokens of the corpus, by script."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Mapping

from ernie_core.tokenization import Tokenizer


@functools.cache
def script_of(character: str) -> str:
    """Return the script of a letter (han, latin, hiragana, hangul, cyrillic, …), "digits", or "marks" for all else.

    Example: 好, a, я, 7, ， -> han, latin, cyrillic, digits, marks.
    """
    if character.isdecimal():
        return "digits"
    name = unicodedata.name(character, "") if character.isalpha() else ""
    script = name.split(" ")[0].lower() if name else "marks"
    return {"cjk": "han"}.get(script, script)


def unknown_by_script(counts: Mapping[str, int], tokenizer: Tokenizer) -> dict[str, dict[str, int]]:
    """Return for each script how many basic tokens the corpus has and how many of them are [UNK]; a token's script is its first character's.

    Args:
        counts: basic token of normalised text -> how often it occurs.
        tokenizer: of the vocabulary.

    Example: {"好": 3, "㐀": 1}, a vocabulary with 好 -> {"han": {"tokens": 4, "unknown": 1}}.
    """
    found: dict[str, dict[str, int]] = {}
    for token, count in counts.items():
        of = found.setdefault(script_of(token[0]), {"tokens": 0, "unknown": 0})
        of["tokens"] += count
        of["unknown"] += count if tokenizer.vocab.unk_id in tokenizer.encode_word(token) else 0
    return dict(sorted(found.items()))


def unknown_line(scripts: Mapping[str, Mapping[str, int]]) -> str:
    """Return the rates of scripts as one line, the most frequent script first.

    Example: ``"han 0.25 % of 1,200,000, latin 0.00 % of 3,000"``.
    """
    ordered = sorted(scripts.items(), key=lambda item: (-item[1]["tokens"], item[0]))
    return ", ".join(f"{script} {100 * of['unknown'] / of['tokens']:.2f} % of {of['tokens']:,}" for script, of in ordered if of["tokens"])


def language_hint(scripts: Mapping[str, Mapping[str, int]], language: str) -> str:
    """Return a warning where most of the text is not in the recipe's language, "" where it is.

    Args:
        scripts: of `unknown_by_script`.
        language: "zh", "en" or "mixed".

    Example: 66,000 Latin tokens and no Han under "zh" -> ``"WARN E-LANGUAGE most of the text is Latin and language is zh: …"``.
    """
    latin, han = (scripts.get(script, {"tokens": 0})["tokens"] for script in ("latin", "han"))
    likely = {"zh": "en" if latin > han else "zh", "en": "zh" if han > latin else "en"}.get(language, language)
    if likely == language:
        return ""
    return (
        f"WARN E-LANGUAGE most of the text is {'Latin' if likely == 'en' else 'Chinese'} and language is {language}: words, names and connectives are "
        f"looked for as in {language}; set language: {likely}, or mixed"
    )
