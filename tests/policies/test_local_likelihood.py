"""What a local policy says about given text: equal to plain forward passes, every distinct token computed once, and no table of logits for long text."""

from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.policies import tiny_models

from stepward.core import ChoicePolicy, ContextOverflow, InputError, Problem, Step, Trajectory, Usage, metered
from stepward.engine.reader import vocabulary
from stepward.engine.reader.query import Query
from stepward.engine.reader.reader import Reader
from stepward.engine.reader.vocabulary import LogProb
from stepward.policies.local import LocalPolicy
from stepward.policies.sampler.likelihood import likelihood_of

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 6, "head_dim": 8},
    "gpt2": {},
    "gpt_neox": {},
    "gemma2": {"sliding_window": 6, "head_dim": 8, "final_logit_softcapping": 3.0},
    "granite": {"logits_scaling": 4.0},
    "cohere": {"logit_scale": 0.25},
}
SOLUTION = Trajectory(
    Problem("Tom has 3 apples."), (Step("So 3 + 4 = 7.", "\n", observation="Six pens"), Step("", "\n"), Step("The answer is 7.", "\n")), finished=True
)
PREFIX = Trajectory(SOLUTION.problem, SOLUTION.steps[:2])
CHOICES = (" answer is 7", " 3", " pens")


def policy(kind: str = "llama", *, model: dict[str, Any] | None = None, **options: Any) -> LocalPolicy:
    tokenizer = tiny_models.byte_level()
    made = tiny_models.model(kind, len(tokenizer), eos=tokenizer.eos_token_id, **{**ARCHITECTURES[kind], **(model or {})})
    return LocalPolicy(made, tokenizer, template="raw", separator="\n", **options)


def plain(writer: LocalPolicy, ids: tuple[int, ...]) -> list[tuple[float, float]]:
    """(log-probability, entropy) at every token but the first, from the model's logits over the whole sequence."""
    with torch.no_grad():
        logprobs = writer.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return [(float(row[token]), float(-(row.exp() * row).sum())) for row, token in zip(logprobs[:-1], ids[1:], strict=True)]


def assert_told(writer: LocalPolicy) -> None:
    rendered = writer.rendering.render(SOLUTION)
    ids = (*rendered.ids, writer.tokenizer.eos_token_id)
    truth, at = plain(writer, ids), len(rendered.prompt) - 1
    expected = []
    for step, observed in zip(rendered.steps, rendered.observed, strict=True):
        expected.append(truth[at : at + len(step) - observed])
        at += len(step)

    async def ask() -> Any:
        return await asyncio.gather(writer.logprobs(SOLUTION), writer.entropies(SOLUTION), writer.choice_logprobs(PREFIX, CHOICES))

    logprobs, entropies, choices = asyncio.run(ask())
    told = [*logprobs.steps[:-1], logprobs.steps[-1][:-1]]
    assert [len(step) for step in told] == [len(step) for step in entropies] == [len(step) for step in expected]
    for step, spread, wanted in zip(told, entropies, expected, strict=True):
        assert step == pytest.approx([logprob for logprob, _ in wanted], abs=1e-4)
        assert spread == pytest.approx([entropy for _, entropy in wanted], abs=1e-4)
    assert logprobs.steps[-1][-1] == pytest.approx(truth[-1][0], abs=1e-4), "the end of text"
    start = writer.rendering.render(PREFIX).ids
    words = [writer.rendering.encode(choice) for choice in CHOICES]
    assert max(map(len, words)) > 1
    assert choices == pytest.approx([sum(p for p, _ in plain(writer, start + word)[len(start) - 1 :]) for word in words], abs=1e-4)


@pytest.mark.parametrize("kind", list(ARCHITECTURES))
def test_what_is_told_is_what_a_plain_forward_pass_gives(kind: str) -> None:
    writer = policy(kind)
    assert_told(writer)
    assert isinstance(writer._likelihood, Reader), "the body and its output layer make up this model"


class Lifted(torch.nn.Linear):
    """An output layer that does more than its weights say."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        logits = super().forward(states)
        return logits + torch.linspace(0, 5, logits.shape[-1])


def test_a_model_that_is_more_than_body_and_output_layer_is_read_as_a_whole() -> None:
    writer = policy()
    old = writer.model.lm_head
    writer.model.lm_head = Lifted(old.in_features, old.out_features, bias=False)
    writer.model.lm_head.weight = old.weight
    assert_told(writer)
    writer = policy()
    forward = writer.model.forward

    def halved(*args: Any, **options: Any) -> Any:
        output = forward(*args, **options)
        output.logits = output.logits / 2
        return output

    writer.model.forward = halved  # which nothing but a probe can find out
    assert_told(writer)


def test_a_model_that_is_read_as_a_whole_needs_no_care_of_gradients() -> None:
    writer = policy()
    old = writer.model.lm_head
    writer.model.lm_head = Lifted(old.in_features, old.out_features, bias=False)
    ids = torch.arange(20)
    [reading] = likelihood_of(writer.model, cache_bytes=0, max_batch_tokens=100)([Query(ids.numpy(), ids[1:].numpy())])
    assert reading.values == pytest.approx(np.array(plain(writer, tuple(ids.tolist()))), abs=1e-4)


def spent(writer: LocalPolicy, asked: Any) -> tuple[Usage, Usage]:
    """(what it costs alone, what it cost now)."""

    async def ask() -> tuple[Usage, Usage]:
        with metered() as ledger:
            await asked
        return ledger.usage, ledger.paid

    return asyncio.run(ask())


def test_only_what_is_new_behind_a_known_prefix_is_computed() -> None:
    writer = policy()
    start, words = len(writer.rendering.render(PREFIX).ids), [len(writer.rendering.encode(choice)) for choice in CHOICES]
    usage, paid = spent(writer, writer.choice_logprobs(PREFIX, CHOICES))
    assert (usage.policy_prefill, usage.policy_cached, usage.calls) == (start + sum(words), 0, 1)
    assert (paid.policy_prefill, paid.policy_cached) == (start + sum(words), 0), "the prefix once, not once a choice"
    assert paid.flops == usage.flops > 0
    again, nothing = spent(writer, writer.choice_logprobs(PREFIX, CHOICES))
    assert again == usage, "what a result costs alone does not depend on what is known"
    assert (nothing.policy_prefill, nothing.policy_cached, nothing.flops) == (0, start + sum(words), 0)
    longer = PREFIX.extend(Step(" 3 + 4 = 7.", "\n"))
    n_longer = len(writer.rendering.render(longer).ids)
    usage, paid = spent(writer, writer.logprobs(longer))
    three = writer.rendering.encode(" 3")  # which was a choice
    assert writer.rendering.encode(" 3 + 4 = 7.\n")[: len(three)] == three
    n_known = start + len(three)
    assert (usage.policy_prefill, paid.policy_prefill, paid.policy_cached) == (n_longer, n_longer - n_known, n_known)
    assert 0 < paid.flops < usage.flops


def test_memory_for_prefixes_is_bounded() -> None:
    known, limit = [], 1 << 16
    for n_bytes in (limit, 0):
        writer = policy(prefix_bytes=n_bytes)
        for digit in "3456":
            asyncio.run(writer.logprobs(Trajectory(Problem(f"{digit} pens. " * 20), SOLUTION.steps)))
            assert isinstance(writer._likelihood, Reader)
            assert writer._likelihood.cached_bytes <= n_bytes
        known.append(spent(writer, writer.logprobs(Trajectory(Problem("6 pens. " * 20), SOLUTION.steps)))[1].policy_cached)
    assert known[0] > known[1] == 0


def test_a_long_text_makes_no_table_of_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = policy(model={"context": 1024})
    asyncio.run(writer.logprobs(SOLUTION))  # includes the probes
    rows: list[int] = []
    product = vocabulary.linear

    def counted(states: torch.Tensor, *rest: Any) -> torch.Tensor:
        rows.append(len(states))
        return product(states, *rest)

    def whole(*_: Any, **__: Any) -> Any:
        raise AssertionError("the model made logits for every token")

    long = Trajectory(SOLUTION.problem, tuple(Step(f"{index} + 4 = 7.", "\n") for index in range(60)))
    expected = plain(writer, writer.rendering.render(long).ids)
    monkeypatch.setattr(vocabulary, "MAX_LOGITS", 2 * len(writer.tokenizer) * 16)
    monkeypatch.setattr(vocabulary, "linear", counted)
    monkeypatch.setattr(writer.model.lm_head, "forward", whole)
    told = asyncio.run(writer.logprobs(long))
    flat = [logprob for step in told.steps for logprob in step]
    assert sum(rows) == len(flat) > 400
    assert max(rows) == 16
    assert flat == pytest.approx([logprob for logprob, _ in expected[-len(flat) :]], abs=1e-4)


def test_what_cannot_be_asked_is_refused() -> None:
    writer = policy(model={"context": 64})
    assert isinstance(writer, ChoicePolicy)
    with pytest.raises(InputError, match="has ended"):
        asyncio.run(writer.choice_logprobs(SOLUTION, CHOICES))
    long = Trajectory(Problem("Tom has 3 apples. " * 12))
    for asked in (writer.choice_logprobs(long, CHOICES), writer.entropies(long.extend(Step("So")))):
        with pytest.raises(ContextOverflow, match="context is 64"):
            asyncio.run(asked)  # type: ignore[arg-type]
    assert asyncio.run(writer.choice_logprobs(PREFIX, ())) == ()
    assert asyncio.run(writer.choice_logprobs(PREFIX, ("",))) == (0.0,), "nothing is certain to come next"


def test_the_entropy_of_a_token_that_cannot_come_is_none() -> None:
    logits = torch.tensor([[0.0, 0.0, -math.inf], [5.0, -math.inf, -math.inf]])
    read = vocabulary.read_logits(logits.clone(), torch.tensor([0, 1]), entropy=True)
    assert read[:, 0].tolist() == pytest.approx([-math.log(2), -math.inf])
    assert read[:, 1].tolist() == pytest.approx([math.log(2), 0.0])
    hidden, weight, targets = torch.randn(5, 4), torch.randn(7, 4), torch.arange(5)
    assert torch.equal(LogProb(weight, entropy=True)(hidden, targets)[:, :1], LogProb(weight)(hidden, targets))


@pytest.mark.parametrize("kind", ["mamba", "rwkv"])
def test_models_without_attention_cost_no_attention(kind: str) -> None:
    import transformers

    from stepward.policies.sampler.weights import attention_flops

    config = transformers.AutoConfig.for_model(kind)
    assert attention_flops(SimpleNamespace(config=config), 0, 100) == 0
    llama = transformers.AutoConfig.for_model("llama", hidden_size=64, num_attention_heads=4, num_hidden_layers=3)
    assert attention_flops(SimpleNamespace(config=llama), 2, 5) == 4 * 3 * 64 * (3 + 4 + 5)
