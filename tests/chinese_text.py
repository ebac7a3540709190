"""All Chinese text of the development data, line by line: what segmentation and encoding are compared on."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDERS = (
    "afqmc", "bq_corpus", "chnsenticorp", "cmrc2018", "dialog_zh_dgk_lost_conv", "dialog_zh_lccc_toy", "dialog_zh_xiaojiang", "drcd", "dureader_demo",
    "lcqmc", "msra_ner", "nlpcc_dbqa", "ocnli", "qa_zh_medical", "raw_zh_classic_novels", "raw_zh_cluecorpussmall", "raw_zh_iflytek", "raw_zh_inews",
    "raw_zh_lctt", "raw_zh_luxun", "raw_zh_peoples_daily_199801", "xnli",
)  # fmt: skip
_BREAK = re.compile(r"\n|<br ?/?>")


def files(root: Path) -> list[Path]:
    """Return every file that holds Chinese text."""
    return [path for folder in FOLDERS for path in sorted((root / folder).iterdir())]


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.name.endswith(".tar.gz"):
        with tarfile.open(path) as tar:
            for member in tar:
                handle = tar.extractfile(member)
                if handle is not None:
                    yield member.name, handle.read()
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield name, archive.read(name)
    else:
        yield path.name.removesuffix(".gz"), gzip.decompress(path.read_bytes())


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, dict):
        # DuReader repeats its paragraphs as lists of words
        yield from _strings([item for name, item in value.items() if not name.startswith("segmented")])


def _texts(name: str, data: bytes) -> Iterator[str]:
    encoding = "gb18030" if "gb18030" in name or "gbk" in name else "utf-8-sig"
    text = data.decode(encoding, "replace" if encoding == "gb18030" else "strict")
    if name.endswith((".json", ".jsonl")):
        try:
            yield from _strings(json.loads(text))
        except json.JSONDecodeError:  # one object a line
            for line in text.split("\n"):
                if line.strip():
                    yield from _strings(json.loads(line))
    elif name.endswith(".csv"):
        for row in csv.reader(io.StringIO(text)):
            yield from row
    elif name == "199801.txt":  # word/tag pairs
        yield "\n".join("".join(pair.rpartition("/")[0] for pair in line.split()) for line in text.split("\n"))
    elif name.endswith("dh_msra.txt"):  # a character and its tag a line, a blank line between sentences
        yield "\n".join("".join(line.partition("\t")[0] for line in sentence.split("\n")) for sentence in text.replace("\r", "").split("\n\n"))
    elif "\x02" in text:  # characters, then tags, each joined by \x02
        yield "\n".join(line.partition("\t")[0].replace("\x02", "") for line in text.split("\n"))
    else:
        yield text


def lines(path: Path) -> list[str]:
    """Return the file's lines of text that are not blank: strings of JSON, fields of CSV, lines of everything else."""
    return [line for name, data in _members(path) for text in _texts(name, data) for line in _BREAK.split(text) if line.strip()]
