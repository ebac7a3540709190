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
_PROMPT = re.compile(
    r"关注(?:我们|本号|公众号|微信)|请(?:关注|私信)|请告诉我们?|让我们?\w{0,4}知道|有什么(?:好点子|想法|建议|看法)|希望\w{0,6}(?:有用|有所?帮助)|点击(?:上方|下方|这里|此处|关注|进入|阅读|图片|链接)|阅读原文|点[“「]?(?:好看|在看)|长按\w{0,4}(?:识别|关注|扫|二维码)|扫码|扫一扫|扫描\w{0,4}二维码|公众号|微信号|"
    r"(?:欢迎|文末|在线|给我们|评论区|下方|积极|踊跃)\w{0,4}(?:留言|评论|转发|分享|投稿|来稿|咨询|加入)|下面的?评论|评论(?:栏|区|框|[里中])\w{0,8}(?:告诉|提出|分享|交流|知道)|分享(?:这篇|本)文|(?:你|您|大家|网友们?)\w{0,3}(?:怎么看|有什么看法|怎么认为)|点赞|"
    r"责任编辑|责编[:：]|原标题[:：]|图片来源|图源[:：]|来源[:：]|文章来自|"
    r"(?:投诉|报料|爆料|客服|咨询|服务)(?:电话|热线)[:：]|"
    r"\b(?:(?:image|photo) by|cc by|click here|read more|sign up|log in|subscribe|follow us)\b"
)
_NOTICE = re.compile(
    r"免责声明|版权(?:归|声明|所有)|未经\w{0,6}(?:授权|许可)|(?:严禁|不得|谢绝|请勿|如需|欢迎|本网)转载|转载(?:请|自|于|作品|时)|不(?:代表|意味着)\w{0,9}(?:观点|立场)|"
    r"\b(?:all rights reserved|terms of (?:use|service)|privacy policy)\b"
)
PROMPT_CHARS, NOTICE_CHARS = 60, 200
"""Of a line that is a prompt, and of one that says whose the text is; a longer one has text of its own."""
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


def is_prompt(line: str) -> bool:
    """Whether a short line, in lower case, speaks of the page and not of its subject: asks to follow, share, comment or click, names editor, source or rights.

    After the lines that RefinedWeb takes out (Penedo et al. 2023, https://arxiv.org/abs/2306.01116, G.2) and C4's policy lines.

    Example: ``is_prompt("你怎么看？欢迎留言。")``, ``is_prompt("责任编辑：张三。")`` -> ``True``; ``is_prompt("他留言说要走。")`` -> ``False``.
    """
    return (len(line) <= PROMPT_CHARS and _PROMPT.search(line) is not None) or (len(line) <= NOTICE_CHARS and _NOTICE.search(line) is not None)


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
