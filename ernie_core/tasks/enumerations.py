"""Sentences that tell their place by themselves: numbered items, bullets, notes. Beside another one they give away which came first, or that they belong together."""

from __future__ import annotations

import re

_NUMBER = "一二三四五六七八九十"
_ITEM = re.compile(
    rf"[“‘\"'「（(【\[〔\s]*(?:[{_NUMBER}]{{1,3}}[、，,.:：]|[（(](?:[{_NUMBER}]{{1,3}}|\d{{1,3}}|[a-z])[）)]|\d{{1,3}}(?:[、)）:：\]〕】]|[.．·](?!\d))"
    rf"|\d{{1,3}}(?:\s|$)|0\d(?!\d)|[@△▲▼◆◇●○■□★☆※•·►▶-]\s*\S|[①-⒛㈠-㈩❶-➓]|[a-z][、.)）])"
)
_ORDINAL = re.compile(
    rf"[“‘\"'「（(【\[\s]*(?:[{_NUMBER}]{{1,3}}[是来则者]|首先|其次|再次|再者|最后|第[{_NUMBER}\d]|其[{_NUMBER}]|(?:first|second|third|last|final)(?:ly)?\b)"
)


def is_item(text: str) -> bool:
    """Whether a sentence, in lower case, begins as an item of a list or a note does.

    Example: "1、准备", "（2）加水", "• 红茶", "〔3〕本篇" -> True; "1.5吨", "1998年", "首先" -> False.
    """
    return _ITEM.match(text) is not None


def tells_order(text: str) -> bool:
    """Whether a sentence, in lower case, says which one it is in a series: an item of a list, or an ordinal.

    Example: "首先，", "第二天", "lastly, " and what `is_item` -> True.
    """
    return is_item(text) or _ORDINAL.match(text) is not None
