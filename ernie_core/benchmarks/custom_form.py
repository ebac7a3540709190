"""What a recipe may leave unsaid of data of the user's own; apart from `custom`, since reading a recipe needs no metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Unsaid:
    """Each setting of `custom` that has a default, with it; what they mean stands in the recipe's `Custom`."""

    labels: list[str] = field(default_factory=list)
    columns: dict[str, str | int] = field(default_factory=dict)
    header: bool = True
    delimiter: str = ""
    scheme: Literal["auto", "bio", "bmes", "bioes"] = "auto"
    encoding: Literal["utf-8", "gb18030"] = "utf-8"
    language: Literal["zh", "en"] = "zh"
    test_labelled: bool = True


UNSAID = Unsaid()
