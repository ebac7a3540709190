"""What a recipe may say of rows that were made elsewhere, in the seed's format: `filelists`."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from pipelines.recipe_base import OnDisk, Settings, TaskName
from pipelines.recipe_prepare import Prepare

ACTING = ("vocab", "max_seq_len", "encodings", "group_rows")
"""Settings of `prepare` that act on file lists; the others are of text."""


class Filelist(Settings):
    train: OnDisk = Field(description="list of .gz files to train on, `path TAB mask_word_probability` a line; 1.1 means always words")
    valid: OnDisk = Field(description="list of .gz files to validate on")
    token_labels: list[TaskName] = Field(
        [], description="token-level tasks whose labels stand between seg_labels and label, in order: none in five fields, two in seven"
    )
    options: dict[str, Any] = Field({}, description="of the task")

    @field_validator("token_labels")
    @classmethod
    def _token_level(cls, names: list[str]) -> list[str]:
        from ernie_core.tasks.base import all_tasks

        can = sorted(name for name, task in all_tasks().items() if task.level == "token")
        if wrong := [name for name in names if name not in can]:
            raise ValueError(f"{', '.join(wrong)}: no task with labels of single tokens; one of {', '.join(can)}")
        if len(set(names)) < len(names):
            raise ValueError("a task stands there twice")
        return names

    @model_validator(mode="after")
    def _paths_are_given(self) -> Self:
        if not (self.train and self.valid):
            raise ValueError("train and valid: each needs the path of a file list")
        return self


def check_filelists(filelists: dict[str, Filelist], prepare: Prepare) -> None:
    """Compare the lists with their tasks and with `prepare`; ValueError says what does not go together."""
    from ernie_core.tasks.base import all_tasks

    for name, lists in filelists.items():
        task = all_tasks()[name]
        task.classes(lists.options)
        if task.level == "token" and name not in lists.token_labels:
            raise ValueError(f"filelists.{name}: its labels are those of single tokens; name it in token_labels, where its field stands")
    if prepare.vocab is None:
        raise ValueError("prepare.vocab: file lists hold token ids; name the vocabulary that they were made with")
    fields = Prepare.model_fields
    idle = [name for name, field in fields.items() if name not in ACTING and getattr(prepare, name) != field.get_default(call_default_factory=True)]
    if idle:
        raise ValueError(f"prepare: {', '.join(idle)} is of text, and file lists hold finished rows; take it out")
