"""The local policy: distributions, independence of batching, architectures, tokenizers, costs and failures."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2
from tests.policies import tiny_models

from stepward.core import ContextOverflow, InputError, LogprobPolicy, Problem, RequestFailed, Sampling, Step, Trajectory, Until, Usage, metered
from stepward.policies.load import load_policy
from stepward.policies.local import LocalPolicy
from stepward.policies.sampler.choose import agrees, choose_decoder
from stepward.policies.sampler.decoder import CachedDecoder
from stepward.policies.sampler.generic import GenericPass
from stepward.policies.sampler.lean import LeanPass, is_lean
from stepward.policies.sampler.pool import Pool
from stepward.policies.sampler.recompute import RecomputeDecoder
from stepward.policies.sampler.request import Request
from stepward.policies.sampler.shared import SharedDecoder

START = Trajectory(Problem("Tom has 3 apples."))
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "mistral": {"sliding_window": 6, "head_dim": 8},
    "gpt2": {},
    "gpt_neox": {},
    "gemma3_text": {"sliding_window": 6, "head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]},
}


def policy(kind: str = "llama", *, words: Any = tiny_models.word_level, model: dict[str, Any] | None = None, **options: Any) -> LocalPolicy:
    tokenizer = words()
    made = tiny_models.model(kind, len(tokenizer), eos=tokenizer.eos_token_id, **{**ARCHITECTURES.get(kind, {}), **(model or {})})
    return LocalPolicy(made, tokenizer, **{"separator": "\n", **options})


def outcomes(trajectories: Any) -> Any:
    """All that was written and how it ended; log-probabilities are compared to rounding, for they follow the size of the batch."""
    if isinstance(trajectories, Trajectory):
        steps = [(step.written, step.n_tokens, round(step.logprob or 0.0, 2)) for step in trajectories.steps]
        return steps, trajectories.finished, trajectories.truncated
    return [outcomes(item) for item in trajectories]


def sample(writer: LocalPolicy, prefix: Trajectory = START, n: int = 1, **options: Any) -> list[Trajectory]:
    return asyncio.run(writer.sample(prefix, n, **options))


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.6}, {"top_k": 5}, {"top_p": 0.7}, {"temperature": 1.3, "top_k": 20, "top_p": 0.8}], ids=str)
def test_two_tokens_are_distributed_as_the_model_says(settings: dict[str, float]) -> None:
    n = 4000
    writer = policy(max_rows=512, separator="never")
    trajectories = sample(writer, n=n, until=Until.END, sampling=Sampling(max_tokens=2, seed=3, **settings))  # type: ignore[arg-type]
    seen = Counter(step.written for trajectory in trajectories for step in trajectory.steps[:1])
    expected = _exact_pairs(writer, **settings)  # type: ignore[arg-type]
    assert set(seen) <= set(expected), "something impossible was written"
    common = [text for text, probability in expected.items() if probability * n >= 8]
    observed = np.array([seen[text] for text in common] + [sum(seen.values()) - sum(seen[text] for text in common)], dtype=float)
    wanted = np.array([expected[text] * n for text in common] + [n - n * sum(expected[text] for text in common)])
    observed[-1] += n - sum(seen.values())  # draws that ended at once wrote no step
    statistic = float(((observed - wanted) ** 2 / np.maximum(wanted, 1e-9))[wanted > 1e-6].sum())
    limit = float(chi2.ppf(0.999, df=max(1, int((wanted > 1e-6).sum()) - 1)))
    assert statistic < limit, f"chi-square {statistic:.1f} of {len(common)} cells, limit {limit:.1f}"


def _exact_pairs(writer: LocalPolicy, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> dict[str, float]:
    """Probability of every text of at most two tokens, from the model's own logits."""

    def next_probabilities(ids: tuple[int, ...]) -> torch.Tensor:
        with torch.no_grad():
            logits = writer.model(torch.tensor([ids])).logits[0, -1].double() / temperature
        p = logits.softmax(-1)
        if top_k:
            p = torch.where(p >= p.topk(top_k).values[-1], p, 0.0)
        p = p / p.sum()
        order = p.argsort(descending=True)
        keep = p[order].cumsum(0) - p[order] < top_p
        p = torch.where(torch.zeros_like(keep).scatter(0, order, keep), p, 0.0)
        return p / p.sum()

    prompt = writer.prompt_tokens(START.problem)
    eos = writer.tokenizer.eos_token_id
    pairs: Counter[str] = Counter()
    first = next_probabilities(prompt)
    for a in range(len(first)):
        if first[a] == 0 or a == eos:
            continue
        second = next_probabilities((*prompt, a))
        for b in range(len(second)):
            if second[b] > 0:
                pairs[writer.rendering.text_of((a,) if b == eos else (a, b))] += float(first[a] * second[b])
    return dict(pairs)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_results_do_not_depend_on_what_runs_together(kind: str) -> None:
    prefixes = [START, Trajectory(Problem("Half of 12")), Trajectory(START.problem, (Step("So 3", "\n"),)), Trajectory(Problem("A box holds 12 pens; 9"))]
    requests = [(prefix, until, draw) for prefix in prefixes for until in Until for draw in (0, 3)]

    def run(max_rows: int, order: list[int]) -> Any:
        writer = policy(kind, max_rows=max_rows)

        async def go() -> list[list[Trajectory]]:
            tasks = {i: asyncio.ensure_future(writer.sample(requests[i][0], 3, until=requests[i][1], sampling=SHORT, draw=requests[i][2])) for i in order}
            return [await tasks[i] for i in range(len(requests))]

        return outcomes(asyncio.run(go()))

    forwards = list(range(len(requests)))
    alone = run(1, forwards)
    for max_rows, order in ((7, forwards), (64, forwards), (7, forwards[::-1]), (64, forwards[3:] + forwards[:3])):
        assert run(max_rows, order) == alone, f"max_rows={max_rows}, order={order}"


SHORT = Sampling(max_tokens=24, max_step_tokens=16, seed=5)


def test_n_draws_are_n_requests_of_one() -> None:
    writer = policy()
    together = sample(writer, n=4, sampling=SHORT)
    assert outcomes(together) == outcomes(sample(writer, draw=draw, sampling=SHORT)[0] for draw in range(4))
    assert len({trajectory.text for trajectory in together}) > 1
    assert sample(writer, n=4, sampling=Sampling(max_tokens=24, max_step_tokens=16, seed=6)) != together


def test_greedy_is_the_argmax_of_the_model() -> None:
    writer = policy()
    [trajectory] = sample(writer, until=Until.END, sampling=Sampling(temperature=0.0, max_tokens=12))
    ids = list(writer.prompt_tokens(START.problem))
    for _ in range(12):
        ids.append(int(writer.model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == writer.tokenizer.eos_token_id:
            break
    n_prompt = len(writer.prompt_tokens(START.problem))
    assert trajectory.text == writer.rendering.text_of([token for token in ids[n_prompt:] if token != writer.tokenizer.eos_token_id])
    assert all(step.logprob == 0.0 for step in trajectory.steps)


@pytest.mark.parametrize("kind", list(ARCHITECTURES))
def test_every_pass_agrees_with_the_model(kind: str) -> None:
    model = policy(kind).model
    device = torch.device("cpu")
    with torch.inference_mode():
        assert agrees(CachedDecoder(GenericPass(model), device=device), model), "generic pass"
        assert agrees(RecomputeDecoder(model, device=device), model), "recomputation"
        if is_lean(model):
            assert agrees(CachedDecoder(LeanPass(model), device=device), model), "lean pass"
            assert agrees(SharedDecoder(LeanPass(model), device=device), model), "lean pass with shared prefixes"
    assert is_lean(model) == (kind in ("llama", "qwen2"))


@pytest.mark.parametrize("kind", list(ARCHITECTURES))
def test_samples_are_those_of_recomputation(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = Trajectory(START.problem, (Step("So 3 + 4 = 7.", "\n"),))
    fast = outcomes(sample(policy(kind), prefix, 6, until=Until.END, sampling=SHORT))
    monkeypatch.setattr("stepward.policies.local.choose_decoder", lambda model, **_: RecomputeDecoder(model, device=model.device))
    assert outcomes(sample(policy(kind), prefix, 6, until=Until.END, sampling=SHORT)) == fast


def test_a_model_without_a_usual_cache_is_recomputed() -> None:
    model = tiny_models.model("mamba", 40, state_size=4, num_hidden_layers=1, hidden_size=16)
    assert isinstance(choose_decoder(model, prefix_bytes=1 << 20, prefill_tokens=64), RecomputeDecoder)


@pytest.mark.parametrize("family", list(tiny_models.TOKENIZERS))
@pytest.mark.parametrize("separator", ["\n", " = ", ".", "ки"])
def test_steps_are_the_decoded_text(family: str, separator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = policy(words=tiny_models.TOKENIZERS[family], separator=separator)
    drawn: list[tuple[int, ...]] = []
    build = LocalPolicy._trajectory
    monkeypatch.setattr(LocalPolicy, "_trajectory", lambda self, prefix, draw: drawn.append(draw.tokens) or build(self, prefix, draw))

    def decode(ids: tuple[int, ...]) -> str:
        return str(writer.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    prompt = writer.prompt_tokens(START.problem)
    trajectories = sample(writer, n=24, until=Until.END, sampling=Sampling(max_tokens=40, seed=2))
    for trajectory, ids in zip(trajectories, drawn, strict=True):
        text = decode(prompt + ids).removesuffix(tiny_models.EOS if trajectory.finished else "")
        assert text == decode(prompt) + trajectory.text
        assert all(step.separator.strip() in ("", separator.strip()) for step in trajectory.steps)


@pytest.mark.parametrize("family", list(tiny_models.TOKENIZERS))
def test_known_text_survives_the_tokenizer(family: str) -> None:
    rendering = policy(words=tiny_models.TOKENIZERS[family]).rendering
    for text in ("So 3 + 4 = 7.\n", " answer", "The answer is 7."):
        assert rendering.text_of(rendering.encode(text)) == text


def test_sampled_logprobs_are_the_models() -> None:
    writer = policy(words=tiny_models.byte_level, continuation="ids")
    assert isinstance(writer, LogprobPolicy)

    async def go() -> None:
        for trajectory in await writer.sample(START, 12, until=Until.END, sampling=Sampling(max_tokens=60, seed=1)):
            read = await writer.logprobs(trajectory)
            assert [len(step) for step in read.steps] == [step.n_tokens for step in trajectory.steps]
            assert [sum(step) for step in read.steps] == pytest.approx([step.logprob for step in trajectory.steps], abs=1e-3)

    asyncio.run(go())


def test_observations_are_read_and_not_scored() -> None:
    writer = policy()
    plain = Trajectory(START.problem, (Step("So 3", "\n"), Step("So 4", "")))
    observed = Trajectory(START.problem, (Step("So 3", "\n", observation="He buys 4 more."), Step("So 4", "")))
    a, b = (asyncio.run(writer.logprobs(trajectory)) for trajectory in (plain, observed))
    assert [len(step) for step in a.steps] == [len(step) for step in b.steps]
    assert a.steps[0] == pytest.approx(b.steps[0], abs=1e-4)
    assert a.steps[1] != pytest.approx(b.steps[1], abs=1e-4)


def test_a_shared_prefix_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    forward = LeanPass.__call__

    def counted(self: LeanPass, ids: torch.Tensor, *rest: Any) -> torch.Tensor:
        if ids.shape[1] > 1:
            computed.append(ids.numel())
        return forward(self, ids, *rest)

    writer = policy()
    sample(writer, Trajectory(Problem("warm up")))  # includes the probe
    monkeypatch.setattr(LeanPass, "__call__", counted)
    long = Trajectory(START.problem, tuple(Step(f"So {digit} + 4 = 7.", "\n") for digit in "3456"))

    async def ask_prefixes() -> None:
        await asyncio.gather(*(writer.sample(long.prefix(k), 4, sampling=Sampling(max_step_tokens=4)) for k in range(5)))

    asyncio.run(ask_prefixes())
    assert sum(computed) == len(writer.rendering.render(long).ids) - 1, "20 rows of 5 overlapping prefixes cost one pass over the longest"


def test_usage_is_the_same_however_draws_are_asked_for() -> None:
    writer = policy()
    n_prompt = len(writer.prompt_tokens(START.problem))

    async def one_by_one(order: list[int]) -> None:
        for draw in order:
            await writer.sample(START, sampling=SHORT, draw=draw)

    with metered() as whole:
        trajectories = sample(writer, n=3, sampling=SHORT)
    with metered() as parts:
        asyncio.run(one_by_one([2, 0, 1]))
    assert whole.usage.policy_tokens == sum(step.n_tokens or 0 for trajectory in trajectories for step in trajectory.steps)
    assert (whole.usage.policy_prefill, whole.usage.policy_cached, whole.usage.calls) == (n_prompt, 2 * n_prompt, 1)
    assert parts.usage == whole.usage + Usage(calls=2)
    parameters = sum(weights.numel() for weights in writer.model.parameters()) - writer.model.get_input_embeddings().weight.numel()
    assert whole.usage.flops > 2 * parameters * (n_prompt + whole.usage.policy_tokens)


def test_limits_and_context() -> None:
    writer = policy(model={"context": 16})
    room = 16 - len(writer.prompt_tokens(START.problem))
    for trajectory in sample(writer, n=8, until=Until.END):
        assert sum(step.n_tokens or 0 for step in trajectory.steps) <= room
        assert trajectory.finished != trajectory.truncated
    with pytest.raises(ContextOverflow, match="context is 16"):
        sample(writer, Trajectory(Problem("Tom has 3 apples. " * 8)))
    with pytest.raises(ContextOverflow):
        asyncio.run(writer.logprobs(Trajectory(Problem("Tom has 3 apples. " * 8), (Step("So"),))))
    spent = Trajectory(START.problem, (Step("So 3 + 4", "\n"),))
    for limits in ({"max_tokens": 2}, {"max_steps": 1}):
        assert sample(writer, spent, 2, sampling=Sampling(**limits)) == [Trajectory(spent.problem, spent.steps, truncated=True)] * 2


def test_bad_requests_are_refused() -> None:
    writer = policy()
    for prefix, n in ((Trajectory(START.problem, finished=True), 1), (START, 0), (Trajectory(Problem("x", images=("a.png",))), 1)):
        with pytest.raises(InputError):
            sample(writer, prefix, n)
    for options in ({"separator": ""}, {"template": "chat"}, {"system": "Be brief."}, {"max_rows": 0}, {"continuation": "guess"}):
        with pytest.raises(InputError):
            policy(**options)


def test_a_broken_model_fails_its_requests_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = policy()
    good = sample(writer, sampling=SHORT)
    monkeypatch.setattr(LeanPass, "run", lambda *_: torch.full((1, len(writer.tokenizer)), torch.nan))
    with pytest.raises(RequestFailed, match="non-finite logits"):
        sample(writer)

    def explode(*_: object) -> torch.Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(LeanPass, "run", explode)
    with pytest.raises(RequestFailed, match="out of memory"):
        sample(writer)
    monkeypatch.undo()
    assert outcomes(sample(writer, sampling=SHORT)) == outcomes(good)


def test_cancelled_requests_leave_the_pool() -> None:
    writer = policy(max_rows=2, model={"context": 4096})

    async def go() -> list[Trajectory]:
        endless = asyncio.ensure_future(writer.sample(START, 50, until=Until.END, sampling=Sampling(max_tokens=4000, max_step_tokens=4000)))
        await asyncio.sleep(0)
        endless.cancel()
        return await writer.sample(START, sampling=SHORT)

    assert outcomes(asyncio.run(go())) == outcomes(sample(policy(), sampling=SHORT))


def test_a_row_that_nobody_waits_for_ends_with_the_pass_that_it_is_in() -> None:
    """The rows beside it write what they write alone."""
    writer = policy(model={"context": 4096})
    ids = writer.rendering.render(START).ids

    def request(draw: int, limit: int) -> Request:
        sampling = Sampling(max_tokens=limit, max_step_tokens=limit)
        return Request(prompt=ids, ids=ids, key=START.key, n_steps=0, n_tokens=0, n=2, draw=draw, until=Until.END, sampling=sampling, max_length=4096)

    def write(pool: Pool, kept: Request, left: list[Request]) -> list[tuple[int, ...]]:
        for asked in (*left[:1], kept, *left[1:]):
            pool.add(asked)
        for _ in range(3):
            pool.advance()
        assert not any(asked.future.done() for asked in left)
        assert all(asked.future.cancel() for asked in left)
        before = pool.n_row_passes
        while not pool.idle:
            pool.advance()
        draws = kept.future.result(timeout=0)
        assert pool.n_row_passes - before == sum(max(0, len(draw.tokens) - 3) for draw in draws), "no pass served a row of the others"
        return [draw.tokens for draw in draws]

    with torch.inference_mode():
        alone = write(writer._make_pool(), request(0, 20), [])
        assert write(writer._make_pool(), request(0, 20), [request(2, 4000), request(4, 4000)]) == alone


def test_a_closed_policy_says_so() -> None:
    writer = policy()
    sample(writer, sampling=SHORT)
    writer.close()
    with pytest.raises(RequestFailed, match="closed"):
        sample(writer)


def test_folders_carry_their_separator_and_fingerprints_ignore_the_path(tmp_path: Path) -> None:
    made = policy()
    for name in ("one", "two"):
        made.model.config.stepward = {"separator": "\n", "template": "raw"}
        made.model.save_pretrained(tmp_path / name)
        made.tokenizer.save_pretrained(tmp_path / name)
    one, two = (load_policy(f"hf:{tmp_path / name}") for name in ("one", "two"))
    assert isinstance(one, LocalPolicy)
    assert one.rendering.separator == "\n"
    assert one.fingerprint == two.fingerprint
    assert outcomes(sample(one, n=3, sampling=SHORT)) == outcomes(sample(made, n=3, sampling=SHORT))
    assert LocalPolicy.from_pretrained(tmp_path / "one", separator=".").fingerprint != one.fingerprint
    assert LocalPolicy.from_pretrained(tmp_path / "one", dtype=torch.float64).fingerprint != one.fingerprint
    with torch.no_grad():
        made.model.lm_head.weight[3] += 1.0
    made.model.save_pretrained(tmp_path / "two")
    assert LocalPolicy.from_pretrained(tmp_path / "two").fingerprint != one.fingerprint
    with pytest.raises(InputError, match="cannot load"):
        LocalPolicy.from_pretrained(tmp_path / "three")


def test_a_folders_tokenizer_is_read_as_it_is_written(tmp_path: Path) -> None:
    """A family's own tokenizer class would split these words otherwise: the folder says Qwen2, its tokenizer.json decides."""
    made = policy("qwen2")
    made.model.save_pretrained(tmp_path)
    made.tokenizer.save_pretrained(tmp_path)
    read = LocalPolicy.from_pretrained(tmp_path)
    problem = Problem("So 3 + 4 = 7.\n\nThe answer")
    assert read.prompt_tokens(problem) == made.prompt_tokens(problem)


def test_a_folder_without_an_output_layer_is_refused_and_loading_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = policy(words=tiny_models.word_level)
    for model, name in ((made.model, "whole"), (made.model.model, "body")):
        model.save_pretrained(tmp_path / name)
        made.tokenizer.save_pretrained(tmp_path / name)
    capfd.readouterr()
    LocalPolicy.from_pretrained(tmp_path / "whole")
    assert capfd.readouterr().err == ""
    with pytest.raises(InputError, match=r"lacks trained weights for lm_head\.weight"):
        LocalPolicy.from_pretrained(tmp_path / "body")


def test_a_prefix_is_continued_alike_in_another_process() -> None:
    """By default a sample depends on the prefix's text, not on which ids this process happened to sample for it."""
    options = {"until": Until.END, "sampling": Sampling(max_tokens=60, seed=4)}
    first, resumed = policy(words=tiny_models.byte_level), policy(words=tiny_models.byte_level)
    prefixes = [one for one in sample(first, n=16, sampling=SHORT) if not one.ended]
    spelled_otherwise = [one for one in prefixes if first.rendering.render(one).n_written != one.steps[0].n_tokens]
    assert spelled_otherwise, "some prefix must have been sampled in other ids than the tokenizer's for this to mean anything"
    for prefix in prefixes:
        assert outcomes(sample(first, prefix, 2, **options)) == outcomes(sample(resumed, prefix, 2, **options))  # type: ignore[arg-type]


def test_chat_templates_leave_the_assistants_turn_open() -> None:
    template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
    tokenizer = tiny_models.byte_level()
    tokenizer.chat_template = template
    try:
        writer = policy(words=lambda: tokenizer, system="Be brief.")
        prefix = Trajectory(START.problem, (Step("3 + 4", "\n"),))
        text = tokenizer.decode(list(writer.rendering.render(prefix).ids))
        assert text == "[system] Be brief.\n[user] Tom has 3 apples.\n[assistant] 3 + 4\n"
        assert writer.fingerprint != policy(words=lambda: tokenizer).fingerprint
    finally:
        tokenizer.chat_template = None
