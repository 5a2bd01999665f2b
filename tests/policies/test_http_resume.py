"""Steps that are broken off and written on by a server: the joint does not show."""

from __future__ import annotations

import asyncio

import pytest
from tests.policies.servers import completion, serving

from stepward.core import Problem, ResumingPolicy, Sampling, Step, Trajectory
from stepward.engine.retry import Retry
from stepward.policies.http import HttpPolicy

SOLUTION = "3 + 4 = 7.\n\n7 * 2 = 14.\n\nThe answer is 14."
START = Trajectory(Problem("How many?"))


@pytest.mark.parametrize("tells_stop", [True, False], ids=["vLLM-like", "OpenAI-like"])
@pytest.mark.parametrize("n_begun", [1, 5, 9, 10, 11])
def test_a_broken_step_is_finished_wherever_it_was_broken_off(tells_stop: bool, n_begun: int) -> None:
    async def go(url: str) -> tuple[Trajectory, Trajectory]:
        async with HttpPolicy(url, "some-model", retry=Retry(attempts=1)) as policy:
            assert isinstance(policy, ResumingPolicy)
            [begun] = await policy.sample(START, 1, sampling=Sampling(max_step_tokens=n_begun))
            assert begun.truncated
            assert begun.steps[-1].n_tokens == n_begun
            return await policy.resume(START, begun.steps[-1], sampling=Sampling()), (await policy.sample(START))[0]

    with serving(completion(SOLUTION, tells_stop=tells_stop)) as server:
        resumed, whole = asyncio.run(go(server.url))
    assert resumed.key == whole.key
    assert (resumed.finished, resumed.truncated) == (whole.finished, whole.truncated)
    goes_on = [body for _, body in server.requests if body["prompt"] in ("How many?\n" + SOLUTION[:n_begun], "How many?\n" + SOLUTION[:n_begun].rstrip())]
    assert goes_on
    assert all(body["seed"] != server.requests[0][1]["seed"] for body in goes_on)


def test_a_last_step_ends_the_solution_and_a_spent_limit_cuts_it_off() -> None:
    before = START.extend(Step("3 + 4 = 7.", "\n\n", n_tokens=12)).extend(Step("7 * 2 = 14.", "\n\n", n_tokens=13))

    async def go(url: str) -> None:
        async with HttpPolicy(url, "some-model", retry=Retry(attempts=1)) as policy:
            finished = await policy.resume(before, Step("The ans", n_tokens=7), sampling=Sampling(max_steps=3))
            assert finished.text == SOLUTION
            assert finished.finished
            assert len(finished) == 3
            whole = await policy.resume(before, Step("The answer is 14.", n_tokens=17), sampling=Sampling())
            assert (whole.text, whole.finished) == (SOLUTION, True)
            cut = await policy.resume(before, Step("The ans", n_tokens=7), sampling=Sampling(max_step_tokens=7))
            assert cut.truncated
            assert cut.steps[-1].text == "The ans"

    with serving(completion(SOLUTION, tells_stop=True)) as server:
        asyncio.run(go(server.url))
