"""The tiny policy that ships: small, standard, and neither too good nor too bad."""

from __future__ import annotations

import asyncio
from collections import Counter

import numpy as np
import pytest

from stepward.core import Sampling, Trajectory
from stepward.environments.episode import solve
from stepward.environments.grade_school import GradeSchool
from stepward.evaluation.selection import pass_at_k
from stepward.policies.load import load_policy, tiny_folder

WORLD = GradeSchool.easy()
N_PROBLEMS, N_SAMPLES = 150, 16


@pytest.fixture(scope="module")
def pools() -> list[list[Trajectory]]:
    policy = load_policy("tiny")

    async def run() -> list[list[Trajectory]]:
        return list(await asyncio.gather(*(solve(policy, WORLD, problem, N_SAMPLES, sampling=Sampling(seed=11)) for problem in problems)))

    problems = list(WORLD.problems(11, N_PROBLEMS, split="dev"))
    return asyncio.run(run())


def test_it_is_small_and_loads_in_transformers() -> None:
    from transformers import AutoModelForCausalLM

    assert sum(file.stat().st_size for file in tiny_folder().iterdir()) <= 8_000_000
    model = AutoModelForCausalLM.from_pretrained(tiny_folder())
    assert model.config.model_type == "llama"


def test_its_tokenizer_gives_problems_and_solutions_back_exactly() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_folder())
    for problem in WORLD.problems(3, 200):
        text = problem.prompt + "\n" + "\n".join(problem.reference_steps)
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == text


def test_it_solves_40_to_70_percent_alone_and_85_percent_in_16_tries(pools: list[list[Trajectory]]) -> None:
    right = np.array([[t.outcome is not None and t.outcome.correct is True for t in pool] for pool in pools])
    assert 0.40 <= right.mean() <= 0.70, f"pass@1 is {right.mean():.3f}"
    pass_16 = np.mean([pass_at_k(N_SAMPLES, int(row.sum()), 16) for row in right])
    assert pass_16 >= 0.85, f"pass@16 is {pass_16:.3f}"


def test_its_first_errors_are_of_several_types(pools: list[list[Trajectory]]) -> None:
    """At least four types make up 5 % or more of the first errors each."""
    types: Counter[str] = Counter()
    for pool in pools:
        for trajectory in pool:
            judged = WORLD.judge(trajectory)
            if judged.first_error >= 0:
                types[str(judged.steps[judged.first_error].error)] += 1
    frequent = [kind for kind, count in types.items() if count >= 0.05 * types.total()]
    assert len(frequent) >= 4, types
