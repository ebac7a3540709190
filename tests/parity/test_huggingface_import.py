"""A model of Hugging Face's transformers brought in: its texts give the ids that its own tokenizer gives, before and after an export."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest
import transformers
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers.normalizers import BertNormalizer

from ernie_core.benchmarks.base import all_benchmarks
from ernie_core.benchmarks.classification import encode_rows
from ernie_core.benchmarks.packed import existing
from ernie_core.errors import IntegrityError
from ernie_core.interop.tokenizer_json import normaliser_of
from ernie_core.normalise import Normaliser, normalise
from ernie_core.normalise_bert import BertForm
from ernie_core.tokenization import Tokenizer, load_tokenizer
from ernie_core.vocab import SPECIAL_TOKENS, Vocab
from pipelines.export import export
from pipelines.initial import own_folder

pytestmark = pytest.mark.parity
TOKENS = (
    *SPECIAL_TOKENS,
    *"abcdeiouABCE12éßσ好，!",
    "##b",
    "##c",
    "##é",
    "##1",
    "cafe",
    "café",
    "Café",
    "ａ",
    "##ａ",
    "i\u0307",
    "\u1112",
    "##\u1161",
    "##\u11ab",
)
FORMS = {"uncased": (True, None), "uncased with accents": (True, False), "cased": (False, None), "cased without accents": (False, True)}
GLUE = {"cola": "CoLA", "sst2": "SST-2", "mrpc": "MRPC", "stsb": "STS-B"}
NUM_NEWER = 454
"""Code points assigned in Python's Unicode 14 whose category their tokenizers' older tables do not have."""
COMBINED = st.text(
    st.one_of(
        st.sampled_from("José Ａｂ１ ab\u200b\u00ad\u3000\u2028İΣςßé\u0301한\u1112\u1161\ufe0f👩好\uf900\x0b\x1c\x85\ufffd\u115f"),
        st.characters(exclude_categories=["Cs", "Cn"]),
    ),
    max_size=40,
)


def saved(folder: Path, lower: bool, accents: bool | None, tokens: Sequence[str] = TOKENS) -> transformers.PreTrainedTokenizerBase:
    """Write a tokenizer of BERT's as transformers saves it, with its vocabulary, and return it as AutoTokenizer reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "vocab.txt"
    table.write_bytes(Vocab(tuple(tokens)).to_bytes())
    transformers.BertTokenizer(vocab=str(table), do_lower_case=lower, strip_accents=accents).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert"}), encoding="utf-8")
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Tokenizer, transformers.PreTrainedTokenizerBase]]:
    """Name of a form -> (ours, theirs)."""
    found = {}
    for name, (lower, accents) in FORMS.items():
        folder = tmp_path_factory.mktemp("theirs")
        theirs = saved(folder, lower, accents)
        found[name] = Tokenizer(Vocab(TOKENS), normaliser_of(folder)), theirs
    return found


def newer(lower: bool, accents: bool) -> set[str]:
    """Return the assigned code points of which theirs makes something else than ours."""
    theirs, ours = BertNormalizer(True, False, accents, lower), BertForm(lower, accents)
    codes = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in {"Cs", "Cn"}]
    assert len(codes) > 280_000
    return {c for c in codes if ours(f"a{c}b")[0] != " ".join(theirs.normalize_str(f"a{c}b").split())}


@pytest.fixture(scope="module")
def new() -> set[str]:
    """Code points that are left out of made-up texts."""
    return newer(lower=True, accents=True) | newer(lower=True, accents=False)


def test_every_code_point_but_newer_marks_is_normalised_as_by_theirs() -> None:
    found = newer(lower=True, accents=True)
    assert {unicodedata.category(c) for c in found} == {"Mn", "Mc", "Cf"}
    assert len(found) <= NUM_NEWER
    assert {unicodedata.category(c) for c in newer(lower=False, accents=False)} == {"Cf"}


@given(COMBINED)
@pytest.mark.parametrize("form", FORMS)
def test_ids_of_any_text_are_theirs(
    form: str, pairs: dict[str, tuple[Tokenizer, transformers.PreTrainedTokenizerBase]], new: set[str], text: str
) -> None:
    ours, theirs = pairs[form]
    assume(new.isdisjoint(text))
    assert ours.encode(text) == theirs(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("every", [pytest.param(20, id="sample"), pytest.param(1, id="all", marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
@pytest.mark.parametrize("name", GLUE)
def test_ids_of_glue_are_those_of_bert_uncased(name: str, every: int, test_data: Path, tmp_path: Path) -> None:
    """All rows with a character beyond ASCII, and of the others each of so many, with special tokens and sentence types, at most 128 tokens."""
    vocab = Vocab.load(test_data / "ernie_reference" / "vocab_en.txt")
    theirs = saved(tmp_path, lower=True, accents=None, tokens=vocab.tokens)
    ours, benchmark = Tokenizer(vocab, normaliser_of(tmp_path)), all_benchmarks()[name]
    accented = 0
    for sources in benchmark.sources.values():
        source = next(s for s in sources if existing(test_data / "glue" / GLUE[name] / s.file).exists())
        examples = source.layout.read(test_data / "glue" / GLUE[name] / source.file, benchmark).examples
        rows = [e for i, e in enumerate(examples) if i % every == 0 or not "".join(e.texts).isascii()]
        accented += sum(not "".join(e.texts).isascii() for e in rows)
        columns = [list(column) for column in zip(*(e.texts for e in rows), strict=True)]
        samples, _ = encode_rows(rows, ours, 128)
        found = theirs(*columns, truncation=True, max_length=128)
        for row, sample, ids, types in zip(rows, samples, found["input_ids"], found["token_type_ids"], strict=True):
            assert (sample.token_ids, sample.sentence_type_ids) == (ids, types), row.texts
    assert accented >= 10


def test_what_was_brought_in_is_exported_with_its_own_normalisation(tmp_path: Path) -> None:
    torch_config = transformers.BertConfig(vocab_size=len(TOKENS), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=32)
    transformers.BertModel(torch_config).save_pretrained(tmp_path / "theirs")
    for form, (lower, accents) in FORMS.items():
        theirs = saved(tmp_path / "tokenizer", lower, accents)
        for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
            (tmp_path / "theirs" / name).write_bytes((tmp_path / "tokenizer" / name).read_bytes())
        ours = own_folder(tmp_path / "theirs", tmp_path / form)
        export(ours, tmp_path / f"{form} again")
        again = transformers.AutoTokenizer.from_pretrained(tmp_path / f"{form} again")
        text = "Café ａ İ 한 !"
        expected = theirs(text, add_special_tokens=False)["input_ids"]
        assert load_tokenizer(ours / "vocab.txt").encode(text) == again(text, add_special_tokens=False)["input_ids"] == expected
        assert normaliser_of(tmp_path / f"{form} again") == load_tokenizer(ours / "vocab.txt").normaliser


def test_a_model_that_we_exported_keeps_our_normaliser_and_a_bare_vocabulary_gets_berts(tmp_path: Path) -> None:
    from ernie_core.interop.tokenizer_json import tokenizer_json

    assert normaliser_of(tmp_path) == Normaliser(bert=BertForm())
    (tmp_path / "tokenizer.json").write_text(tokenizer_json(Vocab(TOKENS)), encoding="utf-8")
    assert normaliser_of(tmp_path) == normalise


@pytest.mark.parametrize(
    ("body", "options", "says"),
    [
        ({"normalizer": {"type": "NFKC"}}, {}, "NFKC"),
        ({"normalizer": {"type": "BertNormalizer", "handle_chinese_chars": False}}, {}, "'handle_chinese_chars': False"),
        ({}, {"tokenize_chinese_chars": False}, "'handle_chinese_chars': False"),
        ({"normalizer": {"type": "BertNormalizer", "clean_text": False}}, {}, "'clean_text': False"),
        ({"model": {"type": "BPE"}}, {}, "BPE"),
    ],
)
def test_another_tokenizer_is_refused(body: dict[str, object], options: dict[str, object], says: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(body), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(options), encoding="utf-8")
    with pytest.raises(IntegrityError, match="E-INTEROP-TOKENIZER") as e:
        normaliser_of(tmp_path)
    assert says in str(e.value.found)
    (tmp_path / "tokenizer.json").write_text("{", encoding="utf-8")
    with pytest.raises(IntegrityError, match="damaged"):
        normaliser_of(tmp_path)
