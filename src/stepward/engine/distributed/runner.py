"""Running one job over many items on Ray: groups of items that share work go to one worker at a time; a worker that dies is replaced."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from stepward.core import InputError, RequestFailed
from stepward.core.errors import MissingExtra, StepwardError, StopRun
from stepward.core.usage import charge
from stepward.engine.concurrency import Failure
from stepward.engine.distributed.journal import JournalOwner
from stepward.engine.distributed.worker import Job, Worker

__all__ = ["Job", "Report", "run_distributed"]

Item = TypeVar("Item")
_DEATHS_IN_COMPANY = 8  # of workers that had the group among others; after that it runs alone
_DEATHS_ALONE = 3  # of workers that had nothing else; after that its items have failed


@dataclass
class Report:
    """What happened: items done by each worker (by number), and how many workers died and were replaced."""

    done_by: dict[int, int] = field(default_factory=dict)
    n_deaths: int = 0


@dataclass(eq=False)
class _Group:
    positions: list[int]
    deaths: int = 0
    deaths_alone: int = 0

    @property
    def shy(self) -> bool:
        return self.deaths >= _DEATHS_IN_COMPANY


@dataclass(eq=False)
class _Slot:
    """A place for a worker. `load`: items that it has been given and not returned."""

    number: int
    worker: Any
    groups: list[_Group] = field(default_factory=list)

    @property
    def load(self) -> int:
        return sum(len(group.positions) for group in self.groups)


def run_distributed(
    items: Sequence[Item],
    job: Job,
    *,
    key: Callable[[Item], Hashable],
    workers: int,
    address: str | None = None,
    journal: Path | None = None,
    concurrency: int = 64,
    on_done: Callable[[int, Any], None] | None = None,
) -> tuple[list[Any | Failure], Report]:
    """The job's result for every item, in order, and a report.

    Items with equal `key` (a problem's id) share work, so they stay together: at any time one worker owns them, and with them every journal key that they
    ask for. Each worker has up to `concurrency` items at once. Results are charged to the open ledger. `address`: of a Ray cluster; None starts one on this
    machine for the time of the run. `journal`: a file on this machine; a process here owns it, and every worker commits there before it uses a result. A
    worker that dies is replaced and its groups are given out again: what it had committed is found, so nothing is paid for twice. Items that killed several
    workers while alone become failures.

    Raises: MissingExtra without Ray; InputError for fewer than one worker; StopRun and programming errors of the job as they are.
    """
    if workers < 1:
        raise InputError(f"workers must be at least 1, got {workers}")
    groups: dict[Hashable, _Group] = {}
    for position, item in enumerate(items):
        groups.setdefault(key(item), _Group([])).positions.append(position)
    results: dict[int, Any | Failure] = {}
    report = Report()
    with _cluster(address, workers) as ray, _owner(ray, journal) as owner:
        slots = [_Slot(number, _start(ray, job, owner)) for number in range(min(workers, max(1, len(groups))))]
        waiting = deque(groups.values())
        running: dict[Any, tuple[_Slot, _Group]] = {}

        def finish(group: _Group, found: Sequence[Any | Failure]) -> None:
            for position, result in zip(group.positions, found, strict=True):
                results[position] = result
                if on_done is not None:
                    on_done(position, result)

        try:
            while waiting or running:
                _give_out(slots, waiting, running, items, concurrency)
                (ready,), _ = ray.wait(list(running), num_returns=1)
                slot, group = running.pop(ready)
                slot.groups.remove(group)
                try:
                    found, usage, paid = ray.get(ready)
                except ray.exceptions.RayActorError:
                    _mourn(slot, group, running, waiting, report, finish)
                    slot.worker = _start(ray, job, owner)
                    continue
                except ray.exceptions.RayTaskError as error:
                    cause = error.cause
                    raise (cause if isinstance(cause, StepwardError) else StopRun(f"a worker failed: {error}")) from error
                charge(usage, paid=paid)
                report.done_by[slot.number] = report.done_by.get(slot.number, 0) + len(found)
                finish(group, found)
        finally:
            for slot in slots:
                ray.kill(slot.worker)
    return [results[position] for position in range(len(items))], report


def _give_out(slots: Sequence[_Slot], waiting: deque[_Group], running: dict[Any, tuple[_Slot, _Group]], items: Sequence[Any], concurrency: int) -> None:
    """Give waiting groups to the least loaded workers as far as they have room; a group that workers died of gets one for itself."""
    for _ in range(len(waiting)):
        group = waiting.popleft()
        free = [slot for slot in slots if not any(other.shy for other in slot.groups) and (not slot.groups or (slot.load < concurrency and not group.shy))]
        if not free:
            waiting.append(group)
            if not group.shy:
                return
            continue
        slot = min(free, key=lambda slot: slot.load)
        slot.groups.append(group)
        running[slot.worker.run.remote([items[position] for position in group.positions])] = (slot, group)


def _mourn(
    slot: _Slot,
    group: _Group,
    running: dict[Any, tuple[_Slot, _Group]],
    waiting: deque[_Group],
    report: Report,
    finish: Callable[[_Group, Sequence[Failure]], None],
) -> None:
    """Take back what a dead worker had; what it alone was working on and what killed it often enough has failed."""
    report.n_deaths += 1
    lost = [group, *slot.groups]
    for reference in [reference for reference, (owner, _) in running.items() if owner is slot]:
        del running[reference]
    slot.groups.clear()
    for one in reversed(lost):
        one.deaths += 1
        one.deaths_alone += len(lost) == 1 and one.deaths > _DEATHS_IN_COMPANY
        if one.deaths_alone >= _DEATHS_ALONE:
            error = RequestFailed(f"{one.deaths} workers died while they worked on it, the last {one.deaths_alone} with nothing else to do")
            finish(one, [Failure(f"RequestFailed: {error}", error)] * len(one.positions))
        else:
            waiting.appendleft(one)


@contextmanager
def _cluster(address: str | None, workers: int) -> Iterator[Any]:
    """Ray, connected; what was started here is stopped at the end."""
    try:
        import ray
    except ImportError:
        raise MissingExtra("ray", "ray") from None
    mine = not ray.is_initialized()
    if mine:
        start = {"num_cpus": workers, "include_dashboard": False} if address is None else {"address": address}
        ray.init(**start, log_to_driver=False, configure_logging=False, runtime_env={"env_vars": _environment()})
    try:
        yield ray
    finally:
        if mine:
            ray.shutdown()


def _environment() -> dict[str, str]:
    """Variables that a worker needs from here, wherever it runs."""
    return {name: value for name, value in os.environ.items() if name.startswith(("STEPWARD_", "OMP_", "HF_")) or name.endswith("_TOKEN")}


@contextmanager
def _owner(ray: Any, journal: Path | None) -> Iterator[Any | None]:
    """The process that owns the journal, on this machine; closed at the end. It is started again if it dies: its methods may be repeated."""
    if journal is None:
        yield None
        return
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "scheduling_strategy": here, "max_restarts": -1, "max_task_retries": -1, "max_concurrency": 1000}
    owner = ray.remote(JournalOwner).options(**options).remote(str(journal.resolve()))
    try:
        yield owner
    finally:
        ray.get(owner.close.remote())
        ray.kill(owner)


def _start(ray: Any, job: Job, owner: Any | None) -> Any:
    return ray.remote(Worker).options(num_cpus=1, max_concurrency=1000).remote(job, owner)
