"""A recipe as steps: import, prepare, pretrain, finetune, report, each tracked as one MLflow run under the workflow's.

Names, settings and parents stand here; the work of a step stands in the function its closure imports.
"""

from __future__ import annotations

import contextlib
import functools
import glob
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ernie_core.manifest import Manifest, whole
from ernie_core.object_store import home, is_remote, scratch
from pipelines.filelists import filelist_step
from pipelines.inputs import check_inputs
from pipelines.recipe_base import given_settings, results_settings
from pipelines.recipe_schema import Recipe
from pipelines.resources import cpus_of, memory_bytes, wait_for_step
from pipelines.run_folder import check_space
from pipelines.steps import Say, Step, StepContext, run_steps

STEP_NAMES = ("import", "prepare", "pretrain", "finetune", "report")
BENCHMARK_FILES = ("package", "path", "train", "dev", "test", "custom", "train_rows", "dev_rows", "test_rows")
"""Settings of a benchmark that decide its rows."""


def run_folder(recipe: Recipe) -> Path:
    """Return where the run lives: ROOT/NAME, absolute, since Ray's workers stand in other folders; of a remote root this machine's scratch folder."""
    return (scratch(recipe.root) if is_remote(recipe.root) else Path(recipe.root).resolve()) / recipe.name


def steps_of(recipe: Recipe, command: Sequence[str] = ("ernie", "run", "RECIPE.yaml")) -> list[Step]:
    """Return the steps of a recipe, parents first; the report names `command`. Nothing heavy is imported until one runs."""
    packages = sorted({c.package for c in recipe.corpora.values() if c.package is not None})
    benchmarks = recipe.finetune.benchmarks if recipe.finetune else {}
    imported = ("import",) if packages or benchmarks else ()
    steps: list[Step] = []
    settings: dict[str, Any]
    if imported:
        rows = {name: {k: v for k, v in b.model_dump().items() if k in BENCHMARK_FILES} for name, b in benchmarks.items()}
        settings = {"seed": recipe.seed, "corpora": packages, "benchmarks": rows}
        steps.append(Step("import", settings, (), _run_import, _imported_files(packages, rows)))
    settings = {"seed": recipe.seed, "language": recipe.language, "corpora": _plain_corpora(recipe), **results_settings(recipe.prepare)}
    inputs = tuple(c.path for c in recipe.corpora.values() if c.path is not None) + tuple(
        filter(None, (recipe.prepare.vocab, recipe.prepare.user_dictionary, recipe.prepare.gazetteer))
    )
    if recipe.corpora:
        steps.append(Step("prepare", settings, imported, _prepare(recipe), inputs))
    elif recipe.filelists:
        steps.append(filelist_step(recipe))
    if recipe.pretrain is not None:
        settings = {"seed": recipe.seed, **_resolved(results_settings(recipe.pretrain))}
        steps.append(Step("pretrain", settings, ("prepare",), _pretrain(recipe), _initial(recipe.pretrain.init), keeps_work=False))
    if recipe.finetune is not None:
        settings = results_settings(recipe.finetune)
        settings["benchmarks"] = {name: _resolved(b) for name, b in settings["benchmarks"].items()}
        model = recipe.finetune.model
        parents = ("import", "prepare", "pretrain") if model is None else ("import",)
        steps.append(Step("finetune", settings, parents, _finetune(recipe), _initial(model)))
    steps.append(Step("report", {}, tuple(step.name for step in steps), _report(command)))
    return steps


def _imported_files(packages: Sequence[str], benchmarks: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the files that the import step reads."""
    from corpus_prep.benchmark_files import benchmark_inputs
    from corpus_prep.packages import package_files

    names = sorted({*packages, *(str(b["package"]) for b in benchmarks.values() if b["package"] is not None)})
    files = [path for name in names for path in package_files(name)]
    files += [path for name, wanted in benchmarks.items() for path, _ in benchmark_inputs(name, wanted).values()]
    return tuple(glob.escape(str(path)) for path in files)


def _initial(init: str | None) -> tuple[str, ...]:
    """Return the weights that pretraining or fine-tuning starts from, as a step's input."""
    if init is None:
        return ()
    from pipelines.model_folder import WEIGHTS, model_folder

    folder = model_folder(Path(init), foreign=True)
    return tuple(glob.escape(str(folder / name)) for name in (WEIGHTS, "config.json", "vocab.txt") if (folder / name).exists())


def _resolved(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings with `precision: auto` decided, so that a step's folder records what was really used."""
    from ernie_core.training.precision import resolve

    return {**settings, "precision": resolve(settings["precision"])}


def _plain_corpora(recipe: Recipe) -> dict[str, dict[str, Any]]:
    return {name: {key: value for key, value in results_settings(c).items() if value is not None} for name, c in recipe.corpora.items()}


def _run_import(context: StepContext) -> Manifest:
    from corpus_prep.import_step import import_step

    s = context.settings
    return import_step(corpora=s["corpora"], benchmarks=s["benchmarks"], folder=context.folder, seed=s["seed"], settings=s, say=context.say)


def corpora_of(recipe: Recipe, imported: Path | None) -> dict[str, dict[str, Any]]:
    """Return what preparation reads, see `splits.plan_splits`; packages as the import step wrote them.

    Example: ``{"news": {"reader": "jsonl", "path": "/home/me/runs/demo/import/inews.jsonl", "options": {"title": "title"}, "share": 1.0}}``.
    """
    corpora: dict[str, dict[str, Any]] = {}
    for name, corpus in recipe.corpora.items():
        if corpus.package is None:
            corpora[name] = corpus.model_dump(exclude={"package"})
        elif imported is not None:
            path = str(imported / f"{corpus.package}.jsonl")
            corpora[name] = {"reader": "jsonl", "path": path, "options": {"title": "title"}, "share": corpus.share, "weight": corpus.weight}
    return corpora


def _prepare(recipe: Recipe) -> Callable[[StepContext], Manifest]:
    def run(context: StepContext) -> Manifest:
        """Write shards and tables of the corpora; see `corpus_prep.flow.prepare` for what is raised."""
        from corpus_prep.flow import prepare

        imported = context.parents.get("import")
        if imported is not None and home(imported) is not None:
            whole(imported)  # another machine may have made it
        benchmarks = recipe.finetune.benchmarks if recipe.finetune and recipe.prepare.exclude_benchmarks else {}
        texts = [imported / "benchmarks" / name / f"{subset}.jsonl" for name in benchmarks for subset in ("dev", "test")] if imported else []
        return prepare(
            corpora=corpora_of(recipe, imported), settings={**results_settings(recipe.prepare), "language": recipe.language}, recorded=context.settings, benchmarks_texts=[path for path in texts if path.exists()], folder=context.folder,
            workers=recipe.workers, seed=recipe.seed, parents=context.parent_hashes, say=context.say, log=context.run.log if context.run else None,
            memory_bytes=memory_bytes(recipe.prepare.memory_gb),
        )  # fmt: skip

    return run


def _pretrain(recipe: Recipe) -> Callable[[StepContext], Manifest]:
    def run(context: StepContext) -> Manifest:
        """Pretrain on the prepared shards; see `pipelines.pretrain.pretrain` for what is raised."""
        from pipelines.pretrain import Machine, pretrain

        assert recipe.pretrain is not None
        p = recipe.pretrain
        machine = Machine(
            workers=p.least_workers if recipe.workers else 0, most_workers=p.most_workers if recipe.workers else 0, grow_after_s=p.grow_after_s, threads=p.threads, device_tokens=p.device_tokens,
            save_steps=p.save_steps, skip_steps=p.skip_steps, keep_checkpoints=p.keep_checkpoints, keep_best=p.keep_best,
            timeout_s=p.timeout_s, recompute=p.recompute, memory_bytes=memory_bytes(p.memory_gb), system_metrics=recipe.tracking.system_metrics,
        )  # fmt: skip
        room = functools.partial(wait_for_step, recipe, context.say, "pretrain")
        return pretrain(context, prepared=context.parents["prepare"], seed=recipe.seed, machine=machine, room=room)

    return run


def _finetune(recipe: Recipe) -> Callable[[StepContext], Manifest]:
    def run(context: StepContext) -> Manifest:
        """Fine-tune the pretrained model, or the recipe's own, on the imported benchmarks; see `pipelines.finetune.finetune`."""
        from pipelines.finetune import finetune

        assert recipe.finetune is not None
        model = context.parents["pretrain"] / "model" if recipe.finetune.model is None else Path(recipe.finetune.model).resolve()
        return finetune(
            context,
            data=context.parents["import"],
            model=model,
            seed=recipe.seed,
            workers=recipe.workers,
            workers_per_trial=recipe.finetune.workers_per_trial,
            memory_bytes=memory_bytes(recipe.finetune.memory_gb),
        )

    return run


def _report(command: Sequence[str]) -> Callable[[StepContext], Manifest]:
    def run(context: StepContext) -> Manifest:
        from pipelines.report import render

        return render(context.folder.parent, context.folder, steps=tuple(context.parents), command=command)

    return run


def run_recipe(recipe: Recipe, say: Say, *, until: str | None = None, new_run: bool = False, steps: list[Step] | None = None) -> dict[str, Manifest]:
    """Bring the recipe's run up to date and track it.

    Args:
        recipe: a checked recipe.
        say: receives progress lines.
        until: name of the last step to do; None for all.
        new_run: move step folders made with other settings aside.
        steps: instead of `steps_of(recipe)`.

    Returns:
        The manifest of each step done or found up to date.

    Raises:
        ErnieError: see `run_steps`; whatever a step raises.
    """
    from pipelines.outbox import tracking_uri
    from pipelines.registered import check_register, register
    from pipelines.tracked_run import ship_rest
    from pipelines.tracked_steps import Tracked, around_steps

    uri = tracking_uri(recipe.root, recipe.tracking.uri)
    check_register(recipe.tracking.register_as)
    check_inputs(recipe)
    folder = run_folder(recipe)
    cpus = cpus_of(recipe)
    room = functools.partial(wait_for_step, recipe, say)
    tracked = Tracked(recipe.name, recipe.tracking.experiment, uri, results_settings(recipe), cpus, room, given_settings(recipe))
    with contextlib.ExitStack() as stack:
        around = around_steps(tracked, folder, say, stack)
        done = run_steps(
            steps or steps_of(recipe), folder, say, around=around, new_run=new_run, until=until, check=functools.partial(_check_space, recipe)
        )
    if recipe.tracking.register_as is not None and "pretrain" in done:
        register(folder / "pretrain", recipe.tracking.register_as)
    for place in (folder, *(folder / name for name in done)):
        ship_rest(place, say)
    return done


def _check_space(recipe: Recipe) -> None:
    from pipelines.estimate import least_disk_bytes

    check_space(run_folder(recipe), least_disk_bytes(recipe), "what is left of this recipe")
