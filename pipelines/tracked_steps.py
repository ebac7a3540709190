"""Steps as MLflow runs: each under the workflow's, with what links it to the data, the code and the steps before it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ernie_core.errors import PreemptedError
from ernie_core.manifest import read_manifest, sha256_of
from pipelines.findings import RunData
from pipelines.lineage import code_tags, step_datasets, step_links, step_tags
from pipelines.notes import WORKFLOW, figures, found_so_far, note
from pipelines.steps import Say, StepContext, flat

ON_RAY = frozenset({"prepare", "pretrain", "finetune"})
SHOWN_ABOVE = frozenset({"pretrain", "finetune", "report"})
"""Steps whose outcome the workflow's own page shows."""
REPORT = "report/report.html"
# Files of a step that MLflow shows, where the step has them; the model is logged by the pretrain step itself.
ARTIFACTS = ("manifest.json", "card.md", "audit.json", "results.json", "mistakes.html", "report.html")


@dataclass(frozen=True)
class Tracked:
    """How a run of steps is tracked.

    Args:
        name, experiment: in MLflow.
        uri: its store.
        params: all settings that change results.
        cpus: that Ray needs; 0 without Ray.
        room: waits for a step's resources, see `resources.wait_for`.
        given: those of `params` that are the parent run's parameters; all if None.
    """

    name: str
    experiment: str
    uri: str
    params: dict[str, Any]
    cpus: int
    room: Callable[[str], Any] = lambda _step: None
    given: dict[str, Any] | None = None


def around_steps(
    tracked: Tracked, folder: Path, say: Say, stack: contextlib.ExitStack
) -> Callable[[StepContext], contextlib.AbstractContextManager[None]]:
    """Return what wraps a step that really runs: Ray for the steps that need it (once), a tracked run, its parent (once)."""
    parents: list[Any] = []

    def opened(name: str, folder: Path, tags: dict[str, str], params: dict[str, Any], **more: Any) -> Any:
        from pipelines.tracked_run import open_run

        parent = parents[0] if parents else None
        return open_run(
            uri=tracked.uri, experiment=tracked.experiment, name=name, folder=folder, tags=tags, params=flat(params), parent=parent, say=say, **more
        )

    @contextlib.contextmanager
    def around(context: StepContext) -> Iterator[None]:
        """Open what the step needs, and hand over its artefacts where it ended well."""
        from pipelines.resources import ray_cluster

        if not parents:
            tags = {"recipe": tracked.name, "step": "workflow", **code_tags(), "recipe_sha256": sha256_of(tracked.params)}
            shown = tracked.params if tracked.given is None else tracked.given
            parents.append(stack.enter_context(_tracked(opened(tracked.name, folder, tags, shown))))
            parents[0].note(note(WORKFLOW))
        room = contextlib.ExitStack()
        if tracked.cpus and context.name in ON_RAY:
            stack.enter_context(ray_cluster(tracked.cpus))
            room.callback(tracked.room(context.name).release)
        tags = {"recipe": tracked.name, "step": context.name, **step_tags(context, tracked.params)}
        linked = {"inputs": context.parent_hashes, "datasets": step_datasets(context, tracked.name), "links": step_links(context)}
        with room, _tracked(opened(f"{tracked.name}-{context.name}", context.folder, tags, context.settings, **linked)) as run:
            run.note(note(context.name))
            run.start_shipper()
            context.run = run
            yield
            run.tag("manifest_sha256", read_manifest(context.folder).sha256)  # what later runs name as their data or parent
            for name in ARTIFACTS:
                if (context.folder / name).exists():
                    run.artifact(context.folder / name)
            data = found_so_far(context.name, folder)
            run.note(note(context.name, data))
            if context.name in SHOWN_ABOVE:
                _show_above(parents[0], folder, data)

    return around


def _show_above(parent: Any, folder: Path, data: RunData) -> None:
    """Show on the workflow's own page what its steps have found so far."""
    parent.note(note(WORKFLOW, data))
    parent.log(figures(data))
    if (folder / REPORT).exists():
        parent.artifact(folder / REPORT)


@contextlib.contextmanager
def _tracked(run: Any) -> Iterator[Any]:
    """End the MLflow run with its true status, whatever happens inside."""
    try:
        yield run
    except (KeyboardInterrupt, PreemptedError):
        run.finish("KILLED")
        raise
    except BaseException:
        run.finish("FAILED")
        raise
    run.finish("FINISHED")
