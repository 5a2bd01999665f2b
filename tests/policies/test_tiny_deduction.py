"""The tiny policy for deduction that ships: small, standard, well-formed, and neither too good nor too bad."""

from __future__ import annotations

import asyncio
import tomllib
from pathlib import Path

import numpy as np
import pytest

from stepward.core import InputError, Sampling, Trajectory
from stepward.environments.deduction import Deduction
from stepward.environments.episode import solve
from stepward.policies.load import TINY, has_weights, load_policy, tiny_folder

WORLD = Deduction.simple()
N_PROBLEMS, N_SAMPLES = 100, 4


@pytest.fixture(scope="module")
def pools() -> list[list[Trajectory]]:
    policy = load_policy("tiny:deduction")

    async def run() -> list[list[Trajectory]]:
        return list(await asyncio.gather(*(solve(policy, WORLD, problem, N_SAMPLES, sampling=Sampling(seed=11)) for problem in problems)))

    problems = list(WORLD.problems(11, N_PROBLEMS, split="dev"))
    return asyncio.run(run())


def test_it_is_small_and_loads_in_transformers() -> None:
    from transformers import AutoModelForCausalLM

    assert sum(file.stat().st_size for file in tiny_folder("tiny:deduction").iterdir()) <= 8_000_000
    model = AutoModelForCausalLM.from_pretrained(tiny_folder("tiny:deduction"))
    assert model.config.model_type == "llama"


def test_its_folder_goes_into_the_wheel() -> None:
    """The wheel takes the whole package, and no rule of .gitignore, which its build obeys, names a file of the folder."""
    root = Path(__file__).resolve().parents[2]
    wheel = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel == {"packages": ["src/stepward"]}
    assert tiny_folder("tiny:deduction").is_relative_to(root / "src" / "stepward")
    ignored = (root / ".gitignore").read_text().split()
    assert not [file for file in tiny_folder("tiny:deduction").iterdir() if any(file.match(rule) for rule in ignored)]


def test_its_tokenizer_gives_problems_and_solutions_back_exactly() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_folder("tiny:deduction"))
    for problem in WORLD.problems(3, 200):
        text = problem.prompt + "\n" + "\n".join(problem.reference_steps)
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == text


def test_most_of_its_solutions_are_without_an_error_and_not_all(pools: list[list[Trajectory]]) -> None:
    """A guesser's verdict is right half of the time, its derivation hardly ever."""
    judged = [[WORLD.judge(trajectory) for trajectory in pool] for pool in pools]
    flawless = np.array([[one.first_error < 0 and one.final_correct is True for one in pool] for pool in judged])
    error = flawless.mean(axis=1).std() / np.sqrt(N_PROBLEMS)
    assert flawless.mean() - 3 * error > 0.8, f"flawless: {flawless.mean():.3f}"
    assert flawless.mean() + 3 * error < 1.0, f"flawless: {flawless.mean():.3f}"


def test_it_ends_its_solutions(pools: list[list[Trajectory]]) -> None:
    ended = [trajectory.ended and not trajectory.truncated for pool in pools for trajectory in pool]
    assert np.mean(ended) >= 0.95


def test_the_two_tiny_policies_are_told_apart() -> None:
    assert load_policy("tiny").fingerprint != load_policy("tiny:deduction").fingerprint


def test_only_policies_with_weights_here_take_a_device() -> None:
    assert all(has_weights(spec) for spec in (*TINY, "hf:some/model"))
    assert not any(has_weights(spec) for spec in ("scripted:deduction", "http://localhost:8000/v1", "tiny:chess"))


def test_an_unknown_or_missing_one_is_a_mistake_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="there are tiny, tiny:deduction"):
        tiny_folder("tiny:chess")
    with pytest.raises(InputError, match="unknown policy 'tiny:chess'; the forms are tiny, tiny:deduction"):
        load_policy("tiny:chess")
    monkeypatch.setitem(TINY, "tiny:deduction", (tmp_path, "recipes/train_tiny_reasoner.py"))
    with pytest.raises(InputError, match=r"'tiny:deduction'; install the wheel, or make it with recipes/train_tiny_reasoner\.py"):
        load_policy("tiny:deduction")
