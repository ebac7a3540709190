"""Errors a user can meet: what, where, expected, found, what to do; a stable code and exit code (reliability.md, section 2)."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable
from typing import ClassVar


class ErnieError(ValueError):
    """Base of every error meant for a user.

    Args:
        code: stable code such as ``E-SHARD-HASH``.
        what: one sentence.
        where: file, record and byte, or step.
        expected: what should have been there.
        found: what was there instead; text of documents goes through `printable` first.
        fix: what the user can do.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, code: str, what: str, *, where: str = "", expected: str = "", found: str = "", fix: str = "") -> None:
        self.code, self.what, self.where = code, what, where
        self.expected, self.found, self.fix = expected, found, fix
        super().__init__(self._line())

    def _line(self) -> str:
        parts = [f"{self.code} {self.what}"]
        if self.where:
            parts.append(f"at {self.where}")
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.found:
            parts.append(f"found {self.found}")
        if self.fix:
            parts.append(f"fix: {self.fix}")
        return "; ".join(parts)

    def __reduce__(self) -> tuple[object, ...]:
        # Ray pickles exceptions by args; ours are keyword-only.
        return (_rebuild, (type(self), self.code, self.what, self.where, self.expected, self.found, self.fix))


def _rebuild(kind: type[ErnieError], code: str, what: str, where: str, expected: str, found: str, fix: str) -> ErnieError:
    return kind(code, what, where=where, expected=expected, found=found, fix=fix)


class RecipeError(ErnieError):
    """A recipe or a command line is wrong."""

    exit_code = 2


class InputError(ErnieError):
    """Input text or tables are wrong."""

    exit_code = 3


class IntegrityError(ErnieError):
    """A file of ours is missing, changed or damaged."""

    exit_code = 4


class OutputError(ErnieError):
    """The output folder belongs to something else, or to other settings."""

    exit_code = 5


class ResourceError(ErnieError):
    """Disk, memory or permission is lacking."""

    exit_code = 6


class DivergedError(ErnieError):
    """Training produced non-finite numbers again and again."""

    exit_code = 7


class PreemptedError(ErnieError):
    """Stopped by a signal with a good checkpoint: run the same command again."""

    exit_code = 75


def closest(name: str, valid: Iterable[str], limit: int = 5) -> str:
    """Return the valid names as text, closest to `name` first.

    Example: ``closest("warmup", ["seed", "warmup_share"])`` -> ``"warmup_share, seed"``.
    """
    ranked = sorted(valid, key=lambda v: (-difflib.SequenceMatcher(None, name, v).ratio(), v))
    shown = ranked[:limit]
    more = f" and {len(ranked) - limit} more" if len(ranked) > limit else ""
    return ", ".join(shown) + more


def printable(text: str | bytes, limit_bytes: int = 80) -> str:
    """Return document text fit for a log line: cut to `limit_bytes`, controls, bidi marks and line breaks escaped (reliability S16).

    Example: ``printable("a\\x1b[31m\\n")`` -> ``"a\\\\x1b[31m\\\\n"``.
    """
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    cut = raw[:limit_bytes].decode("utf-8", "backslashreplace" if isinstance(text, bytes) else "ignore")
    safe = "".join(c if unicodedata.category(c)[0] != "C" and c not in "\u2028\u2029" else c.encode("unicode_escape").decode() for c in cut)
    return safe + ("…" if len(raw) > limit_bytes else "")
