from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from corpus_prep.vocab_build import build_vocab, merged_pieces
from ernie_core.normalise import basic_tokens, normalise
from ernie_core.tokenization import Tokenizer
from ernie_core.vocab import SPECIAL_TOKENS, Vocab

COUNTS = st.dictionaries(
    st.text(st.sampled_from("abcde12"), min_size=1, max_size=8) | st.sampled_from("中国人民好。，"), st.integers(1, 50), max_size=40
)


def naive_merges(words: dict[str, int], limit: int) -> list[str]:
    """BPE by recounting every pair after every merge."""
    spelled = {w: [w[0], *("##" + c for c in w[1:])] for w in words}
    known = {p for pieces in spelled.values() for p in pieces}
    made: list[str] = []
    while len(made) < limit:
        pairs: Counter[tuple[str, str]] = Counter()
        for w, pieces in spelled.items():
            for i in range(len(pieces) - 1):
                pairs[pieces[i], pieces[i + 1]] += words[w]
        if not pairs or max(pairs.values()) < 2:
            break
        pair = min(pairs, key=lambda p: (-pairs[p], p))
        piece = pair[0] + pair[1][2:]
        if piece not in known:
            known.add(piece)
            made.append(piece)
        for pieces in spelled.values():
            i = 0
            while i < len(pieces) - 1:
                if (pieces[i], pieces[i + 1]) == pair:
                    pieces[i : i + 2] = [piece]
                i += 1
    return made


@given(st.dictionaries(st.text(st.sampled_from("aab"), min_size=2, max_size=9), st.integers(1, 9), max_size=12), st.integers(0, 20))
def test_merges_equal_those_of_a_plain_recount(words: dict[str, int], limit: int) -> None:
    alphabet = {p for w in words for p in (w[0], *("##" + c for c in w[1:]))}
    assert merged_pieces(words, alphabet, limit) == naive_merges(words, limit)


@given(COUNTS, st.integers(64, 200))
def test_two_builds_in_any_order_give_equal_bytes_within_the_bound(counts: dict[str, int], size: int) -> None:
    items = list(counts.items())
    random.Random(3).shuffle(items)
    vocab = build_vocab(counts, size)
    assert build_vocab(dict(items), size).to_bytes() == vocab.to_bytes()
    assert vocab.size <= size
    assert vocab.tokens[:5] == SPECIAL_TOKENS


@given(COUNTS)
def test_with_room_for_all_no_seen_token_is_unknown(counts: dict[str, int]) -> None:
    vocab = build_vocab(counts, 10_000)
    tokenizer = Tokenizer(vocab)
    assert all(vocab.unk_id not in tokenizer.encode_word(token) for token in counts)


def test_characters_stand_by_frequency_then_string_and_pieces_by_order_of_merging() -> None:
    vocab = build_vocab({"好": 9, "中": 9, "the": 5, "then": 2, "1": 1}, 200)
    assert vocab.tokens[5:] == ("中", "好", "t", "1", "##e", "##h", "##n", "##he", "the", "then")


def test_a_share_is_kept_for_pieces_when_characters_would_fill_the_vocabulary() -> None:
    counts = {chr(0x4E00 + i): 10 for i in range(1000)} | {"hello": 5, "help": 5}
    vocab = build_vocab(counts, 105)
    assert vocab.size == 105
    assert sum(len(t) > 1 for t in vocab.tokens[5:]) >= 4


def test_words_of_real_text_survive_encoding() -> None:
    text = normalise("GPT-4 和 BERT 在2018年10月发表，准确率 93.5%。")[0]
    vocab: Vocab = build_vocab(Counter(basic_tokens(text)), 500)
    tokenizer = Tokenizer(vocab)
    assert tokenizer.decode(tokenizer.encode(text)).replace(" ", "") == text.replace(" ", "")
