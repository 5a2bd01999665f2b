"""Worker pools answer every call: with the task's reply, or with why there is none; and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from stepward.core.errors import InputError
from stepward.engine.workers import FAILED, Limits, WorkerPool

TASKS = """
import os, signal, time

prepared = []

def prepare():
    prepared.append(os.getpid())

def answer(request):
    kind = request["kind"]
    if kind == "spin":
        while True:
            pass
    if kind == "swell":
        try:
            hold = bytearray(1 << 33)
        except MemoryError:
            return {"said": "too much", "exhausted": True}
    if kind == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "raise":
        raise KeyError("no")
    if kind == "print":
        print("not a reply")
    return {"said": kind, "pid": os.getpid(), "prepared": len(prepared)}
"""


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "pool_tasks.py").write_text(TASKS, encoding="utf-8")
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(folder), before)))
    yield "pool_tasks:answer"
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


@pytest.fixture(scope="module")
def pool(task: str) -> Iterator[WorkerPool]:
    with WorkerPool(task, workers=1, limits=Limits(time_limit_s=0.3, memory_limit_mb=1024), work="trying") as shared:
        yield shared


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def test_one_process_serves_many_calls_and_prepares_once(pool: WorkerPool) -> None:
    replies = [pool.submit({"kind": f"call {k}"}).result() for k in range(5)]
    assert [reply["said"] for reply in replies] == [f"call {k}" for k in range(5)]
    assert len({reply["pid"] for reply in replies}) == 1
    assert {reply["prepared"] for reply in replies} == {1}
    assert pool.submit({"kind": "print"}).result()["said"] == "print"


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("spin", "trying took longer than its time limit of 0.3 s"), ("crash", "trying crashed twice"), ("raise", "trying crashed twice")],
)
def test_a_call_beyond_its_limits_fails_with_the_reason_and_the_next_is_answered(pool: WorkerPool, kind: str, reason: str) -> None:
    assert reason in pool.submit({"kind": kind}).result()[FAILED]
    assert pool.submit({"kind": "fine"}).result()["said"] == "fine"


def test_the_memory_limit_holds_and_a_process_that_ran_into_it_is_replaced(pool: WorkerPool) -> None:
    before = pool.submit({"kind": "fine"}).result()["pid"]
    assert pool.submit({"kind": "swell"}).result() == {"said": "too much"}
    assert pool.submit({"kind": "fine"}).result()["pid"] != before


def test_a_task_that_cannot_be_imported_is_a_failure_not_a_hang() -> None:
    with WorkerPool("no_such_module:answer", workers=1) as broken:
        assert "could not start" in broken.submit({"kind": "fine"}).result()[FAILED]


def test_calls_are_awaited_side_by_side_from_an_event_loop(task: str) -> None:
    async def several(pool: WorkerPool) -> list[str]:
        return [reply["said"] for reply in await asyncio.gather(*(pool.call({"kind": str(k)}) for k in range(8)))]

    with WorkerPool(task, workers=2) as two:
        assert asyncio.run(several(two)) == [str(k) for k in range(8)]
        assert len(two.pids) == 2
        pids = two.pids
    deadline = time.monotonic() + 20
    while alive(pids) and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    assert alive(pids) == []
    assert "closed" in two.submit({"kind": "late"}).result()[FAILED]


def test_a_pool_travels_without_its_processes(task: str) -> None:
    with WorkerPool(task, workers=1, limits=Limits(time_limit_s=2.0), work="trying") as pool:
        pool.submit({"kind": "fine"}).result()
        copy = pickle.loads(pickle.dumps(pool))
    assert (copy.task, copy.workers, copy.limits, copy.work, copy.pids) == (task, 1, pool.limits, "trying", [])


def test_bad_settings_are_refused() -> None:
    for settings in ({"time_limit_s": 0.0}, {"memory_limit_mb": 10}, {"recycle_after": 0}):
        with pytest.raises(InputError, match=next(iter(settings))):
            Limits(**settings)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="workers"):
        WorkerPool("a:b", workers=0)
    with pytest.raises(InputError, match="module:function"):
        WorkerPool("a.b", workers=1)
