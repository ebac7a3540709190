"""What a recipe reads, looked for before anything is started."""

from __future__ import annotations

from pathlib import Path

from ernie_core.vocab import Vocab
from pipelines.filelists import listed_files
from pipelines.recipe_schema import Recipe


def check_inputs(recipe: Recipe) -> None:
    """Find every input file of the recipe before anything is started.

    Raises:
        InputError: E-CORPUS-MISSING, E-CORPUS-EMPTY, E-FILELIST, E-PACKAGE, E-VOCAB-FORMAT.
    """
    from corpus_prep.packages import package_files
    from corpus_prep.stores import input_files

    for name, corpus in recipe.corpora.items():
        if corpus.package is not None:
            package_files(corpus.package)
        else:
            input_files(name, str(corpus.path), corpus.max_files)
    listed_files(recipe)
    for benchmark in recipe.finetune.benchmarks.values() if recipe.finetune else ():
        if benchmark.package is not None:
            package_files(benchmark.package)
    if recipe.prepare.vocab is not None:
        Vocab.load(Path(recipe.prepare.vocab))
