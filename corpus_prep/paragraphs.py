"""Where a document's text ends a paragraph: rules that a corpus chooses from."""

from __future__ import annotations

import re
from collections.abc import Sequence

from corpus_prep.readers.base import Option, join_lines

PARAGRAPHS = Option(
    "lines",
    "what is a paragraph: lines: each line; spaces: also what stands between two spaces or more, as on saved web pages; joined: all lines "
    "together, where a line is a sentence; wrapped: lines of equal width joined up to a short one or a blank one, as in old books",
    ("lines", "spaces", "joined", "wrapped"),
)
_SPACES = re.compile(r"[ \t\u00a0\u3000]{2,}")
_ENDS = re.compile(r"[.!?。！？…:：][\"'”’)\]]*$|^[^a-z]*$")
_BEGINS_BADLY = tuple("，、。；：！？”」』）》〉】,;:!?)]}")
_NOTE = re.compile(r"[\[〔【]\d{1,3}[\]〕】]")
_ENDS_WELL = re.compile(r"[。！？!?….][”’」』）》】\"')\]]*\Z")
SHORT = 0.85
"""Of the usual width: a shorter line is the last of its paragraph, if it ends a sentence or is a heading."""
MAX_WIDTH = 120
"""Characters; wider lines are not wrapped by hand."""


def paragraphs(text: str, rule: str) -> tuple[str, ...]:
    """Return the paragraphs of a text under a rule of `PARAGRAPHS`; empty ones may be among them.

    Example: ``paragraphs("一。  二。", "spaces")`` -> ``("一。", "二。")``.
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    if rule == "joined":
        return (join_lines(lines),)
    if rule == "spaces":
        return tuple(part for line in lines for part in _SPACES.split(line))
    return tuple(_unwrapped(lines)) if rule == "wrapped" else tuple(lines)


def is_whole(line: str) -> bool:
    """Whether a line begins and ends as text does: headings, captions, menus, list items, numbered notes and what was cut off do not.

    Example: ``is_whole("他来了。")`` -> ``True``; ``is_whole("相关阅读")``, ``is_whole("，他来了。")`` -> ``False``.
    """
    return not line.startswith(_BEGINS_BADLY) and not _NOTE.match(line) and not line.endswith("..") and _ENDS_WELL.search(line) is not None


def _unwrapped(lines: Sequence[str]) -> list[str]:
    """Return paragraphs of lines wrapped by hand; the lines themselves if they are wider than `MAX_WIDTH`."""
    lengths = sorted(len(line) for line in lines if line.strip())
    width = lengths[len(lengths) * 9 // 10] if lengths else 0
    if width > MAX_WIDTH:
        return list(lines)
    found: list[str] = []
    held: list[str] = []
    for line in lines:
        text = line.strip()
        if text:
            held.append(text)
        if held and (not text or (len(line) < SHORT * width and _ENDS.search(text))):
            found.append(join_lines(held))
            held = []
    return [*found, join_lines(held)] if held else found
