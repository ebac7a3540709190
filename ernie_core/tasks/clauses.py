"""Cuts sentences into clauses at their commas and semicolons, none of them inside quotation marks, brackets or numbers."""

from __future__ import annotations

import re

_OPENING, _CLOSING = "“‘「『《〈【（([{", "”’」』》〉】）)]}"
_BREAKS = "，；,;"
_MARK = re.compile(rf"[{re.escape(_OPENING + _CLOSING + _BREAKS)}\"]")
_PARTNER = dict(zip(_CLOSING, _OPENING, strict=True))


def split_clauses(sentence: str) -> list[int]:
    """Return where the clauses of a sentence end; a clause keeps its comma or semicolon, and white space opens the next one.

    A comma between digits (3,000) ends none, nor does anything inside quotation marks or brackets, or behind one that is never
    closed. A closing mark that was never opened counts for nothing: it closes what an earlier sentence opened, or is an apostrophe.

    Example: ``split_clauses("他说“好，走吧”，走了3,000步。")`` -> ``[9, 18]``.
    """
    ends: list[int] = []
    opened: list[str] = []
    for match in _MARK.finditer(sentence):
        mark, at = match.group(), match.start()
        if mark in _BREAKS:
            if not opened and not (mark in ",，" and sentence[at - 1 : at].isdigit() and sentence[at + 1 : at + 2].isdigit()):
                ends.append(at + 1)
        elif mark == '"':
            if '"' in opened:
                del opened[opened.index('"') :]
            else:
                opened.append(mark)
        elif mark in _PARTNER:
            if _PARTNER[mark] in opened:
                del opened[len(opened) - 1 - opened[::-1].index(_PARTNER[mark]) :]
        else:
            opened.append(mark)
    if not ends or ends[-1] < len(sentence):
        ends.append(len(sentence))
    return ends
