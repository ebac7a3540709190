from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path

import pytest
from prepare_helper import SETTINGS, bytes_of, document, run_prepare, write_corpus

from corpus_prep.dedup import contamination_table
from corpus_prep.pass_one import Plan, pass_one
from corpus_prep.selection import sampled, select_documents
from corpus_prep.splits import plan_splits, read_split
from corpus_prep.stages import Stages
from corpus_prep.tables import SpanPool, length_bin, pack, subset_of, unpack
from ernie_core.data.shards import ShardSet
from ernie_core.errors import InputError
from ernie_core.manifest import read_manifest
from ernie_core.normalise import normalise


def copy_of(corpus: Path, target: Path) -> Path:
    write_corpus(target)
    assert (target / "two.jsonl").read_bytes() == (corpus / "two.jsonl").read_bytes()
    return target


def test_two_runs_from_scratch_give_equal_bytes(corpus: Path, whole: Path, tmp_path: Path) -> None:
    run_prepare(corpus, tmp_path)
    assert bytes_of(tmp_path) == bytes_of(whole)


def test_every_document_is_accounted_for(whole: Path) -> None:
    facts = read_manifest(whole, "prepare").facts["documents"]
    assert (facts["read"], facts["contaminated"], facts["contaminated_by"]) == (40, 1, {"toy": 1})
    assert facts["kept"] + facts["empty"] + facts["rejected"] + facts["duplicates"] + facts["contaminated"] == 40
    assert [d["title"] for d in facts["contaminated_documents"]] == ["题"]


def test_every_task_has_rows_in_both_subsets_and_encodings(corpus: Path, tmp_path: Path) -> None:
    more = {"sentence_distance": {}, "sentence_reordering": {"max_segments": 3}, "token_document": {}}
    manifest = run_prepare(corpus, tmp_path, tasks={**SETTINGS["tasks"], "next_sentence": {"classes": 3}, **more})
    assert len(manifest.facts["tasks"]) == 5
    for task in manifest.facts["tasks"]:
        facts = manifest.facts["tasks"][task]
        for subset in ("train", "valid"):
            rows = [ShardSet.open(tmp_path, manifest, task, subset, encoding).num_rows for encoding in ("parquet", "text")]
            assert rows == [facts[subset]["rows"]] * 2
            assert rows[0] > 0


def test_no_valid_document_lends_a_negative_to_training(whole: Path) -> None:
    negatives = unpack((whole / "tables" / "negatives.json.zst").read_bytes())
    for subset, spans in negatives.items():
        assert spans
        assert {subset_of(doc_id, SETTINGS["valid_share"], 7) for _, doc_id, *_ in spans} == {subset}


def test_finished_splits_are_kept_and_a_changed_file_redoes_its_own(corpus: Path, tmp_path: Path) -> None:
    copy, out = copy_of(corpus, tmp_path / "in"), tmp_path / "out"
    first = run_prepare(copy, out)
    said: list[str] = []
    assert run_prepare(copy, out, said=said) == first
    assert [line.split(": ")[-1] for line in said if " pass " in line] == ["6 done before", "6 done before"]

    lines = (copy / "two.jsonl").read_text().replace("北京", "上海", 1)
    (copy / "two.jsonl").write_text(lines)
    said.clear()
    assert run_prepare(copy, out, said=said).sha256 != first.sha256
    passes = [line for line in said if " pass " in line]
    assert passes[0].endswith("5 done before; 1 input changed")
    assert "negatives.json.zst changed" in passes[1]


def test_a_damaged_or_missing_file_is_made_again(corpus: Path, whole: Path, tmp_path: Path) -> None:
    run_prepare(corpus, tmp_path)
    victim = next((tmp_path / "shards" / "next_sentence").glob("*.parquet"))
    victim.write_bytes(victim.read_bytes()[:-1])
    (tmp_path / "documents" / "00002.json.zst").unlink()
    (tmp_path / "entries" / "1-00004.json").write_bytes(b"{")
    said: list[str] = []
    run_prepare(corpus, tmp_path, said=said)
    assert bytes_of(tmp_path) == bytes_of(whole)
    passes = [line for line in said if " pass " in line]
    assert "documents/00002.json.zst missing or damaged" in passes[0]
    assert "its entry was damaged" in passes[0]
    assert f"{victim.relative_to(tmp_path)} missing or damaged" in passes[1]


def test_one_unreadable_document_is_left_out_and_named(tmp_path: Path) -> None:
    write_corpus(tmp_path / "in", extra=b'{"text": "\xff"}\n')
    said: list[str] = []
    facts = run_prepare(tmp_path / "in", tmp_path / "out", said=said).facts["documents"]
    assert (facts["read"], facts["rejected"]) == (41, 1)
    (named,) = facts["rejects"]
    assert (named["reason"], named["path"]) == ("not UTF-8", str(tmp_path / "in" / "two.jsonl"))
    assert any("two.jsonl byte" in line and "not UTF-8" in line for line in said)


def test_too_many_unreadable_documents_stop_the_run_and_name_the_encoding(tmp_path: Path) -> None:
    foreign = ("\n\n".join(document(i) for i in range(100, 112))).encode("gb18030")
    write_corpus(tmp_path / "in")
    (tmp_path / "in" / "foreign.txt").write_bytes(foreign)
    with pytest.raises(InputError) as e:
        run_prepare(tmp_path / "in", tmp_path / "out")
    assert (e.value.code, e.value.exit_code, e.value.found) == ("E-REJECTS", 3, "12 of 52")
    assert "gb18030" in e.value.fix
    assert "foreign.txt byte 0" in e.value.where


def test_a_corpus_without_any_text_is_an_error(tmp_path: Path) -> None:
    write_corpus(tmp_path / "in")
    (tmp_path / "in" / "two.jsonl").write_text('{"title": "", "text": " \\u200b"}\n' * 5)
    (tmp_path / "in" / "one.txt").write_bytes("　\n\n　\n".encode())
    with pytest.raises(InputError) as e:
        run_prepare(tmp_path / "in", tmp_path / "out")
    assert (e.value.code, e.value.found) == ("E-CORPUS-EMPTY", "7 records, 0 unreadable")


def test_one_document_is_too_few_for_a_task_with_negatives(tmp_path: Path) -> None:
    write_corpus(tmp_path / "in", num_documents=2)
    with pytest.raises(InputError) as e:
        run_prepare(tmp_path / "in", tmp_path / "out")
    assert (e.value.code, e.value.exit_code) == ("E-TASK-EMPTY", 3)
    assert "next_sentence" in e.value.what


def test_equal_documents_stand_once_over_all_splits(corpus: Path, tmp_path: Path) -> None:
    copy = copy_of(corpus, tmp_path / "in")
    with (copy / "one.txt").open("a") as f:
        f.write("\n" + document(0).replace("\n", "\n　") + "\n\n" + document(39) + "\n")
    facts = run_prepare(copy, tmp_path / "out").facts["documents"]
    assert (facts["read"], facts["duplicates"], facts["kept"]) == (42, 2, 39)


def test_a_brought_vocabulary_is_used_and_one_that_does_not_fit_is_refused(corpus: Path, whole: Path, tmp_path: Path) -> None:
    facts = run_prepare(corpus, tmp_path / "a", vocab=str(whole / "tables" / "vocab.txt")).facts
    assert facts["vocab"]["built"] is False
    assert facts["vocab"]["sha256"] == read_manifest(whole).facts["vocab"]["sha256"]
    (tmp_path / "vocab.txt").write_text("[PAD]\n[CLS]\n[SEP]\n[MASK]\n[UNK]\n。\n")
    with pytest.raises(InputError, match="E-VOCAB-UNKNOWN"):
        run_prepare(corpus, tmp_path / "b", vocab=str(tmp_path / "vocab.txt"))


def test_work_on_a_split_is_skipped_only_when_all_it_depends_on_is_equal(corpus: Path, whole: Path) -> None:
    split = plan_splits({"one": {"reader": "text", "path": str(corpus / "*.txt")}}, SETTINGS["split_bytes"])[0]
    tables = {"contamination.npy": json.loads((whole / "entries" / "1-00000.json").read_bytes())["inputs"]["benchmarks"]}
    assert pass_one(split, Plan(str(whole), 7, SETTINGS, ("toy",), tables, phrase_share=1.0), Stages()) == []


def test_text_and_parquet_hold_the_seeds_five_fields(whole: Path) -> None:
    shard = next((whole / "shards" / "next_sentence").glob("train-*.txt.gz"))
    for line in gzip.decompress(shard.read_bytes()).decode().splitlines():
        fields = line.split(";")
        assert len(fields) == 5
        assert len({len(f.split(" ")) for f in fields[:4]}) == 1


def test_pool_draws_the_same_length_from_another_document() -> None:
    def span(doc_id: str, text: str) -> list[object]:
        return [0, doc_id, "s", f"work of {doc_id}", length_bin(len(text)), [["\x7f".join(text), [], None]]]

    pool = SpanPool([span("a", "一二三四五"), span("b", "六七八九十"), span("c", "长" * 70)])
    assert {pool.draw("s", 5, "a", k).doc_id for k in range(9)} == {"b"}  # type: ignore[union-attr]
    assert pool.draw("s", 5, "x", 3) == pool.draw("s", 7, "x", 3)
    assert pool.draw("t", 5, "x", 0) is None
    assert pool.draw("s", 70, "c", 0) is None
    assert {pool.draw("s", 5, "x", k, "work of a").doc_id for k in range(9)} == {"a"}  # type: ignore[union-attr]
    assert pool.draw("s", 5, "a", 0, "work of a") is None


def test_pool_draws_a_text_with_a_word() -> None:
    held = [
        [n, f"{n}", "s", f"work {n % 2}", length_bin(4), [[f"北京\x7f{word}", [], None]]] for n, word in enumerate(["下雨", "刮风", "下雨", "天晴"])
    ]
    pool = SpanPool(held)
    assert {pool.draw("s", 4, "x", k, word="下雨").doc_id for k in range(9)} == {"0", "2"}  # type: ignore[union-attr]
    assert {pool.draw("s", 4, "0", k, word="下雨").doc_id for k in range(9)} == {"2"}  # type: ignore[union-attr]
    assert {pool.draw("s", 4, "x", k, "work 1", "北京").doc_id for k in range(9)} == {"1", "3"}  # type: ignore[union-attr]
    assert pool.draw("s", 4, "x", 0, "work 1", "下雨") is None
    assert pool.draw("s", 4, "x", 0, word="大连") is None


def test_length_bins_rise_without_a_gap() -> None:
    bins = [length_bin(n) for n in range(1000)]
    assert all(0 <= b - a <= 1 for a, b in itertools.pairwise(bins))


def test_packing_is_deterministic() -> None:
    assert pack({"b": [1], "a": "文"}) == pack({"a": "文", "b": [1]})
    assert unpack(pack({"a": "文"})) == {"a": "文"}


def test_a_smaller_share_of_a_corpus_is_part_of_a_larger_one() -> None:
    ids = [f"{i:016x}" for i in range(4000)]
    kept = {share: {d for d in ids if sampled(d, share)} for share in (0.25, 0.5, 1.0)}
    assert kept[0.25] < kept[0.5] < kept[1.0] == set(ids)
    assert len(kept[0.25]) == pytest.approx(1000, abs=100)


def test_documents_beyond_the_share_are_counted(corpus: Path) -> None:
    split = plan_splits({"one": {"reader": "text", "path": str(corpus / "*.txt"), "share": 0.5}}, 1 << 20)[0]
    selection = select_documents(split, read_split(split)[0], contamination_table({}, normalise), SETTINGS)
    kept, facts = selection.kept, selection.facts
    assert facts["read"] == 20
    assert facts["unsampled"] > 0
    assert facts["kept"] + facts["unsampled"] == 20
    assert all(sampled(document.doc_id, 0.5) for document in kept)
