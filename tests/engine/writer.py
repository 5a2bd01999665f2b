"""A process that samples through a journal until it is done or killed: `python -m tests.engine.writer JOURNAL N PAID`.

It appends what it is paid for to PAID before it answers, says on standard error when the journal is open and whenever a result is in use, and
prints results and usage at the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from stepward.core.problem import Problem
from stepward.core.protocols import DEFAULT_SAMPLING
from stepward.core.sampling import Sampling, Until
from stepward.core.step import Step
from stepward.core.trajectory import Trajectory
from stepward.core.usage import Usage, charge, metered
from stepward.engine.batching import Batcher
from stepward.engine.concurrency import run_all
from stepward.engine.journal import Journal
from stepward.engine.journaled import JournaledPolicy
from stepward.engine.noise import uniforms

LIMIT = 8  # requests in flight, two draws each


class PaidPolicy:
    """Writes down what it is paid for before it answers."""

    fingerprint = "test:paid"

    def __init__(self, paid: Path) -> None:
        self._file = os.open(paid, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.batcher: Batcher[tuple[Trajectory, int], Trajectory] = Batcher(self._run, max_batch=16)

    async def sample(
        self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        samples = list(await asyncio.gather(*(self.batcher((prefix, draw + index)) for index in range(n))))
        charge(Usage(policy_tokens=9 * n, policy_prefill=5, calls=1))
        return samples

    def _run(self, requests: Sequence[tuple[Trajectory, int]]) -> list[Trajectory]:
        os.write(self._file, "".join(f"{prefix.key} {draw}\n" for prefix, draw in requests).encode())
        return [prefix.extend(Step(f"{float(uniforms(0, prefix.key, draw, 0)[0])!r} " + "x" * (37 * draw % 5000), n_tokens=9)) for prefix, draw in requests]


def say(text: str) -> None:
    os.write(2, f"{text}\n".encode())


async def work(path: Path, n: int, paid: Path) -> tuple[list[str], Usage, Usage]:
    policy = PaidPolicy(paid)
    with Journal(path) as journal, metered() as ledger:
        say("open")
        journaled = JournaledPolicy(policy, journal)

        async def one(index: int) -> str:
            samples = await journaled.sample(Trajectory(Problem(f"Problem {index}")), 2, draw=index % 3 * 40)
            return json.dumps([sample.text for sample in samples])

        results = await run_all(range(n), one, limit=LIMIT, on_done=lambda index, _: say(f"used {index}"))
    policy.batcher.close()
    return [str(result) for result in results], ledger.usage, ledger.paid


if __name__ == "__main__":
    lines, usage, paid_now = asyncio.run(work(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
    print("\n".join(lines))
    print(json.dumps(usage.to_record(), sort_keys=True))
