"""The grader agrees with mathematics, survives hostile answers from threads and event loops, and never leaves a process behind."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from stepward.core.errors import InputError
from stepward.engine.workers.worker import Bench
from stepward.environments.grader import AnswerGrader
from stepward.environments.grader.answer_grader import compare_plainly
from stepward.testing.adversarial import adversarial_answers

TOWER = "7^{7^{7^{7^{7}}}}!"
SLOW = r"\int_0^\infty \frac{e^{-x^3}\sin(x^3)}{\sqrt{1+x^{4}}} dx"


@pytest.fixture(scope="module")
def grader() -> Iterator[AnswerGrader]:
    with AnswerGrader(workers=2, time_limit_s=5.0) as shared:
        yield shared


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def family(pids: list[int]) -> list[int]:
    """The workers and the judges that they forked."""
    return [*pids, *(child.pid for pid in pids for child in psutil.Process(pid).children(recursive=True))]


def wait_until_gone(pids: list[int], timeout_s: float = 20.0) -> list[int]:
    deadline = time.monotonic() + timeout_s
    while alive(pids) and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    return alive(pids)


@pytest.mark.parametrize(
    ("gold", "answer", "value"),
    [
        ("1/3", "0.333", 0.0),
        ("1/3", "0.333333", 1.0),
        ("0.5", "50%", 1.0),
        ("50", "50%", 1.0),
        ("24", r"\frac{48}{2}=24", 1.0),
        ("25", r"\frac{48}{2}=24", 0.0),
        ("x=5", "5", 1.0),
        ("5", "x=5", 1.0),
        ("x=5", "y=5", 0.0),
        (r"2\sqrt{3}", r"\sqrt{12}", 1.0),
        ("(x+1)^2", "x^2+2x+1", 1.0),
        ("1, 2", "2, 1", 1.0),
        ("(1,2)", "(2,1)", 0.0),
        (r"(-\infty, 3]", r"x \le 3", 0.0),
        (r"x \le 3", r"(-\infty, 3]", 1.0),
        (r"\pi", "pi", 1.0),
        ("8", "2**3", 1.0),
        ("18", "$18 per day", 1.0),
        ("18", "18 million", 0.0),
        ("18", "20 dollars", 0.0),
        ("Evelyn", r"\text{Evelyn}", 1.0),
        ("Evelyn", "Eve", 0.0),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix}1\\2\end{bmatrix}", 1.0),
        ("0.00000001", "0.00000002", 0.0),
        ("0.000012345", "0.0000123451", 1.0),
        ("4", "__import__('os').getpid()", 0.0),
    ],
)
def test_known_pairs(grader: AnswerGrader, gold: str, answer: str, value: float) -> None:
    assert grader.grade_sync(gold, answer).value == value


def test_the_fast_path_agrees_with_math_verify() -> None:
    from stepward.environments.grader import verdict

    numbers = ["0", "-0", "7", "7.0", "7.5", "-7", "15/2", "7.50", "1,000", "1000", "1000.0", "1/3", "2/6", r"\frac{1}{3}"]
    numbers += [r"-\frac{1}{3}", r"\frac12", "0.5", ".5", "123456789012", "123456789013"]
    decided = 0
    for gold in numbers:
        for answer in numbers:
            fast = compare_plainly(gold, answer)
            if fast is not None:
                decided += 1
                slow = verdict.judge(gold, answer)["verdict"]
                assert slow == ("right" if fast.value else "wrong"), (gold, answer)
    assert decided == len(numbers) ** 2


def test_plain_numbers_start_no_process() -> None:
    with AnswerGrader() as fresh:
        assert fresh.grade_sync("18", "18.0").value == 1.0
        assert asyncio.run(fresh.grade("18", "19")).value == 0.0
        assert fresh.worker_pids == []


@pytest.mark.parametrize("answer", [SLOW, r"\int \sqrt{\sin(x^7 y z)} dx"])
def test_an_answer_over_its_time_limit_is_unscored_and_the_next_is_graded(answer: str) -> None:
    with AnswerGrader(workers=1, time_limit_s=0.2) as short:
        outcome = short.grade_sync("3", answer)
        assert not outcome.scored
        assert "time limit of 0.2 s" in str(outcome.reason)
        assert short.grade_sync("x+1", "1+x").value == 1.0


def test_deep_nesting_is_unscored_not_wrong(grader: AnswerGrader) -> None:
    nested = grader.grade_sync("1", r"\sqrt{" * 150 + "1" + "}" * 150)
    assert not nested.scored
    assert "nested" in str(nested.reason)


def test_the_memory_limit_holds_and_running_into_it_is_unscored_not_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    from stepward.environments.grader import verdict

    monkeypatch.setattr(verdict, "_read", lambda text: bytearray(1 << 32))
    bench = Bench(verdict.answer, time_limit_s=5.0, memory_bytes=1 << 30, recycle_after=100)
    starved = bench.answer({"gold": "x", "answer": "y"})
    bench.dismiss()
    assert starved["verdict"] == "unscored"
    assert "memory" in starved["reason"]


def test_too_long_an_answer_is_unscored(grader: AnswerGrader) -> None:
    assert "2001 characters" in str(grader.grade_sync("1", "1" * 2001).reason)


def test_a_crashing_judge_is_replaced_and_tried_once_more() -> None:
    parent = os.getpid()

    def judge(request: dict[str, object]) -> dict[str, object]:
        if request["answer"] == "crash" and os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)  # not SIGSEGV, which pytest would report at length
        return {"verdict": "right", "reason": None}

    bench = Bench(judge, time_limit_s=5.0, memory_bytes=1 << 34, recycle_after=100)
    crashed = bench.answer({"gold": "1", "answer": "crash"})
    assert "crashed twice" in crashed["failed"]
    assert "SIGKILL" in crashed["failed"]
    assert bench.answer({"gold": "1", "answer": "fine"})["verdict"] == "right"
    bench.dismiss()
    assert psutil.Process().children() == [] or all("workers.worker" in " ".join(child.cmdline()) for child in psutil.Process().children())


def test_a_killed_worker_is_replaced() -> None:
    with AnswerGrader(workers=1) as single:
        assert single.grade_sync("x+1", "1+x").value == 1.0
        os.kill(single.worker_pids[0], signal.SIGKILL)
        assert single.grade_sync("x+2", "2+x").value == 1.0


def test_hostile_answers_from_threads_and_from_asyncio_all_come_back() -> None:
    attacks = adversarial_answers(seed=3, n=160)
    with AnswerGrader(workers=2, time_limit_s=0.2) as hardened:
        with ThreadPoolExecutor(8) as pool:
            threaded = list(pool.map(lambda attack: hardened.grade_sync(attack.gold, attack.answer), attacks[:80]))

        async def everything() -> list[object]:
            return await asyncio.gather(*(hardened.grade(attack.gold, attack.answer) for attack in attacks[80:]))

        awaited = asyncio.run(everything())
        pids = family(hardened.worker_pids)
    assert alive(pids) == []
    for attack, outcome in zip(attacks, [*threaded, *awaited], strict=True):
        assert attack.allows(outcome.value), (attack, outcome)  # type: ignore[attr-defined]
        assert outcome.scored or outcome.reason  # type: ignore[attr-defined]


def test_one_grader_serves_several_event_loops_at_once(grader: AnswerGrader) -> None:
    async def some(k: int) -> list[float | None]:
        return [outcome.value for outcome in await asyncio.gather(*(grader.grade(f"x+{k}", f"{k + j}+x") for j in range(3)))]

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda k: asyncio.run(some(k)), range(1, 4))) == [[1.0, 0.0, 0.0]] * 3


def test_a_cancelled_request_harms_nobody() -> None:
    with AnswerGrader(workers=1, time_limit_s=0.3) as single:

        async def cancel_some() -> float | None:
            waiting = [asyncio.ensure_future(single.grade("3", SLOW)) for _ in range(5)]
            last = asyncio.ensure_future(single.grade("x+1", "1+x"))
            await asyncio.sleep(0)
            for task in waiting:
                task.cancel()
            return (await last).value

        assert asyncio.run(cancel_some()) == 1.0


def test_closing_ends_every_process_and_answers_what_waits() -> None:
    doomed = AnswerGrader(workers=2, time_limit_s=30.0)
    doomed.grade_sync("x+1", "1+x")
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(doomed.grade_sync, "3", SLOW + f"+{k}") for k in range(4)]
        while len(family(doomed.worker_pids)) < 3:
            threading.Event().wait(0.01)
        pids = family(doomed.worker_pids)
        doomed.close()
        outcomes = [future.result(timeout=30) if future.exception() is None else None for future in waiting]
    assert wait_until_gone(pids) == []
    assert all(outcome is None or not outcome.scored for outcome in outcomes)
    with pytest.raises(InputError, match="closed"):
        doomed.grade_sync("x", "y+1")


def test_a_forgotten_grader_leaves_no_process() -> None:
    forgotten = AnswerGrader(workers=1)
    forgotten.grade_sync("x+1", "1+x")
    pids = family(forgotten.worker_pids)
    del forgotten
    gc.collect()
    assert wait_until_gone(pids) == []


@pytest.mark.parametrize("ending", ["kill", "exit"])
def test_no_process_outlives_its_parent(ending: str, tmp_path: Path) -> None:
    script = textwrap.dedent(
        f"""
        import sys, threading
        from stepward.environments.grader import AnswerGrader
        grader = AnswerGrader(workers=2, time_limit_s=60)
        grader.grade_sync("x+1", "1+x")
        for k in range(2):
            threading.Thread(target=grader.grade_sync, args=("3", {SLOW!r}), daemon=True).start()
        print(*grader.worker_pids, flush=True)
        sys.stdin.readline()
        """
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    started = [int(pid) for pid in process.stdout.readline().split()]
    pids = family(started)
    assert len(pids) >= 2
    if ending == "kill":
        process.kill()
    else:
        process.stdin.write("\n")
    process.communicate(timeout=30)
    assert wait_until_gone(pids) == []


def test_bad_settings_are_refused_with_a_remedy() -> None:
    with pytest.raises(InputError, match="workers"):
        AnswerGrader(workers=0)
    with pytest.raises(InputError, match="time_limit_s"):
        AnswerGrader(time_limit_s=0.0)
    with pytest.raises(InputError, match="str"):
        AnswerGrader().grade_sync("1", 1)  # type: ignore[arg-type]
