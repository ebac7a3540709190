"""A vocabulary: tokens in id order, with the five special tokens by name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ernie_core.errors import InputError, printable

SPECIAL_TOKENS = ("[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]")
MAX_TOKENS = 1_000_000


@dataclass(frozen=True)
class Vocab:
    """Tokens in id order; checked on construction, so an id or a hash of a Vocab can be trusted.

    Example: ``Vocab(("[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", "的")).ids["的"]`` -> 5.

    Raises:
        InputError: E-VOCAB-FORMAT with the line (id + 1): empty or duplicate token, missing special token.
    """

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        _check(self.tokens, "vocabulary")

    @cached_property
    def ids(self) -> dict[str, int]:
        """Token -> id."""
        return {token: i for i, token in enumerate(self.tokens)}

    @property
    def size(self) -> int:
        return len(self.tokens)

    @property
    def pad_id(self) -> int:
        return self.ids["[PAD]"]

    @property
    def cls_id(self) -> int:
        return self.ids["[CLS]"]

    @property
    def sep_id(self) -> int:
        return self.ids["[SEP]"]

    @property
    def mask_id(self) -> int:
        return self.ids["[MASK]"]

    @property
    def unk_id(self) -> int:
        return self.ids["[UNK]"]

    @property
    def num_leading_specials(self) -> int:
        """How many of the first ids are special tokens: masking draws random tokens from the ids behind them."""
        return next((i for i, token in enumerate(self.tokens) if token not in SPECIAL_TOKENS), self.size)

    @cached_property
    def sha256(self) -> str:
        """Hash of `to_bytes()`: the same for either file format."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the file: one token a line, UTF-8."""
        return "".join(f"{token}\n" for token in self.tokens).encode()

    @staticmethod
    def load(path: Path) -> Vocab:
        """Read a vocabulary file: one token a line, or ``token TAB id`` with ids 0, 1, 2, … in line order.

        Raises:
            InputError: E-VOCAB-FORMAT naming file and line.
        """
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise InputError("E-VOCAB-MISSING", "there is no vocabulary file", where=str(path), fix="correct the path") from None
        return Vocab.from_bytes(data, str(path))

    @staticmethod
    def from_bytes(data: bytes, where: str) -> Vocab:
        """Parse a vocabulary file's bytes; `where` names it in errors.

        Example: ``b"[PAD]\\t0\\n[CLS]\\t1\\n…"`` and ``b"[PAD]\\n[CLS]\\n…"`` give equal vocabularies.
        """
        lines = data.split(b"\n")
        if lines[-1] == b"":
            lines.pop()
        if len(lines) > MAX_TOKENS:
            raise InputError(
                "E-VOCAB-FORMAT", "too many lines", where=where, expected=f"at most {MAX_TOKENS}", found=str(len(lines)), fix="give a vocabulary file"
            )
        tokens = tuple(_token(line, i, where) for i, line in enumerate(lines))
        _check(tokens, where)
        return Vocab(tokens)


def _token(line: bytes, line_id: int, where: str) -> str:
    at = f"{where} line {line_id + 1}"
    if line.endswith(b"\r"):
        raise InputError("E-VOCAB-FORMAT", "line ends in CR LF", where=at, expected="LF alone", fix="convert the file with dos2unix")
    try:
        fields = line.decode("utf-8").split("\t")
    except UnicodeDecodeError as e:
        raise InputError("E-VOCAB-FORMAT", "line is not UTF-8", where=at, found=printable(line), fix="save the file as UTF-8") from e
    if len(fields) > 2:
        raise InputError(
            "E-VOCAB-FORMAT", "too many columns", where=at, expected="token, or token TAB id", found=f"{len(fields)} columns", fix="correct the line"
        )
    if len(fields) == 2 and fields[1] != str(line_id):
        raise InputError(
            "E-VOCAB-FORMAT",
            "ids must be 0, 1, 2, … in line order",
            where=at,
            expected=f"id {line_id}",
            found=printable(fields[1]),
            fix="sort the file by id; a line may be lost or doubled",
        )
    return fields[0]


def _check(tokens: tuple[str, ...], where: str) -> None:
    first: dict[str, int] = {}
    for i, token in enumerate(tokens):
        at = f"{where} line {i + 1}"
        if not token or token != token.strip(" \t\r\n　") or "\n" in token:  # Google's Chinese vocabulary has U+2028 as a token
            raise InputError(
                "E-VOCAB-FORMAT",
                "token is blank or has white space around it",
                where=at,
                found=repr(printable(token)),
                fix="remove the line; ids after it change",
            )
        if token in first:
            raise InputError(
                "E-VOCAB-FORMAT",
                "token stands twice",
                where=at,
                expected=f"only line {first[token] + 1}",
                found=printable(token),
                fix="remove one of the two; ids after it change",
            )
        first[token] = i
    missing = [s for s in SPECIAL_TOKENS if s not in first]
    if missing:
        raise InputError(
            "E-VOCAB-FORMAT",
            "special token is missing",
            where=f"{where} line {len(tokens)} (end)",
            expected=" ".join(SPECIAL_TOKENS),
            found=f"no {', '.join(missing)}",
            fix="add it",
        )
