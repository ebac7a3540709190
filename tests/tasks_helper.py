"""Documents cut by jieba from real news pages, a character encoder and a pool, made without the code under test."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import re
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jieba
from hypothesis import strategies as st

from corpus_prep.audit import audit
from corpus_prep.entities import Entities
from corpus_prep.readers.base import RawDocument
from corpus_prep.segment import Segmenter, joined_words, load_segmenter
from corpus_prep.splits import documents as documents_of
from corpus_prep.splits import plan_splits, read_split
from corpus_prep.words import merge_runs, words_of
from ernie_core.data.rows import Rows
from ernie_core.schemas import ENTITY, Document, Sample, Sentence, Unit, sentence_from_json
from ernie_core.tasks.base import BuildContext, PoolSpan, Task, with_labels
from ernie_core.tasks.pairs import spans

jieba.setLogLevel(logging.WARNING)
jieba.dt.tmp_dir = tempfile.mkdtemp(prefix="jieba-")

CLS, SEP = 1, 2
_SENTENCE = re.compile(r".+?(?:[。！？!?…]+[”’」』）\"']*|$)", re.DOTALL)


@cache
def encode_characters(word: str) -> list[int]:
    """One token a character, its code point: ids and text are one to one, and white space gives nothing."""
    return [ord(c) for c in word if not c.isspace()]


def encode_small(word: str) -> list[int]:
    """As `encode_characters`, without a token for capital letters."""
    return [0 if c.isupper() else i for c, i in zip("".join(word.split()), encode_characters(word), strict=True)]


def text_of(token_ids: Sequence[int]) -> str:
    return "".join(map(chr, token_ids))


def lower(text: str) -> str:
    """Lower case where the result is one code point."""
    if len(whole := text.lower()) == len(text):
        return whole
    return "".join(low if len(low := c.lower()) == 1 else c for c in text)


def by_jieba(text: str) -> tuple[str, ...]:
    return tuple(jieba.cut(text))


def sentence(original: str, words_of: Callable[[str], tuple[str, ...]] = tuple) -> Sentence:
    """A sentence whose words are its characters, or what `words_of` makes of it; words of three letters or more are entities."""
    words = words_of(lower(original))
    units = tuple(Unit(i, i + 1, ENTITY) for i, w in enumerate(words) if len(w) >= 3 and w.isalpha())
    return Sentence(words, units, original)


def document(source: str, title: str, paragraphs: Sequence[str], words_of: Callable[[str], tuple[str, ...]] = tuple, work: str = "work") -> Document:
    doc_id = hashlib.sha256("\n".join([source, title, *paragraphs]).encode()).hexdigest()[:16]
    cut = tuple(tuple(sentence(s, words_of) for s in _SENTENCE.findall(p)) for p in paragraphs)
    return Document(doc_id, source, work, title, cut, heading=sentence(title, words_of) if title else None)


def news_pages(data: Path, count: int) -> list[dict[str, Any]]:
    """The first `count` distinct pages of real news: {"title", "paragraphs"}."""
    pages: dict[str, dict[str, Any]] = {}
    with gzip.open(data / "raw_zh_inews/train.jsonl.gz", "rt", encoding="utf-8") as f:
        for line in f:
            row = json.loads(line)
            paragraphs = [re.sub(r"\s+", " ", p) for p in re.split(r"\s{2,}", row["content"].strip()) if p]
            pages.setdefault("".join(paragraphs), {"title": row["title"], "paragraphs": paragraphs})
            if len(pages) == count:
                break
    return list(pages.values())


def segmented_sentence(lower: str, original: str, segmenter: Segmenter, entities: Entities) -> Sentence:
    """A sentence of normalised text and the same in its own case, as `segment_documents` makes it."""
    words = words_of(merge_runs(joined_words(segmenter, [lower])))
    (units,) = entities.of(words, [None if original == lower else original])
    return sentence_from_json([words.joined[0], units, original])


def segmented_news(data: Path, count: int) -> list[Document]:
    """`news_documents` with the words of our segmenter."""
    return _segmented(lambda words_of: news_documents(data, count, words_of))


def _segmented(documents_by: Callable[[Callable[[str], tuple[str, ...]]], list[Document]]) -> list[Document]:
    """Documents with the words of our segmenter, all sentences cut by one call."""
    plain = documents_by(tuple)
    texts = list({lower(s.original) for d in plain for s in [*filter(None, [d.heading]), *(s for p in d.paragraphs for s in p)]})
    cut = dict(zip(texts, map(tuple, load_segmenter().words(texts)), strict=True))
    return documents_by(cut.__getitem__)


def segmented_articles(data: Path) -> list[Document]:
    """LCTT's technology articles, with the words of our segmenter."""
    corpus = {"reader": "markdown", "path": str(data / "raw_zh_lctt" / "*.tar.gz"), "archives": True, "members": "**/*.md"}
    (split,) = plan_splits({"lctt": corpus}, 1 << 30)
    raw = {
        a.title: [p for p in a.paragraphs if p.strip()] for a in documents_of(split, read_split(split)[0]) if isinstance(a, RawDocument) and a.title
    }
    return _segmented(lambda words_of: [document("lctt", title, paragraphs, words_of) for title, paragraphs in raw.items()])


def news_documents(data: Path, count: int, words_of: Callable[[str], tuple[str, ...]] = by_jieba) -> list[Document]:
    return [document("news", p["title"], p["paragraphs"], words_of) for p in news_pages(data, count)]


def novel_chapters(data: Path, num_works: int, per_work: int) -> list[Document]:
    """Chapters of Ming and Qing novels, the first `per_work` of each of `num_works`."""
    held: dict[str, list[Document]] = {}
    with tarfile.open(data / "raw_zh_classic_novels/novels_01.tar.gz") as tar:
        for member in tar:
            work = member.name.split("/")[-2] if member.name.endswith(".html") else ""
            file = tar.extractfile(member)
            if not work or not file or len(held.get(work, [])) == per_work or (work not in held and len(held) == num_works):
                continue
            paragraphs = ["".join(p.split()) for p in re.split(r"<[^>]*>", file.read().decode("utf-8", "replace"))]
            held.setdefault(work, []).append(document("novels", member.name, [p for p in paragraphs if p], by_jieba, work))
    return [chapter for chapters in held.values() for chapter in chapters]


def english(text: str) -> Sentence:
    """A sentence whose words are runs of letters and digits; marks stand alone."""
    return Sentence(tuple(re.findall(r"[^\W_]+|\s+|[\W_]", lower(text))), (), text)


def fixed_corpus() -> list[Document]:
    """Five small documents, three of one work and one in English, for golden rows."""
    chinese = (
        ("集市", "早市", ("天还没有亮，卖菜的老张就推着车子出了门。他要赶在六点以前走到城东的集市。路上下着小雨，车轮沾满了泥。",
                       "集市里已经有不少人。卖鱼的把水桶摆成一排，卖花的忙着剪枝。老张找到自己的位置，把白菜和萝卜码得整整齐齐。",
                       "第一个客人是住在河边的李老师。她挑了两棵白菜，又问萝卜甜不甜。老张切下一片请她尝，她笑着点了点头。")),
        ("集市", "午后", ("中午雨停了，太阳从云里钻出来。集市上的人渐渐散去。老张数了数卖菜的钱，比昨天多了二十块。",
                       "他在面馆要了一碗热汤面。老板娘认得他，多给了一勺牛肉。两个人说起河边的旧桥，都觉得应该修一修。")),
        ("集市", "旧桥", ("旧桥是一百年前修的。桥面的石板已经裂开，下雨天很滑。李老师每天走这座桥去学校。",
                       "村里开会商量修桥的事情。有人说钱不够，有人愿意出力。最后大家决定先换石板，再加栏杆。",
                       "老张把卖菜的钱捐了一半。他说白菜明年还会长，桥断了就过不去河。会场里响起了掌声。")),
        ("海边", "灯塔", ("灯塔站在海边的悬崖上。看守灯塔的是一位退休的船长。每到傍晚，他都会爬上一百二十级台阶点亮灯火。",
                       "冬天的风浪很大，渔船常常迷路。船长整夜守着灯，不敢合眼。天亮以后，渔民们送来刚打的鱼。")),
    )  # fmt: skip
    english_lines = (
        'Mary Brown walked to the Red Lion in Oxford. "Have you seen my brother Tom?" she asked the man behind the bar.',
        "He had not. It was raining in Oxford Street, and the old man said that I should wait for the bus to London.",
        "THE END",
    )
    cut = tuple(tuple(english(s) for s in re.findall(r".+?(?:[.?](?= |$)|$)\s*", line)) for line in english_lines)
    return [*(document("tales", title, lines, by_jieba, work) for work, title, lines in chinese), Document("e" * 16, "english", "work", "", cut)]


def documents_for(task: str) -> list[Document]:
    """The documents that a task's golden rows need beside the fixed corpus: golden/texts/TASK.jsonl, if it has such a file."""
    path = Path(__file__).parent / "golden" / "texts" / f"{task}.jsonl"
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines()) if path.exists() else ()
    made = ((row, document("more", row.get("title", ""), row["paragraphs"], by_jieba, row.get("work", "work"))) for row in rows)
    return [replace(of, kind=row.get("kind", "text"), roles=tuple(row.get("roles", ()))) for row, of in made]


def conversations(data: Path, name: str, count: int) -> list[tuple[str, ...]]:
    """The first distinct conversations of film subtitles, of "lccc" (turns) or of "chat" (two turns), as their turns."""
    found: dict[tuple[str, ...], None] = {}
    if name == "subtitles":
        for path in sorted((data / "dialog_zh_dgk_lost_conv").glob("*.conv.gz")):
            text = gzip.decompress(path.read_bytes()).decode("utf-8", "replace").replace("\r", "")
            for block in re.split(r"^E$", text, flags=re.MULTILINE):
                found[tuple(" ".join(line[2:].split()) for line in block.split("\n") if line.startswith("M ") and line[2:].strip())] = None
    elif name == "lccc":
        (path,) = (data / "dialog_zh_lccc_toy").glob("*.json.gz")
        for held in json.loads(gzip.decompress(path.read_bytes())).values():
            found.update(dict.fromkeys(tuple("".join(turn.split()) for turn in turns) for turns in held))
    else:
        (path,) = (data / "dialog_zh_xiaojiang").glob("*.txt.gz")
        rows = gzip.decompress(path.read_bytes()).decode("utf-8", "replace").splitlines()
        found.update(dict.fromkeys(tuple(" ".join(turn.split()) for turn in row.split("\t") if turn.strip()) for row in rows))
    return list(found)[:count]


def dialogues(turns: Sequence[Sequence[str]], speakers: Sequence[str] = (), source: str = "talk") -> list[Document]:
    """Conversations cut by jieba, without speakers or each with the same."""
    return [replace(document(source, "", t, by_jieba), kind="dialogue", roles=tuple(speakers) or ("",) * len(t)) for t in turns]


def bbc_documents(data: Path, count: int) -> list[Document]:
    def of(lines: list[str]) -> Document:
        cut = tuple(tuple(english(s) for s in re.findall(r".+?(?:[.!?][\"']?(?= |$)|$)\s*", line)) for line in lines)
        return Document(hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16], "bbc", "work", lines[0], cut)

    return [of(lines) for lines in bbc_articles(data, count)]


def bbc_articles(data: Path, count: int) -> list[list[str]]:
    """The lines of `count` articles of real English news, spread evenly over all classes."""
    with tarfile.open(data / "raw_en_bbc/bbc.tar.gz") as tar:
        names = sorted(n for n in tar.getnames() if re.search(r"/\d+\.txt$", n))
        files = [tar.extractfile(name) for name in names[:: len(names) // count][:count]]
        texts = [f.read().decode("utf-8", "replace") for f in files if f]
    return [[" ".join(line.split()) for line in text.split("\n") if line.strip()] for text in texts]


class ListPool:
    """All groups of all documents in bins of 8 characters; a draw is an index by key."""

    def __init__(self, spans: Sequence[PoolSpan]) -> None:
        self.bins: dict[tuple[str, int, str], list[PoolSpan]] = {}
        for span in spans:
            length = sum(len(s.original) for s in span.sentences)
            for word in {"", *span.words}:
                self.bins.setdefault((span.source, length // 8, word), []).append(span)

    def draw(self, source: str, num_chars: int, not_doc: str, draw_key: int, work: str = "", word: str = "") -> PoolSpan | None:
        found = self.bins.get((source, num_chars // 8, word), [])
        for i in range(len(found)):
            span = found[(draw_key + i) % len(found)]
            if span.doc_id != not_doc and work in ("", span.work):
                return span
        return None


def context(pool: ListPool | None = None, **changes: Any) -> BuildContext:
    settings: dict[str, Any] = {
        "encode": encode_characters, "cls_id": CLS, "sep_id": SEP, "max_seq_len": 128, "seed": 7,
        "pool": pool or ListPool([]), "frequent_lines": frozenset(), "options": {},
    }  # fmt: skip
    return BuildContext(**{**settings, **changes})


def counted(task: Task, documents: Sequence[Document], options: Mapping[str, Any]) -> Counter[tuple[str, int, str]]:
    """The corpus table of a task's candidates."""
    of = task.candidates or (lambda document, options: iter(()))
    return Counter((d.source, label, place) for d in documents for label, place in of(d, options))


def built(task: Task, documents: Sequence[Document], ctx: BuildContext) -> tuple[list[Sample], Counter[str]]:
    drops: Counter[str] = Counter()
    return list(task.build(documents, ctx, drops)), drops


def carrying(task: Task, documents: Sequence[Document], label: Task, ctx: BuildContext) -> list[Sample]:
    """Rows of `task` that hold the labels of the token-level task `label` too."""
    assert label.label_words is not None
    labelled = [with_labels(document, [label.label_words(document, ctx)]) for document in documents]
    options = task.complete({"per_class": None} if task.candidates else {})
    return built(task, labelled, replace(ctx, options=options, candidates=counted(task, documents, options), carry=(label.name,)))[0]


def segments_of(sample: Sample, column: Sequence[int]) -> Iterator[list[int]]:
    """The column's values segment by segment, without [CLS] and [SEP]."""
    found: list[int] = []
    for value, seg in zip(column[1:], sample.seg_labels[1:], strict=True):
        if seg == -1:
            yield found
            found = []
        else:
            found.append(value)


def spans_of(documents: Sequence[Document], max_seq_len: int = 128) -> list[PoolSpan]:
    return [span for d in documents for span in spans(d, max_seq_len)]


def audited(task: Task, documents: Sequence[Document], options: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """The shortcut audit of a task over real documents, a fifth of them held out; a token is a character, or a word of Latin letters."""
    ids = {t: 5 + i for i, t in enumerate(sorted({t for d in documents for p in d.paragraphs for s in p for t in _tokens(s.text)}))}
    rows, complete = [], task.complete(options)
    table = counted(task, documents, complete)
    for held_out in (False, True):
        mine = [d for d in documents if (int(d.doc_id, 16) % 5 == 0) == held_out]
        encode = cache(lambda w: [ids.get(t, 0) for t in _tokens(w)])
        ctx = context(ListPool(spans_of(mine)), encode=encode, options=complete, candidates=table)
        rows.append(Rows.from_samples(built(task, mine, ctx)[0], [task.name] if task.level == "token" else []))
    return audit(*rows, task=task, tokens=["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", *ids], seed=7)


def _tokens(text: str) -> list[str]:
    return re.findall(r"[a-z]+|\S", text)


@st.composite
def documents(draw: st.DrawFn, letters: str = "天地玄黄宇宙洪荒日月“”") -> Document:
    """Small documents of random sentences."""
    sentences = st.builds("".join, st.tuples(st.text(letters, min_size=1, max_size=30), st.sampled_from("。！？")))
    paragraphs = draw(st.lists(st.builds("".join, st.lists(sentences, min_size=1, max_size=8)), min_size=1, max_size=5))
    return document("toy", "", paragraphs, by_jieba if draw(st.booleans()) else tuple)
