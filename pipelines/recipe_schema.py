"""What a recipe may say: every field with its meaning, unit and default; corpora and preparation stand in `recipe_prepare`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipelines.recipe_base import (
    PRECISION_WORDS,
    REMOVED,
    MemoryGb,
    ModelName,
    Name,
    OnDisk,
    Positive,
    Precision,
    Rate,
    Root,
    Settings,
    Share,
    TaskName,
    check_metric,
    free,
    memory_field,
)
from pipelines.recipe_filelists import Filelist, check_filelists
from pipelines.recipe_finetune import Finetune
from pipelines.recipe_prepare import Corpus, Prepare


class Tracking(Settings):
    uri: str | None = free(None, "MLflow store or server; null: sqlite:///ROOT/mlflow.db")
    experiment: str = free("ernie", "MLflow experiment")
    system_metrics: bool = free(
        True, "load of CPU, memory, disk and GPU where pretraining's first process works, with each log line (pretrain.skip_steps)"
    )
    register_as: Name | None = free(None, "registered model that the pretrained model becomes the newest version of; needs transformers; null: none")


class Model(Settings):
    named: ModelName | None = Field(
        None,
        description="a published shape instead of the numbers below: ernie1_base_zh, ernie2_base_en, ernie2_large_en, and more; dropout may be set beside it",
    )
    num_hidden_layers: Annotated[int, Field(ge=1, le=96)] = Field(4, description="encoder layers")
    hidden_size: Annotated[int, Field(ge=8, le=16384)] = Field(256, description="width of a token's vector")
    num_attention_heads: Positive = Field(4, description="attention heads; divides hidden_size")
    hidden_act: Literal["gelu", "relu"] = Field("gelu", description="activation: gelu, relu")
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="dropout of hidden states and attention; 0 under one epoch, else 0.1")

    @model_validator(mode="before")
    @classmethod
    def _shape_of_the_name(cls, given: Any) -> Any:
        from ernie_core.model.named import NAMED

        if not isinstance(given, dict) or not isinstance(given.get("named"), str) or given["named"] not in NAMED:
            return given  # nothing is named, or what is wrong is said by the fields' own checks
        shape = {field: getattr(NAMED[given["named"]], field) for field in ("num_hidden_layers", "hidden_size", "num_attention_heads", "hidden_act")}
        unset = (None, REMOVED)
        if other := sorted(f for f, value in shape.items() if not any(given.get(f) is u for u in unset) and given[f] != value):
            raise ValueError(f"named {given['named']} is a whole shape: take out {', '.join(other)} (null over a base)")
        return {**given, **shape}

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is no multiple of num_attention_heads {self.num_attention_heads}")
        return self


class Stage(Settings):
    enter: Annotated[list[TaskName], Field(min_length=1)] = Field(description="tasks that join here")
    mask_unit: Literal["basic", "word", "phrase", "entity"] = Field("word", description="what masking hides: basic (tokens), word, phrase, entity")
    mask_probability: Annotated[float, Field(gt=0, lt=1)] | None = Field(None, description="share of units hidden in this stage; null: pretrain's")
    learning_rate: Rate | None = Field(None, description="peak learning rate of this stage; null: pretrain's")
    carry: list[TaskName] = Field(
        [], description="token-level tasks that have entered, whose losses are added wherever other tasks' rows hold their labels (prepare.carry)"
    )


class Pretrain(Settings):
    model: Model = Field(default_factory=Model, description="the encoder")
    init: OnDisk | None = Field(
        None,
        description="a model to start from: a run's folder, its pretrain/model, a checkpoint in its pretrain/checkpoints, or a folder of Hugging Face's transformers (ERNIE, BERT); null: from nothing",
    )
    schedule: Literal["continual", "multi_task", "sequential"] = Field(
        "continual", description="how tasks share the stages: continual, multi_task, sequential"
    )
    stages: Annotated[list[Stage], Field(min_length=1)] = Field(
        default_factory=lambda: [
            Stage(enter=["knowledge_masking", "next_sentence", "sentence_reordering"]),
            Stage(enter=["token_document"], mask_unit="entity"),
        ],
        description="phases; earlier tasks keep a share under continual",
    )
    iterations: dict[TaskName, Positive] = Field(
        {"knowledge_masking": 1200, "next_sentence": 200, "sentence_reordering": 200, "token_document": 200},
        description="training steps given to each task, over all stages",
    )
    long_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.1, description="share of each task's iterations that come last, in a stage of their own on long rows; acts where prepare.long_rows does"
    )
    mask_probability: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.15, description="share of units hidden; 0.15 is ERNIE's, more gives a short pretraining more to learn from"
    )
    lm_mode: Literal["always", "own_task"] = Field(
        "always", description="masked LM in every batch (always), or in masking iterations only (own_task)"
    )
    lm_weight: Annotated[float, Field(ge=0)] = Field(1.0, description="weight of the masked-LM loss")
    loss_weight: Annotated[float, Field(ge=0)] = Field(1.0, description="weight of sentence-level losses")
    token_loss_weight: Annotated[float, Field(ge=0)] = Field(0.5, description="weight of token-level losses")
    batch_tokens: Annotated[int, Field(ge=16)] = Field(2048, description="tokens in a global batch, padding included")
    device_tokens: Annotated[int, Field(ge=16)] = free(2048, "tokens a device takes at once, padding included; accumulation follows from it")
    recompute: bool = free(False, "compute each layer again in backward instead of keeping its values: less memory, a third more time, the same bits")
    window_groups: Positive = Field(16, description="row groups shuffled together")
    learning_rate: Rate = Field(1e-3, description="peak learning rate of each stage")
    warmup_share: Share = Field(0.06, description="share of a stage's steps spent warming up")
    weight_decay: Share = Field(0.01, description="decoupled weight decay")
    adam_beta2: Annotated[float, Field(gt=0, lt=1)] = Field(0.98, description="AdamW's beta2")
    clip_norm: Annotated[float, Field(gt=0)] = Field(1.0, description="largest global gradient norm")
    spike_sigma: Annotated[float, Field(gt=0)] | None = Field(
        6.0, description="a step whose masked-LM loss is so many standard deviations above the last 128 of its task is left out; null: none is"
    )
    stage_optimizer: Literal["reset", "keep"] = Field("reset", description="Adam's moments at a stage's start: reset, keep")
    precision: Precision = Field("auto", description=PRECISION_WORDS)
    encoding: Literal["parquet", "text"] = Field("parquet", description="shard encoding to read: parquet, text")
    workers: int | list[int] = free(
        1,
        "training processes, or [least, most]: as many as there is room for, more when nodes come, fewer when they go; another count sees the same batches, its sums round differently",
    )
    grow_after_s: Annotated[float, Field(ge=0)] = free(
        60.0, "seconds that training goes on before it is stopped, at a checkpoint, to take in more workers"
    )
    threads: Annotated[int, Field(ge=1, le=1024)] = Field(2, description="CPU threads of a training process; another count rounds differently")
    memory_gb: MemoryGb = memory_field("training process")
    validation_steps: Positive = Field(200, description="training steps between validations")
    validation_rows: Positive = Field(512, description="validation rows of each task, at most")
    save_steps: Positive = free(200, "training steps between checkpoints")
    skip_steps: Positive = free(20, "training steps between log lines")
    keep_checkpoints: Positive = free(2, "newest checkpoints to keep")
    keep_best: str | None = free(
        None,
        "validation metric whose best checkpoint is kept too, of those made at a step that was validated: valid/knowledge_masking/lm_loss; null: none",
    )
    timeout_s: Annotated[float, Field(ge=1)] = free(
        90.0, "seconds after which a batch, or a checkpoint, that does not come is an error; ranks wait 15 more for each other"
    )

    @property
    def least_workers(self) -> int:
        """Training processes without which there is no training."""
        return self.workers if isinstance(self.workers, int) else self.workers[0]

    @property
    def most_workers(self) -> int:
        """Training processes where there is room for all."""
        return self.workers if isinstance(self.workers, int) else self.workers[1]

    @field_validator("workers", mode="before")
    @classmethod
    def _count_or_range(cls, workers: Any) -> Any:
        counts = workers if isinstance(workers, list) and len(workers) == 2 else [workers, workers]
        if not all(type(count) is int and count >= 1 for count in counts) or counts[0] > counts[1]:
            raise ValueError(f"a number of at least 1, or two, [least, most], found {workers!r}")
        return workers

    @model_validator(mode="after")
    def _stages_fit(self) -> Self:
        entered = [name for stage in self.stages for name in stage.enter]
        if twice := sorted({name for name in entered if entered.count(name) > 1}):
            raise ValueError(f"stages: a task enters once: {', '.join(twice)}")
        if missing := sorted(set(entered) - set(self.iterations)):
            raise ValueError(f"iterations: none given for {', '.join(missing)}, which a stage enters")
        if idle := sorted(set(self.iterations) - set(entered)):
            raise ValueError(f"iterations: no stage enters {', '.join(idle)}")
        if self.keep_best is not None:
            check_metric(self.keep_best, self.iterations)
        units = {stage.mask_unit for stage in self.stages} & {"phrase", "entity"}
        if self.encoding == "text" and units:
            raise ValueError(f"mask_unit {', '.join(sorted(units))} needs encoding: parquet; text shards hold words only")
        return self


class Recipe(Settings):
    name: Name = Field(description="name of the run; its folder is ROOT/NAME")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(7, description="every random choice follows from it")
    root: Root = free(
        "runs", "folder of all runs, from the current folder, or s3://BUCKET/PATH or gs://BUCKET/PATH (pipelines/docs/object_stores.md)"
    )
    language: Literal["zh", "en", "mixed"] = Field(
        "zh", description="language of the text: zh, en, mixed (each sentence as it is: Chinese if it has a Chinese character)"
    )
    workers: Annotated[int, Field(ge=0, le=4096)] = free(2, "processes for preparation and trials; 0: in this process, without Ray, for debugging")
    gpus_on_demand: bool = free(
        False,
        "wait for a GPU for each rank and trial, on a cluster that starts such nodes on demand; false: take GPUs that are there when a step begins",
    )
    resources_wait_s: Positive = free(900, "seconds that a step waits for room on the cluster before it ends with exit code 6")
    tracking: Tracking = free(Tracking(), "where MLflow keeps the run")
    corpora: dict[Name, Corpus] = Field({}, description="raw text, by the name of its source; none where finetune.model is all there is")
    filelists: dict[TaskName, Filelist] = Field(
        {}, description="instead of corpora: rows made elsewhere, in the seed's format, by the task they are of"
    )
    prepare: Prepare = Field(default_factory=Prepare, description="raw text to shards")
    pretrain: Pretrain | None = Field(None, description="shards to a pretrained model; absent: the run ends before")
    finetune: Finetune | None = Field(None, description="benchmarks; absent: the run ends before")

    @property
    def trained_positions(self) -> int:
        """Tokens of the longest row that pretraining reads."""
        return self.prepare.longest_row if self.pretrain is None or self.pretrain.long_share else self.prepare.max_seq_len

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        weights = [corpus.weight for corpus in self.corpora.values()]
        if (bounds := [w for w in weights if w is not None]) and len(bounds) == len(weights) and sum(bounds) < 1 - 1e-9:
            raise ValueError(f"corpora: their weights sum to {sum(bounds):g}, under 1; leave one without, or raise them")
        if self.language == "en" and self.prepare.user_dictionary is not None:
            raise ValueError("prepare.user_dictionary: holds Chinese words, and language is en; names go into prepare.gazetteer")
        if self.finetune is not None and self.pretrain is None and self.finetune.model is None:
            raise ValueError("finetune needs a pretrain section, whose model is fine-tuned, or finetune.model")
        if not (self.corpora or self.filelists) and (self.pretrain is not None or self.finetune is None):
            raise ValueError("corpora: none given; only a recipe of finetune alone, with finetune.model, goes without")
        if self.filelists:
            if self.corpora:
                raise ValueError("filelists: stand instead of corpora; take one of them out")
            check_filelists(self.filelists, self.prepare)
        if self.pretrain is not None:
            if missing := sorted(set(self.pretrain.iterations) - set(self.filelists or self.prepare.tasks)):
                raise ValueError(
                    f"pretrain.iterations: {'filelists name no rows of' if self.filelists else 'prepare.tasks does not build'} {', '.join(missing)}"
                )
            if self.filelists and (units := sorted({stage.mask_unit for stage in self.pretrain.stages} - {"word"})):
                raise ValueError(
                    f"pretrain.stages: mask_unit {', '.join(units)}: the file lists' probability decides between words and tokens; take it out"
                )
            if self.prepare.phrases is None and any(stage.mask_unit == "phrase" for stage in self.pretrain.stages):
                raise ValueError("pretrain.stages: mask_unit phrase needs prepare.phrases, which is null")
            if self.prepare.long_rows is not None and self.pretrain.long_share and self.pretrain.schedule == "sequential":
                raise ValueError(
                    "prepare.long_rows: the long stage trains all tasks together, which schedule sequential never does; set pretrain.long_share: 0"
                )
            self._tasks_fit()
            self._carry_fits()
            if self.pretrain.encoding not in self.prepare.encodings:
                raise ValueError(f"pretrain.encoding: prepare.encodings does not write {self.pretrain.encoding}")
        for name, benchmark in (self.finetune.benchmarks if self.finetune else {}).items():
            if self.finetune and self.finetune.model is None and benchmark.max_seq_len is not None and benchmark.max_seq_len > self.trained_positions:
                raise ValueError(
                    f"finetune.benchmarks.{name}.max_seq_len: {benchmark.max_seq_len} is beyond the longest trained position, {self.trained_positions} (prepare.max_seq_len, prepare.long_rows)"
                )
        return self

    def _carry_fits(self) -> None:
        """A stage may carry what the rows hold and what has entered: a head begins where its task does."""
        assert self.pretrain is not None
        entered: set[str] = set()
        held = {name for lists in self.filelists.values() for name in lists.token_labels} if self.filelists else set(self.prepare.carry)
        for number, stage in enumerate(self.pretrain.stages, 1):
            entered |= set(self.pretrain.iterations) if self.pretrain.schedule == "multi_task" else set(stage.enter)
            if absent := [name for name in stage.carry if name not in held]:
                source = "filelists' token_labels do not name" if self.filelists else "prepare.carry does not put into the rows"
                raise ValueError(f"pretrain.stages: stage {number} carries {', '.join(absent)}, which {source}")
            if early := [name for name in stage.carry if name not in entered]:
                raise ValueError(f"pretrain.stages: stage {number} carries {', '.join(early)}, which has not entered by then")

    def _tasks_fit(self) -> None:
        """Compare what the tasks need with the model's shape and the rows."""
        from ernie_core.model.named import NAMED
        from ernie_core.tasks.base import all_tasks

        assert self.pretrain is not None
        tasks = [all_tasks()[name] for name in self.pretrain.iterations]
        if self.prepare.long_rows is not None and self.pretrain.long_share and not any(task.long_rows for task in tasks):
            raise ValueError("prepare.long_rows: none of pretrain.iterations' tasks has long rows; take it out")
        named = self.pretrain.model.named
        types = 4 if named is None else NAMED[named].sent_type_vocab_size
        if many := [task.name for task in tasks if task.sentence_types > types]:
            raise ValueError(
                f"pretrain.model.named: {named} tells {types} sentence types apart, and {', '.join(many)} needs more; take another shape"
            )
