"""LabelRun: where the job of `stepward label` is done, in this process or on the workers of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from stepward.cli.label_job import LabelJob
from stepward.cli.output import remarks
from stepward.cli.session import session
from stepward.core import Problem, StepLabels, Trajectory
from stepward.engine.concurrency import Failure
from stepward.engine.loop import run_sync
from stepward.engine.progress import progress
from stepward.labeling.load import failed_labels

Item = TypeVar("Item", Problem, Trajectory)


@dataclass(frozen=True)
class Labelled:
    """`labels` of `trajectories`, one each; how many problems could not be solved and how many trajectories not be labelled; what else a summary says."""

    trajectories: list[Trajectory]
    labels: list[StepLabels]
    n_unsolved: int
    n_failed: int
    report: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class LabelRun:
    """A job, its journal, and how much of it is done at once. `pilot`: solutions on which the prior of adaptive labeling is fitted."""

    job: LabelJob
    journal: Path | None
    quiet: bool
    concurrency: int
    pilot: int = 0

    def here(self, problems: Sequence[Problem], given: list[Trajectory] | None) -> Labelled:
        """In this process; `given` solutions, or those that the policy writes for the problems."""
        job = self.job
        with session(self.journal, quiet=self.quiet, load=job.load) as work:
            world, writer = job.parts(work)
            labeler = job.labeler(work, world, writer)  # before anything is paid, so that what it refuses costs nothing
            n_unsolved = 0
            if given is None:
                solver = job.solver(work, world, writer)
                pools, _, n_unsolved = work.each("sample", problems, solver, lambda _, __: [], concurrency=self.concurrency)
                given = [trajectory for pool in pools for trajectory in pool]
            if self.pilot:
                labeler = run_sync(job.fitted(work, world, writer, given[: self.pilot])).labeler(work, world, writer)
            labels, _, n_failed = work.each("label", given, work.labeler(labeler).label, partial(failed_labels, labeler), concurrency=self.concurrency)
        return Labelled(given, labels, n_unsolved, n_failed)

    def on_ray(self, problems: Sequence[Problem], given: list[Trajectory] | None, *, workers: int, address: str | None) -> Labelled:
        """On the workers of a cluster, a problem with all its solutions on one worker."""
        job, n_unsolved = self.job, 0
        report: dict[str, Any] = {"n_worker_deaths": 0}
        every = partial(self._every, workers=workers, address=address, report=report)
        if given is None:
            pools = every("sample", problems, job)
            n_unsolved = sum(isinstance(pool, Failure) for pool in pools)
            given = [trajectory for pool in pools if not isinstance(pool, Failure) for trajectory in pool]
        if self.pilot:
            with session(self.journal, quiet=self.quiet, load=job.load) as work:
                job = run_sync(job.fitted(work, *job.parts(work), given[: self.pilot]))
        labels = every("label", given, job)
        failed = [place for place, result in enumerate(labels) if isinstance(result, Failure)]
        if failed:
            with session(None, quiet=True, load=job.load) as work:
                labeler = job.labeler(work, *job.parts(work))
            for place in failed:
                labels[place] = failed_labels(labeler, given[place], labels[place].reason)
        return Labelled(given, labels, n_unsolved, len(failed), report)

    def _every(self, title: str, items: Sequence[Item], job: LabelJob, *, workers: int, address: str | None, report: dict[str, Any]) -> list[Any]:
        from stepward.engine.distributed import run_distributed

        with progress(title, total=len(items), quiet=self.quiet) as bar:
            results, told = run_distributed(
                items,
                job,
                key=lambda item: item.id if isinstance(item, Problem) else item.problem.id,
                workers=workers,
                address=address,
                journal=self.journal,
                concurrency=self.concurrency,
                on_done=lambda _, __: bar.advance(),
            )
        report["n_worker_deaths"] += told.n_deaths
        report[f"{title}_by_worker"] = {str(number): count for number, count in sorted(told.done_by.items())}
        failed = [result for result in results if isinstance(result, Failure)]
        if failed:
            remarks.print(f"{title}: {len(failed)} of {len(items)} failed; the first: {failed[0].reason}", markup=False)
        return results
