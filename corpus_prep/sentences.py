"""Sentence ends of Chinese and English text. The pieces join back to the paragraph; each keeps its closing quotes and trailing space."""

from __future__ import annotations

import re

# A Chinese mark ends a sentence wherever it stands, with the marks, quotes and brackets that follow it (a curly quote behind white space too),
# unless the sentence goes on behind them with a comma, a semicolon or the end of a title (《你好！》一书); ? and ! do but inside a word, as
# of a URL (a?b=1). A full stop does before white space or at the end, unless an initial (J. Smith), a listed abbreviation or a lower-case
# continuation says otherwise.
_CLOSERS = "”’」』）】\"')\\]"
_GOES_ON = "，、；,;》〉"
_ABBREVIATIONS = r"(?<!\b[A-Za-z]\.)(?<!\b(?:Mr|Ms|Dr|St|Jr|Sr|No|vs|cf|Co)\.)(?<!\b(?:Mrs|etc|Inc|Ltd|Gen|Col)\.)(?<!\bProf\.)"
_MARKED = rf"(?<!\.)(?:(?<![!?])|(?![a-z0-9]))(?:[。！？!?…{_CLOSERS}]++|\s++(?=[”’」』]))*+\s*+(?![{_GOES_ON}])"
_STOPPED = rf"(?<=\.){_ABBREVIATIONS}[{_CLOSERS}]*(?:\s++(?![a-z{_GOES_ON}])|$)"
_END = re.compile(f"[。！？!?….](?:{_MARKED}|{_STOPPED})")  # begins with a set of characters, which is searched five times as fast


def split_sentences(paragraph: str) -> list[str]:
    """Return the sentences of a paragraph in original case; `"".join` gives the paragraph back.

    Example: ``split_sentences("“你好！”他说。It costs 3.5. Ok")`` -> ``["“你好！”", "他说。", "It costs 3.5. ", "Ok"]``.
    """
    ends = [m.end() for m in _END.finditer(paragraph)]
    if not ends or ends[-1] < len(paragraph):
        ends.append(len(paragraph))
    starts = [0, *ends[:-1]]
    return [paragraph[start:end] for start, end in zip(starts, ends, strict=True) if start < end]
