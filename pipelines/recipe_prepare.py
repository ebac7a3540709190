"""What a recipe says of raw text and its preparation: `corpora` and `prepare`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipelines.recipe_base import FilterName, MemoryGb, OnDisk, Package, Positive, Rate, ReaderName, Settings, Share, TaskName, free, memory_field

Encoding = Literal["utf-8", "gb18030", "big5", "latin-1", "cp1252"]


class Corpus(Settings):
    package: Package | None = Field(None, description="an installed package to import: inews, peoples_daily, reviews")
    reader: ReaderName | None = Field(
        None, description="what the files look like: text, jsonl, parquet, csv, tsv, segmented, dialogue, qa, query_title, pairs, markdown, html"
    )
    path: str | None = Field(None, description="files, a glob from the current folder, or s3://, gs://; .gz, .bz2, .xz and .zst are expanded")
    options: dict[str, Any] = Field({}, description="of the reader, see below it in --print-config")
    encoding: Encoding = Field("utf-8", description="of the files: utf-8, gb18030, big5, latin-1, cp1252")
    fallback_encoding: Encoding | None = Field(None, description="for records that are not in the encoding; null: they are rejected")
    share: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="share of its documents to use, chosen by their hash")
    weight: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="largest share of all text that is this corpus's, in characters; what is beyond is left out by hash; null: no bound"
    )
    work: Literal["file", "folder"] = Field("file", description="what is one work (a book): file, folder")
    archives: bool = Field(False, description="whether tar and zip files are opened")
    members: str = Field("**", description="glob of an archive's members to read")
    max_document_bytes: Annotated[int, Field(ge=1, le=1 << 28)] = Field(32_000_000, description="longest record, bytes; longer ones are rejected")
    max_files: Positive = free(100_000, "most files, and most members of an archive")
    max_expanded_bytes: Positive = free(1 << 40, "most bytes that one compressed file or archive may expand to")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.package is None) == (self.reader is None):
            raise ValueError("give either package, or reader and path")
        if (self.reader is None) != (self.path is None):
            raise ValueError("reader and path go together")
        fields = type(self).model_fields
        reads = [name for name in fields if name not in {"package", "share", "weight"} and getattr(self, name) != fields[name].default]
        if self.package is not None and reads:
            raise ValueError(f"{', '.join(reads)}: goes with reader and path, not with package")
        if self.reader is not None:
            from corpus_prep.readers.base import all_readers

            all_readers()[self.reader].complete(self.options)
        return self

    def notes(self) -> list[str]:
        """Return what the reader's options mean, a line each."""
        from corpus_prep.readers.base import all_readers

        return [] if self.reader is None else all_readers()[self.reader].explain()


class LongRows(Settings):
    max_seq_len: Annotated[int, Field(ge=32, le=4096)] = Field(512, description="longest of the long rows, tokens; over prepare.max_seq_len")
    share: Annotated[float, Field(gt=0, lt=1)] = Field(0.1, description="share of documents whose rows are long, for tasks that have long rows")


class Prepare(Settings):
    split_bytes: Annotated[int, Field(ge=1024)] = Field(4_000_000, description="bytes of input in one unit of work")
    group_rows: Annotated[int, Field(ge=8, le=65536)] = Field(512, description="rows in a row group of a shard")
    encodings: Annotated[list[Literal["parquet", "text"]], Field(min_length=1)] = Field(
        ["parquet", "text"], description="shard encodings to write: parquet, text"
    )
    valid_share: Annotated[float, Field(gt=0, lt=0.5)] = Field(0.02, description="share of documents kept for validation")
    max_seq_len: Annotated[int, Field(ge=16, le=512)] = Field(128, description="longest row, tokens")
    long_rows: LongRows | None = Field(
        None, description="rows for a last stage of pretraining on longer text (pretrain.long_share): {max_seq_len: 512, share: 0.1}; null: none"
    )
    vocab_size: Annotated[int, Field(ge=64, le=200_000)] = Field(6000, description="largest vocabulary, tokens")
    vocab: OnDisk | None = Field(None, description="a vocabulary file to use instead of building one")
    user_dictionary: OnDisk | None = Field(None, description="a file of further Chinese words, in the format of jieba's: word [frequency] [tag]")
    gazetteer: OnDisk | None = Field(None, description="a file of names, one a line, that are entities wherever they stand between borders of words")
    to_simplified: bool = Field(False, description="turn traditional Chinese characters into simplified ones, here and wherever the model is used")
    html_entities: bool = Field(False, description="replace HTML entities such as &nbsp; by their characters")
    escapes: bool = Field(
        False,
        description="let a written-out \\n or \\r (a backslash and a letter, as scraped text has them) end a paragraph, and take a \\t for a space",
    )
    whole_lines: bool = Field(
        False,
        description="take out lines of running text that do not begin and end as text does: headings, captions, menus, list items, what was cut off; for web pages",
    )
    prompt_lines: bool = Field(
        False,
        description="take out short lines of running text that speak of the page: asks to follow, share, comment or click, editor, source, rights; for web pages",
    )
    filters: dict[FilterName, float] = Field(
        {},
        description="leave poor documents out: min_chars, max_chars, min_language_share, max_repeated_sentences, max_repeated_lines, max_repeated_runs, max_line_chars, max_top_char, max_top_run, max_broken_sentences, max_advert_words, each with its number",
    )
    near_duplicates: Annotated[float, Field(ge=0.5, le=1)] | None = Field(
        None, description="leave out documents that resemble an earlier one at least so much (Jaccard, 5-token runs; estimated, 0.8 is usual)"
    )
    boilerplate_share: Rate | None = Field(
        None, description="take out lines that stand in more than this share of a corpus's documents (0.01: one in 100)"
    )
    phrases: Annotated[float, Field(gt=0, le=1)] | None = Field(
        0.45, description="least strength (NPMI) of neighbouring words that make a phrase, which masking may hide as one; null: no phrases"
    )
    exclude_benchmarks: bool = Field(True, description="leave out documents that share a 13-token run with a dev or test text of the benchmarks")
    max_reject_fraction: Share = Field(0.001, description="share of unreadable documents above which preparation stops")
    tasks: Annotated[dict[TaskName, dict[str, Any]], Field(min_length=1)] = Field(
        {"knowledge_masking": {}, "next_sentence": {}, "sentence_reordering": {"max_segments": 3}, "token_document": {}},
        description="pretraining tasks to build rows for, each with its own options",
    )
    carry: list[TaskName] = Field(
        [], description="token-level tasks whose labels the rows of sentence_reordering and discourse_relation hold too, for pretrain.stages' carry"
    )

    memory_gb: MemoryGb = memory_field("worker")

    @property
    def longest_row(self) -> int:
        """Tokens of the longest row."""
        return self.long_rows.max_seq_len if self.long_rows else self.max_seq_len

    @model_validator(mode="after")
    def _long_rows_are_longer(self) -> Self:
        if self.long_rows is not None and self.long_rows.max_seq_len <= self.max_seq_len:
            raise ValueError(f"long_rows.max_seq_len {self.long_rows.max_seq_len} is not over max_seq_len {self.max_seq_len}")
        return self

    @field_validator("carry")
    @classmethod
    def _token_level(cls, carry: list[str]) -> list[str]:
        from ernie_core.tasks.base import all_tasks

        can = [name for name, task in all_tasks().items() if task.label_words is not None]
        if wrong := [name for name in carry if name not in can]:
            raise ValueError(f"{', '.join(wrong)}: only labels of single tokens are carried: {', '.join(sorted(can))}")
        if len(set(carry)) < len(carry):
            raise ValueError("a task stands there twice")
        return carry

    @model_validator(mode="after")
    def _rows_that_carry(self) -> Self:
        from ernie_core.tasks.base import all_tasks

        if self.carry and not any(all_tasks()[name].carries for name in self.tasks):
            raise ValueError(f"carry: none of the tasks has rows that can hold {', '.join(self.carry)}; take it out")
        return self

    @field_validator("filters")
    @classmethod
    def _possible_filters(cls, filters: dict[str, float]) -> dict[str, float]:
        from corpus_prep.filters import check_filters

        check_filters(filters)
        return filters

    @field_validator("tasks")
    @classmethod
    def _known_options(cls, tasks: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        from ernie_core.tasks.base import all_tasks

        known = all_tasks()
        for name, options in tasks.items():
            known[name].classes(options)
        return tasks
