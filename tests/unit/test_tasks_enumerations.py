"""Which sentences tell their place by themselves."""

from __future__ import annotations

import pytest

from ernie_core.tasks.enumerations import is_item, tells_order

ITEMS = [
    "1、准备",
    "1. 首页",
    "（2）加水",
    "(a) water",
    "a) water",
    "一、总则",
    "（三）附则",
    "二，其他",
    "• 红茶",
    "★五星",
    "①甲",
    "㈠乙",
    "〔3〕本篇",
    "[12] smith",
    "07 秋",
    "3 ",
]
ORDINALS = ["首先天地", "第二天他来了", "其三，", "一是好", "二来他忙", "一则新闻", "最后他走了", "lastly, he left", "second, he left"]
NEITHER = ["1.5吨", "2·1％", "1998年", "一天", "三个人", "他第一次来", "a man", "abc", "——他说", "10万元", "firsthand news", ""]


@pytest.mark.parametrize("text", [*ITEMS, *ORDINALS, *NEITHER])
def test_items_and_ordinals_are_told_from_other_sentences(text: str) -> None:
    assert is_item(text) == (text in ITEMS)
    assert tells_order(text) == (text in ITEMS or text in ORDINALS)
