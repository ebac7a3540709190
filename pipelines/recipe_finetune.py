"""What a recipe may say of fine-tuning: benchmarks, where their rows lie, and how they are trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ernie_core.benchmarks.custom_form import UNSAID
from pipelines.recipe_base import (
    PRECISION_WORDS,
    REMOVED,
    MemoryGb,
    Name,
    OnDisk,
    Package,
    Positive,
    Precision,
    Rate,
    Settings,
    Share,
    free,
    memory_field,
)


class Custom(Settings):
    kind: Literal["classification", "regression", "ranking", "tagging", "span"] = Field(
        description="classification, regression (a number), ranking (answers of a question), tagging (a label a character), span (an answer in a context)"
    )
    format: Literal["tsv", "csv", "jsonl", "conll", "squad"] = Field(
        description="of the files: tsv, csv, jsonl; conll or tsv for tagging; squad for span"
    )
    labels: list[str] = Field(UNSAID.labels, description="names of the classes or tags, in the order of their ids")
    columns: dict[str, str | int] = Field(
        UNSAID.columns,
        description="text_a, text_b, label, value, group, id: the column's name, or its number from 0 without a header; {}: they have these names",
    )
    header: bool = Field(UNSAID.header, description="the first line names the columns")
    delimiter: str = Field(UNSAID.delimiter, description="between fields, of conll before the tag; empty: a tab, or a comma in csv")
    scheme: Literal["auto", "bio", "bmes", "bioes"] = Field(UNSAID.scheme, description="how tags mark chunks; auto: as the file shows")
    encoding: Literal["utf-8", "gb18030"] = Field(UNSAID.encoding, description="of tsv and csv files")
    language: Literal["zh", "en"] = Field(UNSAID.language, description="how answers of spans are compared: zh as CMRC2018, en as SQuAD")
    test_labelled: bool = Field(
        UNSAID.test_labelled, description="whether test rows of tsv, csv and jsonl have labels; without, they are predicted only"
    )


class BenchmarkSettings(Settings):
    package: Package | None = Field(None, description="an installed package to make reviews or daily_ner from: reviews, peoples_daily")
    path: OnDisk | None = Field(None, description="folder of the publisher's files, or of ERNIE's TSV")
    train: OnDisk | None = Field(None, description="a file instead of the folder's, or of data of your own")
    dev: OnDisk | None = Field(None, description="likewise, for development")
    test: OnDisk | None = Field(None, description="likewise, for test")
    custom: Custom | None = Field(None, description="data of your own under a name of your own: {kind, format, labels, columns, …}")
    train_rows: Positive | None = Field(None, description="training rows, chosen by hash; null: all, 1000 of a package")
    dev_rows: Positive | None = Field(None, description="development rows, which choose learning rate and step; null: all, 1000 of a package")
    test_rows: Positive | None = Field(None, description="test rows; null: all, 2000 of a package")
    preset: Literal["base", "large"] | None = Field(
        None,
        description="the publisher's epochs, batch size, learning rate, warmup, weight decay for a base or large model, where nothing else is set here",
    )
    max_seq_len: Annotated[int, Field(ge=16, le=4096)] | None = Field(
        None, description="longest row, tokens; null: the preset's, else 128, never more than pretraining had"
    )
    epochs: Positive = Field(3, description="passes over the training rows")
    batch_size: Positive = Field(16, description="rows in a batch")
    learning_rates: Annotated[list[Rate], Field(min_length=1)] = Field(
        [2e-4, 5e-4, 1e-3], description="grid of peak learning rates, the same for each arm"
    )
    eval_times: Positive = Field(6, description="evaluations on dev in a trial")
    eval_rows: Positive | None = Field(
        None, description="dev rows of these evaluations, chosen by hash, where all would take too long; the end is scored on all; null: all"
    )
    precision: Precision = Field("auto", description=PRECISION_WORDS)
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.1, description="dropout while fine-tuning")
    warmup_share: Share = Field(0.1, description="share of steps spent warming up")
    schedule: Literal["linear", "constant"] = Field("linear", description="learning rate after warmup: linear (down to 0), constant")
    pooling: Literal["cls", "mean"] = Field(
        "cls", description="what a sentence's class is read from: cls (the pooler over [CLS]), mean (of all tokens)"
    )
    weight_decay: Share = Field(0.01, description="decoupled weight decay")
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="each layer's rate is this times that of the layer above")
    patience: Positive | None = Field(None, description="evaluations without a better dev score after which a trial stops; null: never")
    class_weights: Literal["balanced"] | None = Field(None, description="of a classification: balanced (1 over a class's share), null (all alike)")

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        files = [name for name in ("train", "dev", "test") if getattr(self, name) is not None]
        if self.package is not None and (self.path is not None or files or self.custom is not None):
            raise ValueError("package goes without path, train, dev, test and custom")
        if self.package is None and self.path is None and not {"train", "dev"} <= set(files):
            raise ValueError("give package, or path (the folder of its files), or train and dev (single files)")
        if self.custom is not None and self.path is not None:
            raise ValueError("custom names its files by train, dev and test, not by path")
        return self


PRESET_FIELDS = ("learning_rates", "epochs", "batch_size", "warmup_share", "weight_decay", "schedule")


class Finetune(Settings):
    arms: Annotated[list[Literal["pretrained", "untrained"]], Field(min_length=1)] = Field(
        ["pretrained", "untrained"], description="models to fine-tune: pretrained, untrained (the same model at its random start)"
    )
    model: OnDisk | None = Field(
        None, description="a model to fine-tune instead of the recipe's own: a run, its pretrain/model, or a folder of Hugging Face's transformers"
    )
    seeds: Annotated[list[int], Field(min_length=1)] = Field([1, 2, 3], description="random seeds of the trials")
    workers_per_trial: Positive = free(
        1,
        "processes that one trial is spread over; with several, trials follow each other; another count reads the same batches, its sums round differently",
    )
    memory_gb: MemoryGb = memory_field("process of a trial")
    benchmarks: Annotated[dict[Name, BenchmarkSettings], Field(min_length=1)] = Field(description="data sets to fine-tune on")

    @model_validator(mode="before")
    @classmethod
    def _presets(cls, given: Any) -> Any:
        """Lay a preset's values under what a benchmark sets itself."""
        entries = given.get("benchmarks") if isinstance(given, dict) else None
        if not isinstance(entries, dict):
            return given
        return {**given, "benchmarks": {name: _with_preset(name, entry) for name, entry in entries.items()}}

    @model_validator(mode="after")
    def _known(self) -> Self:
        from ernie_core.benchmarks.base import all_benchmarks
        from ernie_core.benchmarks.custom import check_custom
        from ernie_core.errors import RecipeError, closest

        known = all_benchmarks()
        for name, entry in self.benchmarks.items():
            if entry.custom is None and name not in known:
                raise ValueError(f"benchmarks: unknown benchmark {name!r}; one of {closest(name, known)}, or describe your own under custom")
            if entry.custom is not None and name in known:
                raise ValueError(f"benchmarks.{name}: custom data needs a name of its own, this one is a published benchmark's")
            if entry.custom is None and (host := known[name].trained_by):
                _check_guest(name, entry, host, host in self.benchmarks)
            if entry.custom is not None:
                try:
                    check_custom(name, entry.custom.model_dump())
                except RecipeError as e:
                    raise ValueError(f"{e.where.removeprefix('finetune.')}: expected {e.expected}, found {e.found}") from None
        return self


_OF_A_GUEST = frozenset({"path", "dev", "test", "dev_rows", "test_rows"})


def _check_guest(name: str, entry: BenchmarkSettings, host: str, host_is_there: bool) -> None:
    """Refuse a benchmark that other trials predict where they are not there, or where it sets what only a trial of its own would read."""
    if not host_is_there:
        raise ValueError(f"benchmarks.{name}: trials of {host} predict it, and {host} is not there")
    fields = BenchmarkSettings.model_fields
    if idle := sorted(f for f in fields if f not in _OF_A_GUEST and getattr(entry, f) != fields[f].get_default(call_default_factory=True)):
        raise ValueError(f"benchmarks.{name}: trials of {host} predict it, with {host}'s settings: take out {', '.join(idle)}")


def _with_preset(name: str, entry: Any) -> Any:
    from ernie_core.benchmarks.base import all_benchmarks

    if not isinstance(entry, dict) or entry.get("preset") not in {"base", "large"}:
        return entry
    presets = all_benchmarks()[name].presets if name in all_benchmarks() else {}
    if not presets:
        raise ValueError(f"benchmarks.{name}.preset: the publisher has none for this benchmark; take it out")
    preset = presets[entry["preset"]]
    values = {
        "learning_rates": [preset.learning_rate], "epochs": preset.epochs, "batch_size": preset.batch_size, "warmup_share": preset.warmup_share,
        "weight_decay": preset.weight_decay, "schedule": "linear" if preset.warmup_share else "constant",
    }  # fmt: skip
    return {**entry, **{field: value for field, value in values.items() if entry.get(field) in (None, REMOVED)}}
