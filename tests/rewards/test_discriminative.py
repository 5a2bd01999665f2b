"""DiscriminativeModel: equal to one-by-one scoring whatever the batch, causal, exact about what it could not score."""

from __future__ import annotations

import asyncio
import json
import random

import numpy as np
import pytest
import torch

from stepward.core import InputError, Problem, RewardModel, Step, Trajectory, metered
from stepward.rewards.convention import EXAMPLE_ENTRY, Convention
from stepward.rewards.discriminative import DiscriminativeModel
from stepward.rewards.encoding import encode
from stepward.rewards.load import load_reward_model
from stepward.rewards.readout import n_flops
from stepward.testing.fixtures import ARCHITECTURES, TOKENIZER_KINDS, tiny_causal_lm, tiny_prm, tiny_tokenizer


def solutions(n: int, seed: int = 0) -> list[Trajectory]:
    draw = random.Random(seed)
    words = ["Tom", "has", "7", "apples.", "\u00e9\u4e2d", "\n", "", "x = 3", "</s>", "The answer is 30."]
    return [
        Trajectory.from_texts(
            " ".join(draw.choices(words, k=draw.randint(0, 12))), [" ".join(draw.choices(words, k=draw.randint(0, 9))) for _ in range(draw.randint(1, 7))]
        )
        for _ in range(n)
    ]


async def score_all(model: RewardModel, trajectories: list[Trajectory]):
    return await asyncio.gather(*(model.score(trajectory) for trajectory in trajectories))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("prms")
    return {name: tiny_prm(name, root / name, tokenizer=tiny_tokenizer(kind)) for name, kind in zip(ARCHITECTURES, TOKENIZER_KINDS, strict=True)}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_batched_scores_equal_a_plain_loop_over_the_whole_transformers_model(folders, architecture: str) -> None:
    """The reference shares no code with the batched path but the encoding: full forward, no padding, logits of the model itself."""
    from transformers import AutoModelForTokenClassification

    model = DiscriminativeModel.from_pretrained(folders[architecture], max_batch_tokens=600)
    reference = AutoModelForTokenClassification.from_pretrained(folders[architecture]).eval()
    trajectories = solutions(40)
    scores = asyncio.run(score_all(model, trajectories))
    for trajectory, found in zip(trajectories, scores, strict=True):
        encoded = encode(trajectory, model.tokenizer, model.convention)
        with torch.no_grad():
            probs = reference(torch.from_numpy(encoded.ids)[None]).logits[0].double().softmax(-1)[:, 1]
        assert len(found) == len(trajectory)
        assert found.values == pytest.approx(probs.numpy()[encoded.read], abs=1e-5)
    alone = [asyncio.run(model.score(trajectory)).values for trajectory in trajectories[:8]]
    for one, batched in zip(alone, scores, strict=False):
        assert one == pytest.approx(batched.values, abs=1e-5)
    assert np.ptp(np.concatenate([found.values for found in scores])) > 0.5, "the fixture's scores must differ for this to mean anything"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_later_steps_never_change_earlier_scores(folders, architecture: str) -> None:
    model = load_reward_model(f"prm:{folders[architecture]}")
    trajectory = Trajectory.from_texts("Tom has 3 apples", ["one", "two\n", "", "four"])
    whole = asyncio.run(model.score(trajectory)).values
    parts = asyncio.run(score_all(model, list(trajectory.prefixes())))
    for k, part in enumerate(parts, start=1):
        assert part.values == pytest.approx(whole[:k], abs=1e-5)


def test_steps_beyond_the_context_are_unscored_with_the_reason(folders) -> None:
    convention = Convention(max_tokens=40)
    model = DiscriminativeModel.from_pretrained(folders["llama"], convention=convention)
    trajectory = Trajectory.from_texts("Tom has 3 apples", ["one is good"] * 9)
    kept = encode(trajectory, model.tokenizer, convention).n_kept
    scores = asyncio.run(model.score(trajectory))
    assert 0 < kept < 9
    assert not np.isnan(scores.values[:kept]).any()
    assert scores.reasons[kept:] == ("does not fit the context of 40 tokens",) * (9 - kept)
    longer = DiscriminativeModel.from_pretrained(folders["llama"], convention=Convention(max_tokens=100_000))
    last = asyncio.run(longer.score(Trajectory.from_texts("Tom", ["one is good"] * 400))).reasons[-1]
    assert last == "does not fit the context of 512 tokens", "the model's own context binds where the convention's is longer"
    nothing = asyncio.run(model.score(Trajectory.from_texts("Tom " * 99, ["a", "b"])))
    assert nothing.n_failed == 2
    assert not nothing.usage, "nothing was computed"
    assert len(asyncio.run(model.score(Trajectory(Problem("empty"))))) == 0


def test_equal_requests_of_a_batch_are_computed_once_and_tokens_are_counted(folders) -> None:
    model = DiscriminativeModel.from_pretrained(folders["qwen2"])
    trajectory, other = Trajectory.from_texts("Tom", ["a", "b"]), Trajectory.from_texts("Tom", ["a", "c d"])
    lengths = [len(encode(t, model.tokenizer, model.convention)) for t in (trajectory, other)]
    with metered() as ledger:
        scores = asyncio.run(score_all(model, [trajectory, other, trajectory]))
    assert scores[0] == scores[2]
    assert ledger.usage.reward_tokens == 2 * lengths[0] + lengths[1], "what the results cost, whatever was batched together"
    assert ledger.paid.reward_tokens + ledger.paid.reward_cached == ledger.usage.reward_tokens
    assert ledger.paid.reward_tokens <= sum(lengths), "the third request is the first again"
    assert scores[0].usage.reward_tokens == lengths[0]
    assert scores[0].usage.flops == n_flops(model.body, lengths[0])
    assert (scores[0].usage.calls, ledger.paid.calls) == (1, 3)


def test_a_growing_beam_pays_for_its_new_steps_and_the_last_score_is_the_same(folders) -> None:
    model, fresh = (DiscriminativeModel.from_pretrained(folders["qwen2"], cache_bytes=size) for size in (1 << 24, 0))
    whole = Trajectory.from_texts("Tom has 3 apples and 4 pears.", ["Tom has 7.", "x = 3", "", "The answer is 30."])
    with metered() as ledger:
        grown = [asyncio.run(model.score(whole.prefix(k))) for k in range(1, 5)]
    once = asyncio.run(fresh.score(whole))
    assert grown[-1].values == pytest.approx(once.values, abs=1e-5)
    assert ledger.paid.reward_tokens == len(encode(whole, model.tokenizer, model.convention)), "each token once over the whole growth"
    assert ledger.usage.reward_tokens > 2 * ledger.paid.reward_tokens


def test_observations_change_what_follows_and_not_what_came_before(folders) -> None:
    model = DiscriminativeModel.from_pretrained(folders["llama"])
    seen = Trajectory(Problem("Tom"), (Step("look", observation="7 pears"), Step("good")))
    blind = Trajectory(Problem("Tom"), (Step("look"), Step("good")))
    first, second = asyncio.run(score_all(model, [seen, blind]))
    assert first.values[0] == pytest.approx(second.values[0], abs=1e-6)
    assert first.values[1] != pytest.approx(second.values[1], abs=1e-4)


def test_the_convention_travels_in_the_folder_that_transformers_loads_unchanged(tmp_path) -> None:
    convention = Convention(marker=" #\n", good=0, threshold=0.4, max_tokens=100)
    folder = tiny_prm("llama", tmp_path, convention=convention)
    assert json.loads((folder / "config.json").read_text())["stepward"]["marker"] == " #\n"
    flipped = DiscriminativeModel.from_pretrained(folder)
    assert flipped.convention == convention
    plain = DiscriminativeModel.from_pretrained(folder, convention=Convention(marker=" #\n"))
    trajectory = Trajectory.from_texts("Tom", ["a", "b"])
    one, other = asyncio.run(flipped.score(trajectory)), asyncio.run(plain.score(trajectory))
    assert one.values == pytest.approx(1.0 - other.values, abs=1e-6)
    assert one.threshold == 0.4
    assert flipped.fingerprint != plain.fingerprint
    assert DiscriminativeModel.from_pretrained(folder).fingerprint == flipped.fingerprint


def test_dropout_is_off_and_the_head_is_fp32_in_bfloat16(folders) -> None:
    model = DiscriminativeModel.from_pretrained(folders["llama"], dtype="bfloat16")
    exact = DiscriminativeModel.from_pretrained(folders["llama"])
    assert not model.body.training
    trajectory = Trajectory.from_texts("Tom", ["a", "b", "c"])
    low, high = asyncio.run(model.score(trajectory)), asyncio.run(exact.score(trajectory))
    assert low == asyncio.run(model.score(trajectory))
    assert low.values == pytest.approx(high.values, abs=0.1)


def test_a_backbone_without_a_trained_head_is_refused(tmp_path) -> None:
    folder = tiny_causal_lm("llama", tmp_path)
    with pytest.raises(InputError, match=r"score\.weight.*train a step classifier"):
        DiscriminativeModel.from_pretrained(folder, convention=Convention())
    with pytest.raises(InputError, match="has to be trained first"):
        load_reward_model(folder)
    with pytest.raises(InputError, match="cannot load"):
        load_reward_model(f"prm:{tmp_path / 'absent'}")


def test_a_folder_that_does_not_say_how_it_is_read_needs_a_convention(tmp_path) -> None:
    folder = tiny_prm("llama", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    del config["stepward"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"pass convention=.*trl-token-classification|trl-token-classification.*pass convention=") as refused:
        DiscriminativeModel.from_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config | json.loads("{" + EXAMPLE_ENTRY + "}")))
    assert EXAMPLE_ENTRY in str(refused.value)
    assert DiscriminativeModel.from_pretrained(folder).convention == Convention(), "what the message proposes is read"
    (folder / "config.json").write_text(json.dumps(config | {"stepward": {"template": "raw", "separator": "\n"}}))  # how a policy is written
    with pytest.raises(InputError, match="not a scoring convention"):
        DiscriminativeModel.from_pretrained(folder)
    assert DiscriminativeModel.from_pretrained(folder, convention=Convention()).convention == Convention()


def test_unknown_specifications_list_the_forms() -> None:
    with pytest.raises(InputError, match="prn:model") as refused:
        load_reward_model("prn:model")
    assert all(form in str(refused.value) for form in ("tools:NAME", "prm:FOLDER_OR_ID", "oracle:grade-school"))


def test_the_oracle_scores_every_gold_step_one_and_everything_after_a_slip_zero() -> None:
    from stepward.environments.grade_school import GradeSchool

    model = load_reward_model("oracle:grade-school")
    problem = GradeSchool(min_operations=3, max_operations=5).problem(0, 0)
    gold = list(problem.reference_steps)
    assert asyncio.run(model.score(Trajectory.from_texts(problem, gold))).values.tolist() == [1.0] * len(gold)
    broken = [gold[0], "The answer is 999999.", *gold[2:]]
    assert asyncio.run(model.score(Trajectory.from_texts(problem, broken))).values.tolist() == [1.0] + [0.0] * (len(gold) - 1)


def test_the_oracle_of_deduction_sees_the_first_error() -> None:
    from stepward.environments.deduction import Deduction, corrupt

    world = Deduction.medium()
    model = load_reward_model("oracle:deduction")
    for problem in world.problems(5, 5):
        gold = Trajectory.from_texts(problem, list(problem.reference_steps), finished=True)
        assert asyncio.run(model.score(gold)).values.tolist() == [1.0] * len(gold)
        broken = corrupt(gold, "wrong_polarity", seed=1)
        assert asyncio.run(model.score(broken.trajectory)).first_error() == broken.place
