"""GuidedPolicy: its next tokens against the formula computed with whole tables of logits, and what it charges."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from tests.policies import tiny_models

from stepward.core import InputError, Problem, Sampling, Trajectory, Until, metered
from stepward.engine.loop import run_sync
from stepward.environments.maths import Maths
from stepward.policies.guided import GuidedPolicy
from stepward.policies.local import LocalPolicy
from stepward.policies.sampler.guided import guided_logits
from stepward.search.sampled import Majority
from stepward.testing import check_policy, check_search

PROBLEMS = [Problem("Tom has 3 apples."), Problem("half of 12 is")]
GREEDY = Sampling(temperature=0.0, max_tokens=24, max_step_tokens=12)


@cache
def model(seed: int) -> Any:
    return tiny_models.model("llama", len(tiny_models.word_level()), eos=tiny_models.word_level().eos_token_id, seed=seed)


@pytest.fixture(scope="module")
def locals_() -> Iterator[list[LocalPolicy]]:
    made = [LocalPolicy(model(seed), tiny_models.word_level(), separator="\n") for seed in range(3)]
    yield made
    for one in made:
        one.close()


def sampled(policy: Any, sampling: Sampling = GREEDY) -> list[str]:
    async def run() -> list[str]:
        return [(await policy.sample(Trajectory(problem), 1, until=Until.END, sampling=sampling))[0].text for problem in PROBLEMS]

    return run_sync(run())


def by_hand(policy: GuidedPolicy, problem: Problem) -> str:
    """Greedy writing with the formula, whole sequences at a time."""
    models = [policy.base.model, policy.personal.model, (policy.reference or policy.base).model]
    ids = list(policy.prompt_tokens(problem))
    start = len(ids)
    while len(ids) - start < GREEDY.max_tokens:
        with torch.no_grad():
            base, personal, reference = (one(torch.tensor([ids])).logits[0, -1] for one in models)
        best = base.topk(policy.top_k).indices
        moved = base[best] + policy.weight * (personal[best].log_softmax(-1) - reference[best].log_softmax(-1))
        ids.append(int(best[moved.argmax()]))
        if ids[-1] in policy.base.rendering.eos_ids:
            break
    return policy.base.rendering.text_of([token for token in ids[start:] if token not in policy.base.rendering.eos_ids])


@pytest.mark.parametrize(("weight", "top_k", "with_reference"), [(0.8, 10, True), (1.5, 5, False), (0.3, 3, True)])
def test_the_next_token_is_the_largest_of_the_formula(locals_: list[LocalPolicy], weight: float, top_k: int, with_reference: bool) -> None:
    base, personal, reference = locals_
    policy = GuidedPolicy(base, personal, reference if with_reference else None, weight=weight, top_k=top_k)
    written = sampled(policy, Sampling(temperature=0.0, max_tokens=24, max_step_tokens=24))
    for text, problem in zip(written, PROBLEMS, strict=True):
        assert text
        assert by_hand(policy, problem).startswith(text)
    policy.close()


def test_without_weight_it_is_the_base_greedily(locals_: list[LocalPolicy]) -> None:
    policy = GuidedPolicy(*locals_, weight=0.0)
    assert sampled(policy) == sampled(locals_[0])
    policy.close()


def test_with_weight_one_and_the_base_as_reference_it_is_the_personal_model_greedily(locals_: list[LocalPolicy]) -> None:
    n_vocabulary = len(tiny_models.word_level())
    for reference in (None, locals_[0]):
        policy = GuidedPolicy(locals_[0], locals_[1], reference, weight=1.0, top_k=n_vocabulary)
        assert sampled(policy) == sampled(locals_[1]) != sampled(locals_[0])
        policy.close()


def test_tokens_outside_the_bases_best_are_impossible() -> None:
    base, personal, reference = torch.randn(3, 7, 50, generator=torch.Generator().manual_seed(0)).unbind(0)
    moved = guided_logits(base, personal, reference, top_k=4, weight=0.8)
    assert (torch.isfinite(moved).sum(-1) == 4).all()
    assert torch.isfinite(moved.gather(-1, base.topk(4).indices)).all()
    assert guided_logits(base, personal[:, :40], reference, top_k=99, weight=1.0).shape == (7, 40)


def test_the_other_models_tokens_are_reward_tokens(locals_: list[LocalPolicy]) -> None:
    prefix = Trajectory(PROBLEMS[0])
    one, two = GuidedPolicy(*locals_[:2], weight=0.0, top_k=1000), GuidedPolicy(*locals_, weight=0.0, top_k=1000)

    async def run() -> None:
        with metered() as plain:
            await locals_[0].sample(prefix, 3, sampling=GREEDY)
        for policy, n in ((one, 1), (two, 2)):
            with metered() as ledger:
                await policy.sample(prefix, 3, sampling=GREEDY)
            usage = ledger.usage
            assert (usage.policy_tokens, usage.policy_prefill, usage.calls) == (plain.usage.policy_tokens, plain.usage.policy_prefill, 1)
            assert usage.reward_tokens == n * (usage.policy_tokens + usage.policy_prefill)
            assert usage.reward_cached == n * usage.policy_cached
            assert usage.flops == (1 + n) * plain.usage.flops  # models of one size
            price = policy.price(prefix, 3, sampling=GREEDY)
            assert price.reward_tokens >= usage.reward_tokens
            assert price.flops >= usage.flops

    run_sync(run())
    one.close()
    two.close()


def test_it_is_a_policy_that_takes_up_broken_steps_and_serves_searches(locals_: list[LocalPolicy]) -> None:
    policy = GuidedPolicy(*locals_)
    check_policy(policy, PROBLEMS, sampling=Sampling(max_tokens=24, max_step_tokens=12))
    check_search(Majority(policy=policy, environment=Maths(), n=3, sampling=GREEDY), PROBLEMS)

    async def run() -> None:
        prefix, whole = Trajectory(PROBLEMS[0]), Sampling(max_step_tokens=12)
        for draw in range(4):
            [begun] = await policy.sample(prefix, 1, sampling=Sampling(max_step_tokens=2), draw=draw)
            [expected] = await policy.sample(prefix, 1, sampling=whole, draw=draw)
            if begun.truncated:
                assert (await policy.resume(prefix, begun.steps[-1], sampling=whole, draw=draw)).key == expected.key

    run_sync(run())
    policy.close()


def test_models_that_cannot_be_compared_are_refused(locals_: list[LocalPolicy]) -> None:
    other = LocalPolicy(tiny_models.model("llama", len(tiny_models.byte_level())), tiny_models.byte_level(), separator="\n")
    with pytest.raises(InputError, match="different vocabularies"):
        GuidedPolicy(locals_[0], other)
    for wrong in ({"top_k": 0}, {"weight": float("nan")}):
        with pytest.raises(InputError):
            GuidedPolicy(locals_[0], locals_[1], **wrong)
    assert GuidedPolicy(*locals_).fingerprint != GuidedPolicy(*locals_, weight=0.7).fingerprint
