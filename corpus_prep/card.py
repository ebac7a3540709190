"""The card of a shard set: what is in it, what was left out and why, how good the shortcuts are, and rows a person can read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from corpus_prep.readable import LEGEND, SPECIAL, kind_name, pieces, readable
from ernie_core.data.rows import Rows
from ernie_core.errors import printable
from ernie_core.schemas import ENTITY, PHRASE, WORD, Sample
from ernie_core.vocab import Vocab

SAMPLES_PER_TASK = 20
_UNITS_SHOWN = 30
_TOKEN_FIGURES = {
    "auc": "AUC",
    "ambiguous_auc": "AUC, ambiguous words",
    "f1": "F1",
    "accuracy": "accuracy",
}  # of token tasks, in `audit.audit`'s result
_LEGEND = f"{LEGEND} Rows are shown as stored: a reordering row is permuted when it is read."


class Shards(Protocol):
    """What the card needs of `data.shards.ShardSet`."""

    @property
    def num_groups(self) -> int: ...

    @property
    def group_lengths(self) -> Sequence[NDArray[Any]]: ...

    def read_group(self, group: int, /) -> Rows: ...


def card_markdown(facts: Mapping[str, Any], vocab: Vocab, shards: Mapping[str, Shards], audit: Mapping[str, Any]) -> str:
    """Return the card as Markdown; a function of its arguments only.

    Args:
        facts: the manifest's facts: "tasks" -> name -> {"rows", "tokens", "classes", "drops", …}; whatever else stands in it is
            listed as it is.
        vocab: turns ids back into text.
        shards: task -> its training shards.
        audit: task -> result of `audit.audit`.
    """
    tasks: Mapping[str, Mapping[str, Any]] = facts.get("tasks", {})
    lines = ["# Data card", "", "## Corpus", ""]
    documents = facts.get("documents", {})
    lines += _document_table(documents)
    others = {
        name: value for name, value in documents.items() if isinstance(value, Mapping | list | tuple) and name not in {"by_source", "text_shares"}
    }
    rest = {name: value for name, value in facts.items() if name != "tasks"} | ({"documents": others} if documents else {})
    lines += ["", *_table(("fact", "value"), list(_flat(rest)))]
    lines += ["", "## Documents left out", "", *_left_out(documents)]
    lines += ["", "## Rows", ""]
    lengths = {name: _length_cells(shards[name]) for name in tasks if name in shards}
    lines += _table(
        ("task", "rows", "tokens", "length p10", "median", "p90", "max"),
        [(name, _value(t.get("rows", 0)), _value(t.get("tokens", 0)), *lengths.get(name, [""] * 4)) for name, t in tasks.items()],
    )
    lines += ["", "Lengths are of training rows, in tokens, special tokens included.", "", "## Class balance", ""]
    lines += _table(("task", "class: rows"), [(name, _value(t["classes"])) for name, t in tasks.items() if t.get("classes")])
    if carried := [(name, of, _value(counts)) for name, t in tasks.items() for of, counts in t.get("carried", {}).items()]:
        lines += ["", "## Token-level labels in other tasks' rows", "", *_table(("task", "carries", "label: tokens"), carried)]
    lines += ["", "## Left out, by reason", ""]
    lines += _table(
        ("task", "reason", "count"), [(n, reason, _value(c)) for n, t in tasks.items() for reason, c in sorted(t.get("drops", {}).items())]
    )
    lines += ["", "## Units", "", *_unit_lines(shards, vocab)]
    lines += ["", "## Shortcut audit", "", *_audit_lines(audit), "", "## Samples", "", _LEGEND]
    for name, source in shards.items():
        lines += ["", f"### {name}", "", "~~~~text", *(readable(s, vocab, name) for s in _spread(source)), "~~~~"]
    return "\n".join(lines) + "\n"


def _document_table(documents: Mapping[str, Any]) -> list[str]:
    """Return the counts of documents, a line a count and a column a corpus, and each corpus's share of the text."""
    sources: Mapping[str, Mapping[str, Any]] = documents.get("by_source", {})
    counts = {name: value for name, value in documents.items() if isinstance(value, int | float | str)}
    rows = [(name.replace("_", " "), *(_value(source.get(name, "")) for source in sources.values()), _value(total)) for name, total in counts.items()]
    if shares := documents.get("text_shares"):
        rows.append(("share of the text", *(_value(shares.get(source, "")) for source in sources), ""))
    return _table(("documents", *sources, "all"), rows)


def _unit_lines(shards: Mapping[str, Shards], vocab: Vocab) -> list[str]:
    """Return of words, phrases and entities their share of tokens, the most frequent ones and others spread over all, from a few row groups."""
    seen: dict[int, Counter[str]] = {WORD: Counter(), PHRASE: Counter(), ENTITY: Counter()}
    tokens: Counter[int] = Counter()
    name = "knowledge_masking" if "knowledge_masking" in shards else next(iter(shards), "")
    for group in _groups(shards[name]) if name else ():
        rows = shards[name].read_group(group)
        for piece in (piece for i in range(len(rows)) for piece in pieces(rows.sample(i), vocab, "") if piece.kind != SPECIAL):
            seen[piece.kind][piece.text.strip("【】〈〉")] += 1
            tokens[piece.kind] += piece.end - piece.start
    table = []
    for kind, found in seen.items():
        often = [text for text, _ in sorted(found.items(), key=lambda item: (-item[1], item[0]))]
        spread = sorted(often[_UNITS_SHOWN:])
        others = spread[:: max(1, -(-len(spread) // _UNITS_SHOWN))]
        cells = (", ".join(printable(text, 80) for text in some) for some in (often[:_UNITS_SHOWN], others))
        table.append((kind_name(kind), _value(tokens[kind] / max(1, tokens.total())), _value(len(found)), *cells))
    intro = f"What masking may hide as one, as it stands in a few row groups of {name}; words inside phrases and entities are not counted as words."
    return [intro, "", *_table(("unit", "share of tokens", "different ones", "most frequent", "others"), table)]


def _left_out(documents: Mapping[str, Any]) -> list[str]:
    """Return three documents of each reason, so that a person can judge the rule."""
    rows = [(f"rejected: {r['reason']}", r["path"], f"byte {r['offset']}", f"bytes {r['head_hex'][:32]}") for r in documents.get("rejects", [])[:3]]
    for name, found in documents.get("filtered_documents", {}).items():
        rows += [("filtered: " + name, d["work"], d["title"], d["head"]) for d in found]
    rows += [("contaminated: " + d["benchmark"], d["work"], d["title"], d["head"]) for d in documents.get("contaminated_documents", [])[:3]]
    for pair in documents.get("near_duplicate_documents", [])[:3]:
        for side, what in (("left_out", f"near-duplicate, {pair['estimate']}"), ("kept", "which stays")):
            rows.append((what, pair[side]["work"], f"split {pair[side]['split']}, document {pair[side]['index']}", pair[side]["head"]))
    for source, found in documents.get("boilerplate", {}).items():
        rows += [("boilerplate line", f"corpus {source}", "", line) for line in found[:3]]
    for name, why in (("cut_line_samples", "no whole line"), ("prompt_line_samples", "speaks of the page")):
        for source, found in documents.get(name, {}).items():
            rows += [(why, f"corpus {source}", "", line) for line in found]
    return _table(("reason", "file", "title or place", "begins"), [tuple(printable(cell, 120) for cell in row) for row in rows])


def _audit_lines(audit: Mapping[str, Any]) -> list[str]:
    """Return the bars, one baseline a line; a trained model is worth what it adds to the best of them."""
    rows = []
    for task, result in audit.items():
        for bar, value in result["bars"].items():
            best = " (best)" if bar == result["best_bar_name"] else ""
            more = [_value(result.get(figure, {}).get(bar, "")) for figure in _TOKEN_FIGURES]
            rows.append((task, str(result["metric"]), bar + best, _value(value), *more))
        if not result["bars"]:
            rows.append((task, str(result["metric"]), "too few rows to audit", "", *[""] * len(_TOKEN_FIGURES)))
    intro = (
        "What baselines that see only a shortcut reach on held-out rows. A trained model is judged against the best of them, never against chance. "
        "Loss is in nats, lower is better; the other metrics are shares, higher is better."
    )
    return [intro, "", *_table(("task", "metric", "baseline", "value", *_TOKEN_FIGURES.values()), rows)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return ["none"]
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *([c.replace("|", "\\|") for c in row] for row in rows))]


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested facts as (path, value): {"documents": {"read": 7}} -> ("documents: read", "7"); of long lists, how long they are."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}: ")
        elif isinstance(value, list | tuple):
            yield prefix + name, f"{len(value)} named in the manifest"
        else:
            yield prefix + name, _value(value)


def _value(value: Any) -> str:
    """Return a fact as one cell: 12,345; a: 1, b: 2; 0.1234."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {_value(v)}" for k, v in value.items()) or "none"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value), 400)


def _length_cells(shards: Shards) -> list[str]:
    lengths = np.concatenate([np.zeros(0, np.int64), *shards.group_lengths])
    if not len(lengths):
        return [""] * 4
    return [f"{q:.0f}" for q in np.percentile(lengths, (10, 50, 90, 100), method="nearest")]


def _groups(shards: Shards) -> list[int]:
    """Return the numbers of the first, middle and last row group."""
    return sorted({0, shards.num_groups // 2, shards.num_groups - 1}) if shards.num_groups else []


def _spread(shards: Shards) -> list[Sample]:
    """Return up to 20 rows spread evenly over the first, middle and last row group."""
    groups = _groups(shards)
    samples: list[Sample] = []
    for i, group in enumerate(groups):
        rows = shards.read_group(group)
        wanted = SAMPLES_PER_TASK * (i + 1) // len(groups) - SAMPLES_PER_TASK * i // len(groups)
        samples += [rows.sample(int(r)) for r in np.unique(np.linspace(0, len(rows) - 1, min(wanted, len(rows))).astype(np.int64))]
    return samples
