"""ImplicitModel: sums of log-ratios that are exact where theory says what they are, equal to a plain loop, causal, and at the cost of distinct tokens."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from stepward.core import InputError, Problem, Step, Trajectory, metered
from stepward.engine.reader import vocabulary
from stepward.engine.reader.vocabulary import LogProb
from stepward.rewards.convention import Convention
from stepward.rewards.encoding import encode
from stepward.rewards.families import family_named
from stepward.rewards.implicit import ImplicitModel
from stepward.testing import check_reward_model
from stepward.testing.checkpoints import tiny_checkpoint

FAMILIES = ("eurus-prm", "implicit-prm")


def score(model: ImplicitModel, *trajectories: Trajectory):
    async def gathered():
        return await asyncio.gather(*(model.score(trajectory) for trajectory in trajectories))

    return asyncio.run(gathered())


def solutions(n: int, seed: int = 0) -> list[Trajectory]:
    draw = random.Random(seed)
    words = ["Tom", "has", "7", "apples.", "\u00e9\u4e2d", "\n", "", "x = 3.", "<|im_end|>", "Step 2: so", "The answer is 30."]

    def text(most: int) -> str:
        return " ".join(draw.choices(words, k=draw.randint(0, most)))

    return [Trajectory.from_texts(text(12), [text(9) for _ in range(draw.randint(1, 6))], finished=draw.random() < 0.5) for _ in range(n)]


def changed(model: ImplicitModel, **fields: object) -> ImplicitModel:
    """The same models read by a changed convention."""
    return ImplicitModel(model.policy, model.reference, model.tokenizer, dataclasses.replace(model.convention, **fields))


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, tuple[Path, Path]]:
    root = tmp_path_factory.mktemp("implicit")
    return {name: (tiny_checkpoint(name, root / name, seed=1), tiny_checkpoint(name, root / f"{name}-reference", seed=2)) for name in FAMILIES}


@pytest.fixture(scope="module")
def models(folders) -> dict[str, ImplicitModel]:
    return {name: ImplicitModel.from_pretrained(policy, reference=reference) for name, (policy, reference) in folders.items()}


@pytest.mark.parametrize("name", FAMILIES)
def test_scores_equal_a_plain_loop_over_two_whole_language_models(models, folders, name: str) -> None:
    """The loop shares only the encoding: one unpadded forward a model, the log-softmax of all logits, a sum in Python."""
    from transformers import AutoModelForCausalLM

    model = changed(models[name], beta=1.0)
    assert models[name].convention == family_named(name).convention, "recognised by its architecture"
    policy, reference = (AutoModelForCausalLM.from_pretrained(folder).eval() for folder in folders[name])
    trajectories = solutions(40)
    spread = []
    for trajectory, found in zip(trajectories, score(model, *trajectories), strict=True):
        encoded = encode(trajectory, model.tokenizer, model.convention)
        ids = encoded.ids.tolist()
        with torch.no_grad():
            one, other = (peer(torch.tensor([ids])).logits[0].double().log_softmax(-1) for peer in (policy, reference))
        expected, total = [], 0.0
        for place in range(int(encoded.span[0, 0]), len(ids)):
            total += float(one[place - 1, ids[place]] - other[place - 1, ids[place]])
            expected += [total] * int((encoded.read == place).sum())
        assert len(expected) == len(trajectory) == len(found)
        assert found.values == pytest.approx(expected, abs=1e-4)
        assert found.scale == model.scale == "logratio"
        spread += expected
    assert np.std(spread) > 1.0, "the fixture's scores must differ for this to mean anything"


def test_accumulated_scores_are_the_exact_soft_values_of_the_reward(tmp_path) -> None:
    """Q_t = beta log E[exp(r / beta) | y_<=t] over the reference's continuations, enumerated: two tokens, three steps of one token, eight solutions."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="a")
    peers = []
    for seed, folder in ((1, tmp_path / "policy"), (2, tmp_path / "reference")):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=2,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
        )
        peer = LlamaForCausalLM(config).eval()
        for parameter in peer.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        peer.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        peers.append(peer)
    beta = 0.3
    convention = Convention(prompt="{problem}", marker="", read="step-end", head="log-ratio", activation="none", beta=beta, threshold=0.0)
    model = ImplicitModel.from_pretrained(tmp_path / "policy", reference=tmp_path / "reference", convention=convention)

    def log_prob(peer, tokens: tuple[int, ...]) -> np.ndarray:
        """log p of each of the solution's tokens after the problem "a b"."""
        ids = torch.tensor([[0, 1, *tokens]])
        with torch.no_grad():
            logits = peer(ids).logits[0].double().log_softmax(-1)
        return logits[1:-1].gather(1, ids[0, 2:, None])[:, 0].numpy()

    every = list(itertools.product((0, 1), repeat=3))
    policy, reference = ({tokens: log_prob(peer, tokens) for tokens in every} for peer in peers)
    reward = {tokens: beta * float((policy[tokens] - reference[tokens]).sum()) for tokens in every}
    assert np.ptp(list(reward.values())) > 0.1
    scores = score(model, *(Trajectory.from_texts("a b", ["ab"[token] for token in tokens]) for tokens in every))
    for tokens, found in zip(every, scores, strict=True):
        for t in range(1, 4):
            rest = [other for other in every if other[:t] == tokens[:t]]
            chances = [np.exp(reference[other][t:].sum()) for other in rest]
            assert sum(chances) == pytest.approx(1.0)
            soft = beta * np.log(sum(chance * np.exp(reward[other] / beta) for chance, other in zip(chances, rest, strict=True)))
            assert found.values[t - 1] == pytest.approx(soft, abs=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_differences_sum_to_what_is_accumulated_and_beta_is_a_factor(models, name: str) -> None:
    model = models[name]
    trajectories = solutions(20, seed=1)
    accumulated, differences = score(model, *trajectories), score(changed(model, mode="difference"), *trajectories)
    larger = score(changed(model, beta=1000.0 * model.convention.beta), *trajectories)
    for total, own, scaled in zip(accumulated, differences, larger, strict=True):
        assert np.cumsum(own.values) == pytest.approx(total.values, rel=1e-12, abs=1e-15)
        assert scaled.values == pytest.approx(1000.0 * total.values, rel=1e-12)


@pytest.mark.parametrize("mode", ["accumulated", "difference"])
def test_a_sigmoid_makes_probabilities_of_log_ratios_as_the_authors_do_for_processbench(models, mode: str) -> None:
    model = changed(models["eurus-prm"], beta=0.5, mode=mode)
    squashed = changed(model, activation="sigmoid", threshold=0.5)
    trajectories = solutions(8, seed=2)
    for raw, found in zip(score(model, *trajectories), score(squashed, *trajectories), strict=True):
        assert found.values == pytest.approx(1.0 / (1.0 + np.exp(-raw.values)), abs=1e-6)
        assert found.scale == "probability"
        assert found.first_error() == raw.first_error(), "zero and one half are the same threshold"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_policy_that_is_its_reference_scores_exactly_zero(folders, name: str) -> None:
    policy, _ = folders[name]
    model = ImplicitModel.from_pretrained(policy, reference=policy)
    for found in score(model, *solutions(10)):
        assert (found.values == 0.0).all()


def test_without_a_reference_the_policys_own_log_probability_is_summed(models, folders) -> None:
    policy, reference = folders["eurus-prm"]
    alone, other = ImplicitModel.from_pretrained(policy, reference=None), ImplicitModel.from_pretrained(reference, reference=None)
    trajectories = solutions(8)
    for both, one, two in zip(score(models["eurus-prm"], *trajectories), score(alone, *trajectories), score(other, *trajectories), strict=True):
        assert both.values == pytest.approx(one.values - two.values, abs=1e-6)
        assert (one.values < 0.0).all()
        assert both.usage.reward_tokens == 2 * one.usage.reward_tokens


@pytest.mark.parametrize("name", FAMILIES)
def test_it_is_a_reward_model(models, name: str) -> None:
    check_reward_model(changed(models[name], beta=0.1), solutions(4))


def test_the_tokens_of_an_observation_are_context_and_do_not_count(models) -> None:
    """Beside the loop's own sum over all tokens, that of the tokens between an observation's beginning and end is missing."""
    model = changed(models["eurus-prm"], beta=1.0)
    seen = Trajectory(Problem("Tom"), (Step("look", observation="7 pears and 8 apples"), Step("good"), Step("end")), finished=True)
    encoded = encode(seen, model.tokenizer, model.convention)
    everything = changed(model, mode="difference")
    counted = score(everything, seen)[0].values
    per_token = _log_ratios(model, encoded.ids)
    first = int(encoded.span[1, 0])
    assert first > encoded.read[0] + 4, "the observation lies between"
    assert counted[1] == pytest.approx(per_token[first : encoded.read[1] + 1].sum(), abs=1e-4)
    assert counted[2] == pytest.approx(per_token[encoded.read[1] + 1 : encoded.read[2] + 1].sum(), abs=1e-4)
    blind = score(everything, Trajectory(Problem("Tom"), (Step("look"), Step("good"), Step("end")), finished=True))[0].values
    assert blind[0] == pytest.approx(counted[0], abs=1e-5)
    assert blind[1] != pytest.approx(counted[1], abs=1e-3), "but it changes what follows"


def _log_ratios(model: ImplicitModel, ids: np.ndarray) -> np.ndarray:
    """log p - log p_ref of every token after the first, at its own place."""
    tokens = torch.from_numpy(ids)[None]
    sides = []
    for side in (model.policy, model.reference):
        assert side is not None
        with torch.no_grad():
            logits = torch.nn.functional.linear(side.body(tokens).last_hidden_state[0], side.head.weight).double().log_softmax(-1)
        sides.append(torch.cat([torch.zeros(1), logits[:-1].gather(1, tokens[0, 1:, None])[:, 0]]))
    return (sides[0] - sides[1]).numpy()


def test_each_model_computes_a_distinct_token_once_also_across_calls(models) -> None:
    model = changed(models["implicit-prm"])
    root = Trajectory(Problem("Tom has 3 apples"), (Step("He has 3."),))
    children = [root.extend(text) for text in ("He eats 1.", "He eats 2.", "He buys 5.")]
    lengths = [len(encode(child, model.tokenizer, model.convention)) for child in children]
    with metered() as ledger:
        score(model, root)
        first = ledger.paid.reward_tokens
        score(model, *children)
    n_root = len(encode(root, model.tokenizer, model.convention))
    assert first == 2 * n_root
    assert ledger.usage.reward_tokens == 2 * (n_root + sum(lengths)), "what the results cost alone"
    assert ledger.paid.reward_tokens < 2 * (n_root + sum(length - n_root for length in lengths)) + 12
    assert ledger.paid.flops < ledger.usage.flops
    assert ledger.paid.calls == ledger.usage.calls == 4


def test_steps_beyond_the_context_are_unscored_with_the_reason(models) -> None:
    model = changed(models["eurus-prm"], max_tokens=130)
    trajectory = Trajectory.from_texts("Tom has 3 apples", ["one is good"] * 9)
    kept = encode(trajectory, model.tokenizer, model.convention).n_kept
    found = score(model, trajectory)[0]
    assert 0 < kept < 9
    assert not np.isnan(found.values[:kept]).any()
    assert found.reasons[kept:] == ("does not fit the context of 130 tokens",) * (9 - kept)
    assert found.values[:kept] == pytest.approx(score(models["eurus-prm"], trajectory)[0].values[:kept], abs=1e-6)
    nothing = score(model, Trajectory.from_texts("Tom " * 199, ["a", "b"]))[0]
    assert nothing.n_failed == 2
    assert not nothing.usage, "nothing was computed"
    assert len(score(model, Trajectory(Problem("empty")))[0]) == 0


def test_after_error_stop_leaves_later_steps_unjudged(models) -> None:
    whole, stopping = changed(models["eurus-prm"], beta=1.0), changed(models["eurus-prm"], beta=1.0, after_error="stop")
    trajectories = solutions(10)
    firsts = set()
    for found, cut in zip(score(whole, *trajectories), score(stopping, *trajectories), strict=True):
        first = found.first_error()
        assert cut.first_error() == first
        end = len(found) if first == -1 else first + 1
        assert cut.values[:end] == pytest.approx(found.values[:end], abs=1e-4)
        assert np.isnan(cut.values[end:]).all()
        firsts.add(first)
    assert len(firsts) > 1


def test_log_probabilities_go_through_in_chunks_and_obey_scale_and_softcap(monkeypatch) -> None:
    torch.manual_seed(0)
    hidden, weight, bias, targets = torch.randn(50, 8), torch.randn(40, 8), torch.randn(40), torch.randint(0, 40, (50,))
    expected = (10.0 * torch.tanh((hidden @ weight.T + bias) * 0.5 / 10.0)).log_softmax(-1).gather(1, targets[:, None])
    head = LogProb(weight, bias, scale=0.5, softcap=10.0)
    whole = head(hidden, targets)
    assert whole.shape == (50, 1)
    assert whole.dtype == torch.float32
    assert torch.allclose(whole, expected, atol=1e-5)
    rows = []
    linear = vocabulary.linear
    monkeypatch.setattr(vocabulary, "MAX_LOGITS", 40 * 7)
    monkeypatch.setattr(vocabulary, "linear", lambda x, *rest: rows.append(len(x)) or linear(x, *rest))
    assert torch.allclose(head(hidden, targets), whole, atol=1e-6)
    assert rows == [7] * 7 + [1]
    assert head(hidden[:0], targets[:0]).shape == (0, 1)


def test_a_tied_output_layer_is_the_embedding_and_a_missing_one_is_an_error(tmp_path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel

    sizes = {"vocab_size": 700, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    tokenizer_of = tiny_checkpoint("implicit-prm", tmp_path / "tied")
    (tokenizer_of / "model.safetensors").unlink()
    vocabulary = {**sizes, "vocab_size": 1000}
    LlamaForCausalLM(LlamaConfig(**vocabulary, tie_word_embeddings=True)).save_pretrained(tmp_path / "tied")
    model = ImplicitModel.from_pretrained(tmp_path / "tied", reference=None)
    assert model.policy.head.weight is model.policy.body.get_input_embeddings().weight or torch.equal(
        model.policy.head.weight, model.policy.body.get_input_embeddings().weight
    )
    tiny_checkpoint("implicit-prm", tmp_path / "headless")
    LlamaModel(LlamaConfig(**vocabulary, tie_word_embeddings=False)).save_pretrained(tmp_path / "headless")
    with pytest.raises(InputError, match="lm_head"):
        ImplicitModel.from_pretrained(tmp_path / "headless", reference=None, convention=family_named("implicit-prm").convention)


def test_models_that_do_not_belong_together_are_refused(folders, tmp_path) -> None:
    qwen, llama = folders["eurus-prm"][0], folders["implicit-prm"][0]
    with pytest.raises(InputError, match="different vocabularies"):
        ImplicitModel.from_pretrained(qwen, reference=llama)
    with pytest.raises(InputError, match="head='log-ratio'"):
        ImplicitModel.from_pretrained(qwen, reference=None, convention=Convention())
    other = tiny_checkpoint("math-shepherd", tmp_path)
    with pytest.raises(InputError, match="family of implicit models"):
        ImplicitModel.from_pretrained(other, reference=None)


def test_a_token_that_one_of_them_was_given_in_addition_does_no_harm(folders, tmp_path) -> None:
    """Training scripts add a padding token to the policy's tokenizer alone."""
    from transformers import AutoTokenizer

    policy, reference = folders["implicit-prm"]
    copy = tiny_checkpoint("implicit-prm", tmp_path, seed=1)
    tokenizer = AutoTokenizer.from_pretrained(copy)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(copy)
    trajectory = solutions(1)[0]
    padded, plain = (ImplicitModel.from_pretrained(source, reference=reference) for source in (copy, policy))
    assert score(padded, trajectory)[0].values == pytest.approx(score(plain, trajectory)[0].values, abs=1e-6)
