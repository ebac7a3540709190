"""A WordPiece vocabulary from counts of basic tokens: the same bytes for the same counts, in any order and on any machine.

Written because the trainer in `tokenizers` gives another vocabulary on every run (DESIGN, Dependencies). Single characters come
first, by frequency; a reserved share goes to pieces of longer basic tokens (Latin words, numbers), made by merges as in BPE
(Sennrich et al. 2016) with ties broken by string, and written as WordPiece (Wu et al. 2016): `##` marks what continues a token.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise

from ernie_core.vocab import SPECIAL_TOKENS, Vocab

PIECE_SHARE = 8  # one token in 8 is reserved for pieces of longer basic tokens
MAX_WORD_CHARS = 30  # longer runs are addresses and keys, from which no merge is learned
MAX_WORDS = 1 << 18  # the most frequent ones teach merges, in 0.3 GB; rarer ones hardly count
MIN_PAIR_COUNT = 2


def build_vocab(counts: Mapping[str, int], vocab_size: int) -> Vocab:
    """Return at most `vocab_size` tokens: specials, characters by (-count, string), continuations, merged pieces in order of merging.

    Args:
        counts: basic token -> occurrences in the corpus.
        vocab_size: upper bound, specials included.

    Example: ``build_vocab({"好": 9, "ab": 3}, 100).tokens[5:]`` -> ``("好", "a", "##b", "ab")``.
    """
    singles: Counter[str] = Counter()
    continued: Counter[str] = Counter()
    words: dict[str, int] = {}
    for token, count in counts.items():
        singles[token[0]] += count
        if len(token) > 1:
            for c in token[1:]:
                continued[c] += count
            if len(token) <= MAX_WORD_CHARS:
                words[token] = count
    if len(words) > MAX_WORDS:
        words = {word: words[word] for word in heapq.nsmallest(MAX_WORDS, words, key=lambda word: (-words[word], word))}
    room = vocab_size - len(SPECIAL_TOKENS)
    reserved = room // PIECE_SHARE
    tails = [f"##{c}" for c in _by_count(continued)[: reserved // 2]]
    needed = min(reserved, len(tails) + sum(len(w) - 1 for w in words))
    heads = _by_count(singles)[: room - needed]
    pieces = merged_pieces(words, {*heads, *tails}, room - len(heads) - len(tails))
    heads = _by_count(singles)[: room - len(tails) - len(pieces)]
    return Vocab((*SPECIAL_TOKENS, *heads, *tails, *pieces))


def _by_count(counts: Mapping[str, int]) -> list[str]:
    return sorted(counts, key=lambda token: (-counts[token], token))


def merged_pieces(words: Mapping[str, int], alphabet: Iterable[str], limit: int) -> list[str]:
    """Return up to `limit` pieces, each the most frequent neighbouring pair when it was made; ties go to the lesser pair of strings.

    Words with a character outside `alphabet` are left out.

    Example: ``merged_pieces({"the": 5, "then": 2}, {"t", "##h", "##e", "##n"}, 2)`` -> ``["##he", "the"]``.
    """
    known = set(alphabet)
    spelled = [(_spell(word), words[word]) for word in sorted(words)]
    entries = [(pieces, count) for pieces, count in spelled if known.issuperset(pieces)]
    pair_counts: Counter[tuple[str, str]] = Counter()
    where: dict[tuple[str, str], set[int]] = defaultdict(set)
    for i, (pieces, count) in enumerate(entries):
        for pair in pairwise(pieces):
            pair_counts[pair] += count
            where[pair].add(i)
    heap = [(-count, pair) for pair, count in pair_counts.items()]
    heapq.heapify(heap)
    made: list[str] = []
    while heap and len(made) < limit:
        count, pair = heapq.heappop(heap)
        if pair_counts[pair] != -count:
            continue
        if -count < MIN_PAIR_COUNT:
            break
        piece = pair[0] + pair[1].removeprefix("##")
        if piece not in known:
            known.add(piece)
            made.append(piece)
        changed: set[tuple[str, str]] = set()
        for i in sorted(where.pop(pair)):
            pieces, count = entries[i]
            joined = _join(pieces, pair, piece)
            for old in pairwise(pieces):
                pair_counts[old] -= count
                changed.add(old)
            for new in pairwise(joined):
                pair_counts[new] += count
                where[new].add(i)
                changed.add(new)
            entries[i] = (joined, count)
        for other in changed:
            if pair_counts[other] > 0:
                heapq.heappush(heap, (-pair_counts[other], other))
    return made


def _spell(word: str) -> list[str]:
    return [word[0], *(f"##{c}" for c in word[1:])]


def _join(pieces: list[str], pair: tuple[str, str], piece: str) -> list[str]:
    joined: list[str] = []
    i = 0
    while i < len(pieces):
        if i + 1 < len(pieces) and (pieces[i], pieces[i + 1]) == pair:
            joined.append(piece)
            i += 2
        else:
            joined.append(pieces[i])
            i += 1
    return joined
