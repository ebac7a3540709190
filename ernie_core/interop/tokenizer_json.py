"""Our normaliser and WordPiece as a tokenizer.json of Hugging Face's tokenizers: the same ids for any text that has no traditional characters to turn.

What differs: `to_simplified` (OpenCC) cannot be said in that format, so text must be turned beforehand where the model was trained so.
"""

from __future__ import annotations

import json
import re
from typing import Any

from ernie_core.normalise import DROPPED, FULL_WIDTH, SPACES
from ernie_core.tokenization import MAX_CHARS
from ernie_core.vocab import SPECIAL_TOKENS, Vocab

_UNUSED = "\ue000"  # the normaliser drops it, so no text has it when this stands for İ
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "token_type_ids", "attention_mask"], "pad_token": "[PAD]",
    "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]", "unk_token": "[UNK]", "clean_up_tokenization_spaces": False,
}  # fmt: skip


def tokenizer_json(vocab: Vocab) -> str:
    """Return the file for a vocabulary. Pairs get sentence types 0 and 1."""
    special = {token: {"id": token, "ids": [vocab.ids[token]], "tokens": [token]} for token in ("[CLS]", "[SEP]")}

    def part(name: str, kind: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": kind}} if len(name) == 1 else {"SpecialToken": {"id": name, "type_id": kind}}

    single = [part("[CLS]", 0), part("A", 0), part("[SEP]", 0)]
    body = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [
            {"id": vocab.ids[t], "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
            for t in sorted(SPECIAL_TOKENS, key=vocab.ids.__getitem__)
        ],
        "normalizer": {"type": "Sequence", "normalizers": _normalizers()},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing", "single": single, "pair": [*single, part("B", 1), part("[SEP]", 1)], "special_tokens": special,
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": MAX_CHARS, "vocab": vocab.ids,
        },
    }  # fmt: skip
    return json.dumps(body, ensure_ascii=False, indent=1) + "\n"


def _normalizers() -> list[dict[str, Any]]:
    """Return the steps of `ernie_core.normalise.Normaliser`, and spaces around CJK characters, which BERT's words then are."""
    return [
        _replace({"Regex": f"[{_escaped(DROPPED)}]+"}, ""),
        *(_replace({"String": c}, chr(ord(c) - 0xFEE0)) for c in _characters(FULL_WIDTH)),
        {"type": "NFC"},
        _replace({"Regex": f"[{_escaped(SPACES)}]+"}, " "),
        _replace({"String": "İ"}, _UNUSED),  # its lower case has two code points: it is left as it is, and no vocabulary has it
        {"type": "Lowercase"},
        {"type": "NFC"},
        {"type": "BertNormalizer", "clean_text": False, "handle_chinese_chars": True, "strip_accents": False, "lowercase": False},
    ]  # fmt: skip


def _replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _characters(ranges: str) -> str:
    return "".join(c for c in map(chr, range(0xFF00, 0x10000)) if re.match(f"[{ranges}]", c))


def _escaped(ranges: str) -> str:
    r"""Return ranges of a character class of Python's as Oniguruma writes them, without surrogates, which no text has there.

    Example: ``"\x00-\x08\ud800-\udfff\u200b"`` -> ``"\x{0}-\x{8}\x{200b}"``.
    """
    found = []
    for first, last in re.findall(r"(\\x..|\\u....|\\U........|\\t|\\r| )(?:-(\\x..|\\u....|\\U........|\\r))?", ranges):
        start, end = (ord(c.encode().decode("unicode_escape")) for c in (first, last or first))
        if not 0xD800 <= start <= 0xDFFF:
            found.append(rf"\x{{{start:x}}}" + (rf"-\x{{{end:x}}}" if end > start else ""))
    return "".join(found)
