"""Our normaliser and WordPiece as a tokenizer.json of Hugging Face's tokenizers: the same ids for any text that has no traditional characters to turn.

And the other way round: which normaliser of ours gives the ids of a tokenizer of theirs. What differs: `to_simplified` (OpenCC) cannot be said in
that format, so text must be turned beforehand where the model was trained so.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ernie_core.errors import IntegrityError
from ernie_core.normalise import DROPPED, FULL_WIDTH, SPACES, Normaliser, normalise
from ernie_core.normalise_bert import BertForm
from ernie_core.tokenization import MAX_CHARS
from ernie_core.vocab import SPECIAL_TOKENS, Vocab

_OPTIONS = {"lowercase": "do_lower_case", "strip_accents": "strip_accents", "handle_chinese_chars": "tokenize_chinese_chars"}
_MODEL = {"type": "WordPiece", "continuing_subword_prefix": "##", "max_input_chars_per_word": MAX_CHARS}
_UNUSED = "\ue000"  # the normaliser drops it, so no text has it when this stands for İ
TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "token_type_ids", "attention_mask"], "pad_token": "[PAD]",
    "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]", "unk_token": "[UNK]", "clean_up_tokenization_spaces": False,
}  # fmt: skip


def tokenizer_json(vocab: Vocab, normaliser: Normaliser = normalise) -> str:
    """Return the file for a vocabulary and the normaliser of its texts. Pairs get sentence types 0 and 1."""
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
        "normalizer": _normalizer(normaliser),
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


def normaliser_of(folder: Path) -> Normaliser:
    """Return how the tokenizer of a model of theirs normalises: as ours where we exported it, else as BERT's with its options.

    Read from tokenizer.json and tokenizer_config.json, whose options go first, as in transformers; without either, BERT's of lower case.

    Args:
        folder: holds the model.

    Raises:
        IntegrityError: E-INTEROP-TOKENIZER, it does something that ours cannot, or a file is damaged.
    """
    path, options = folder / "tokenizer.json", _read(folder / "tokenizer_config.json")
    body = _read(path)
    found = body.get("normalizer") or {"type": "BertNormalizer"}
    if found == _normalizer(normalise):
        return normalise
    bert = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True} | found
    bert |= {name: options[theirs] for name, theirs in _OPTIONS.items() if theirs in options}
    model = {name: body.get("model", {}).get(name, wanted) for name, wanted in _MODEL.items()}
    if bert["type"] != "BertNormalizer" or not bert["clean_text"] or not bert["handle_chinese_chars"] or model != _MODEL:
        raise IntegrityError(
            "E-INTEROP-TOKENIZER", "the model's tokenizer works otherwise than ours can", where=str(path if body else folder / "tokenizer_config.json"),
            expected=f"BertNormalizer with clean_text and handle_chinese_chars, {_MODEL}", found=f"{bert}, {model}",
            fix="give a model whose tokenizer is BERT's WordPiece",
        )  # fmt: skip
    lowercase = bool(bert["lowercase"])
    return Normaliser(bert=BertForm(lowercase, lowercase if bert["strip_accents"] is None else bool(bert["strip_accents"])))


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON object, or {} where there is no such file."""
    try:
        found = json.loads(path.read_bytes()) if path.exists() else {}
    except ValueError as e:
        raise IntegrityError("E-INTEROP-TOKENIZER", "a file of the tokenizer is damaged", where=str(path), found=str(e), fix="get it again") from e
    return found if isinstance(found, dict) else {}


def _normalizer(normaliser: Normaliser) -> dict[str, Any]:
    if (bert := normaliser.bert) is None:
        return {"type": "Sequence", "normalizers": _normalizers()}
    return {
        "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": bert.strip_accents, "lowercase": bert.lowercase,
    }  # fmt: skip


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
