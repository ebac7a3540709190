"""Lines that stand in many documents of a corpus are taken out of all of them, and counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from prepare_helper import bytes_of, document, run_prepare, write_corpus

from corpus_prep.boilerplate import AT_LEAST, boilerplate_lines, offered_lines, sentences_of, without_lines
from corpus_prep.tables import unpack
from ernie_core.data.shards import ShardSet
from ernie_core.schemas import Document, Sentence, sentence_from_json
from ernie_core.vocab import Vocab

LINE = "版权所有，翻印必究。联系我们"


def made(*paragraphs: str, kind: str = "text") -> Document:
    return Document("0", "c", "", "", tuple((Sentence((p[:1], p[1:]), (), p),) for p in paragraphs), kind)


def test_lines_of_several_documents_are_offered_each_document_once() -> None:
    documents = [made("甲乙", "甲乙", "丙丁"), made("甲乙", "戊己"), made("丙" * 201), made("丙" * 201), made("甲乙", kind="dialogue")]
    assert offered_lines([d.to_json() for d in documents]) == {"甲乙": 2}


@pytest.mark.parametrize(("share", "found"), [(0.04, ["多", "少"]), (0.06, ["多"]), (0.2, [])])
def test_a_line_is_boilerplate_beyond_its_corpus_s_share(share: float, found: list[str]) -> None:
    counts = {"a": {"多": 11, "少": 5, "无": 2}, "b": {"多": AT_LEAST}}
    assert boilerplate_lines({"a": 100, "b": 10}, counts, share) == {"a": found, "b": []}


def test_only_whole_lines_of_running_text_are_taken_out() -> None:
    kept, taken = without_lines(made("甲乙", "甲乙丙", "甲乙"), {"甲乙"})
    assert kept is not None
    assert ([p[0].text for p in kept.paragraphs], taken) == (["甲乙丙"], 2)
    assert without_lines(made("甲乙", "甲乙"), {"甲乙"}) == (None, 2)
    dialogue = made("甲乙", kind="dialogue")
    assert without_lines(dialogue, {"甲乙"}) == (dialogue, 0)
    assert sentences_of({"c": [LINE]}) == {"c": {"版权所有，翻印必究。", "联系我们"}}


def test_a_preparation_takes_boilerplate_out_of_rows_and_negatives_and_counts_it(tmp_path: Path) -> None:
    write_corpus(tmp_path / "in")
    path = tmp_path / "in" / "one.txt"
    texts = [text.strip() + f"\n{LINE}" for text in path.read_text(encoding="utf-8").split("\n\n")]
    path.write_text("\n\n".join([*texts, LINE, document(900)]), encoding="utf-8")
    plain = run_prepare(tmp_path / "in", tmp_path / "plain").facts["documents"]
    manifest = run_prepare(tmp_path / "in", tmp_path / "out", boilerplate_share=0.5)
    facts = manifest.facts["documents"]
    assert facts["boilerplate"] == {"one": [LINE], "two": []}
    assert facts["boilerplate_lines"] == len(texts) + 1
    assert (facts["filtered_by"], facts["kept"]) == ({"boilerplate_share": 1}, plain["kept"] - 1)
    assert "| boilerplate line | corpus one |  | " + LINE + " |" in (tmp_path / "out" / "card.md").read_text().splitlines()

    def held(out: Path) -> bool:
        from ernie_core.manifest import read_manifest

        vocab = Vocab.load(out / "tables" / "vocab.txt")
        found = False
        for subset in ("train", "valid"):
            shards = ShardSet.open(out, read_manifest(out), "next_sentence", subset, "parquet")
            for group in range(shards.num_groups):
                rows = shards.read_group(group)
                found |= any("翻印必究" in "".join(vocab.tokens[t] for t in rows.sample(i).token_ids) for i in range(len(rows)))
        pool = unpack((out / "tables" / "negatives.json.zst").read_bytes())
        return found or "翻印必究" in "".join(s.text for spans in pool.values() for *_, rows in spans for s in map(sentence_from_json, rows))

    assert held(tmp_path / "plain")
    assert not held(tmp_path / "out")


def test_turning_an_option_on_redoes_pass_one_and_gives_the_bytes_of_a_fresh_run(corpus: Path, tmp_path: Path) -> None:
    run_prepare(corpus, tmp_path / "out")
    said: list[str] = []
    options = {"boilerplate_share": 0.5, "near_duplicates": 0.8}
    run_prepare(corpus, tmp_path / "out", said=said, **options)
    assert [line.split(": ")[-1] for line in said if " pass 1 " in line] == ["6 settings changed"]
    run_prepare(corpus, tmp_path / "fresh", **options)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "fresh")
