"""DiscriminativeModel on every family it reads: the numbers of a plain loop over the whole model, whatever ran together and whatever was cached."""

from __future__ import annotations

import asyncio
import random

import numpy as np
import pytest
import torch

from stepward.core import ABSTAINED, InputError, RewardModel, Trajectory, metered
from stepward.rewards.convention import Convention
from stepward.rewards.discriminative import DiscriminativeModel
from stepward.rewards.families import FAMILIES, family_named
from stepward.rewards.heads import LinearHead
from stepward.rewards.weight_files import WeightFiles
from stepward.testing import check_reward_model
from stepward.testing.checkpoints import tiny_checkpoint
from stepward.testing.family_tokenizers import CHATML

ONE_PASS = [family.name for family in FAMILIES if family.reader == "one-pass"]
WORDS = ["Tom has", " 7 pears.", "\n", "", " ки", "é中", "<extra_0>", "x = 3.\n\n", "[PRM]", "The answer is: 30"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    return {name: tiny_checkpoint(name, root / name) for name in ONE_PASS}


def load(folders, name: str, **options) -> DiscriminativeModel:
    return DiscriminativeModel.from_pretrained(folders[name], convention=family_named(name).convention, **options)


def solutions(n: int) -> list[Trajectory]:
    """Three questions with solutions that share their beginnings, as candidates of a search do."""
    draw = random.Random(0)
    made: list[Trajectory] = []
    for index in range(n):
        stem = list(draw.choice(made).steps[:2]) if made and index % 3 else []
        texts = [step.text for step in stem] + ["".join(draw.choices(WORDS, k=draw.randint(0, 4))) for _ in range(draw.randint(1, 4))]
        made.append(Trajectory.from_texts(f"Question {index % 3}: Tom has 3 apples?", texts))
    return made


async def score_all(model: RewardModel, trajectories: list[Trajectory]):
    return await asyncio.gather(*(model.score(trajectory) for trajectory in trajectories))


def plainly(model: DiscriminativeModel, folder, trajectory: Trajectory) -> list[float]:
    """Whole forward passes in fp32, one sequence at a time, and the family's arithmetic written out with the file's own tensors."""
    convention, files = model.convention, WeightFiles(folder)
    values = [float("nan")] * len(trajectory)
    for encoded in model.encoder.sequences(trajectory):
        with torch.no_grad():
            states = model.body(torch.from_numpy(encoded.ids)[None]).last_hidden_state[0]
        for index in np.flatnonzero(encoded.kept):
            h = states[encoded.read[index]]
            if convention.head == "tokens":
                pieces = [model.tokenizer.convert_tokens_to_ids(piece) for piece in convention.tokens]
                if convention.token_form == "first-of-text":
                    pieces = [model.tokenizer(text, add_special_tokens=False)["input_ids"][0] for text in convention.tokens]
                z = (files.tensor("lm_head.weight") @ h)[pieces]
            elif "score.0.weight" in files.names:
                inner = torch.relu(files.tensor("score.0.weight") @ h + files.tensor("score.0.bias"))
                z = files.tensor("score.2.weight") @ inner + files.tensor("score.2.bias")
            else:
                weight = next(
                    name for name in sorted(files.names) if name.endswith(".weight") and name.split(".")[0] in ("score", "score_head", "v_head", "reward_head")
                )
                bias = weight.replace("weight", "bias")
                z = files.tensor(weight) @ h + (files.tensor(bias) if bias in files.names else 0.0)
            p = z.double().softmax(0)
            values[index] = float(
                {"softmax": lambda p=p: sum(p[k] for k in convention.good_classes), "margin": lambda p=p: p[1] - p[0]}.get(
                    convention.activation, lambda z=z: z[0].sigmoid() if convention.activation == "sigmoid" else z[0]
                )()
            )
    return values


@pytest.mark.parametrize("name", ONE_PASS)
def test_scores_equal_a_plain_loop_whatever_the_batch_the_cache_and_the_order(folders, name: str) -> None:
    model, trajectories = load(folders, name), solutions(9)
    together = asyncio.run(score_all(model, trajectories))
    for trajectory, scores in zip(trajectories, together, strict=True):
        assert len(scores) == len(trajectory)
        assert scores.values == pytest.approx(plainly(model, folders[name], trajectory), abs=1e-4, nan_ok=True)
    again = asyncio.run(score_all(model, trajectories[::-1]))[::-1]
    fresh = load(folders, name, cache_bytes=0, max_batch_tokens=200)
    alone = [asyncio.run(fresh.score(trajectory)) for trajectory in trajectories[:3]]
    for one, other in [*zip(together, again, strict=True), *zip(together, alone, strict=False)]:
        assert one.values == pytest.approx(other.values, abs=1e-5, nan_ok=True)
        assert one.usage == other.usage, "what a result costs alone does not depend on what it shared"
    assert np.ptp(np.concatenate([scores.values for scores in together])) > 0.1, "the fixture's scores must differ for this to mean anything"


@pytest.mark.parametrize("name", ["qwen2.5-math-prm", "skywork-o1-open-prm", "math-shepherd", "rlhflow-deepseek", "universal-prm"])
def test_families_conform_to_the_protocol(folders, name: str) -> None:
    check_reward_model(load(folders, name), solutions(3), tolerance=1e-4)


def test_pqm_and_pure_have_their_own_scales(folders) -> None:
    trajectory = Trajectory.from_texts("Tom?", ["a", "b", "c d", "e", "f g"])
    pqm, pure = (asyncio.run(load(folders, name).score(trajectory)) for name in ("pqm", "pure-prm"))
    chance = Convention(**{**vars(family_named("pure-prm").convention), "name": "chance", "activation": "softmax", "threshold": 0.5})
    same = asyncio.run(DiscriminativeModel.from_pretrained(folders["pure-prm"], convention=chance).score(trajectory))
    assert (pqm.scale, pqm.threshold) == ("logit", 0.0)
    assert (pure.scale, pure.threshold) == ("advantage", 0.0)
    assert pure.values == pytest.approx(2.0 * same.values - 1.0)
    assert pure.first_error() == same.first_error()


def test_reasoneval_tells_redundancy_apart_from_validity(folders) -> None:
    trajectory = Trajectory.from_texts("Tom?", ["a b", "c d", "e f"])
    model = load(folders, "reasoneval-34b")
    scores = asyncio.run(model.score(trajectory))
    head = LinearHead(WeightFiles(folders["reasoneval-34b"]).tensor("score_head.weight"))
    encoded = model.encoder(trajectory)
    with torch.no_grad():
        states = model.body(torch.from_numpy(encoded.ids)[None]).last_hidden_state[0][encoded.read]
        p = head(states, torch.zeros(3)).double().softmax(-1).numpy()
    assert scores.values == pytest.approx(1.0 - p[:, 0], abs=1e-5)
    assert scores.aspects["redundancy"] == pytest.approx(p[:, 1], abs=1e-5)
    assert (scores.aspects["redundancy"] <= scores.values + 1e-12).all()


def test_temperature_flattens_and_the_order_of_scores_stays(folders) -> None:
    convention = family_named("math-shepherd").convention
    trajectory = Trajectory.from_texts("Tom?", ["a", "b", "c d", "e"])
    sharp, flat = (
        asyncio.run(
            DiscriminativeModel.from_pretrained(folders["math-shepherd"], convention=Convention(**{**vars(convention), "temperature": tau, "name": "t"})).score(
                trajectory
            )
        )
        for tau in (1.0, 4.0)
    )
    assert np.argsort(sharp.values).tolist() == np.argsort(flat.values).tolist()
    logits = np.log(sharp.values) - np.log1p(-sharp.values)
    assert flat.values == pytest.approx(1.0 / (1.0 + np.exp(-logits / 4.0)), abs=1e-6)


def test_a_model_that_stops_at_the_first_error_abstains_after_it(folders) -> None:
    convention = Convention(**{**vars(family_named("rlhflow-mistral").convention), "name": "stopping", "threshold": 0.6, "after_error": "stop"})
    model = DiscriminativeModel.from_pretrained(folders["rlhflow-mistral"], convention=convention)
    whole = load(folders, "rlhflow-mistral")
    stopped = 0
    for trajectory in solutions(12):
        scores, full = asyncio.run(model.score(trajectory)), asyncio.run(whole.score(trajectory))
        first = full.first_error(0.6)
        end = len(trajectory) if first == -1 else first + 1
        assert scores.first_error() == first
        assert scores.values[:end] == pytest.approx(full.values[:end], abs=1e-6)
        assert all(reason is not None and reason.startswith(ABSTAINED) for reason in scores.reasons[end:])
        stopped += end < len(trajectory)
    assert stopped, "the fixture must have a wrong step before the last for this to mean anything"


def test_sequences_of_one_request_share_their_tokens(folders) -> None:
    model = load(folders, "universal-prm")
    trajectory = Trajectory.from_texts("Tom has 3 apples", ["one step", "two steps", "three", "four"])
    with metered() as ledger:
        scores = asyncio.run(model.score(trajectory))
    sequences = model.encoder.sequences(trajectory)
    assert scores.usage.reward_tokens == len(sequences[-1]) + len(sequences) - 1, "the last sequence, and an end of text for every other"
    assert ledger.paid.reward_tokens == scores.usage.reward_tokens
    assert ledger.paid.reward_cached == sum(map(len, sequences)) - ledger.paid.reward_tokens


def test_a_template_that_rewrites_earlier_turns_is_scored_turn_by_turn(folders) -> None:
    steady = load(folders, "visual-prm")
    model = DiscriminativeModel(steady.body, steady.head, steady.tokenizer, steady.convention, fingerprint="x")
    steady.tokenizer.chat_template = CHATML.replace("{{ m['content'] }}", "{% if loop.index0 == messages|length - 2 %}! {% endif %}{{ m['content'] }}")
    model = DiscriminativeModel(steady.body, steady.head, steady.tokenizer, steady.convention, fingerprint="x")
    assert not model.encoder.one_pass
    trajectory = Trajectory.from_texts("Tom?", ["a", "b", "c"])
    scores = asyncio.run(model.score(trajectory))
    assert scores.values == pytest.approx(plainly(model, folders["visual-prm"], trajectory), abs=1e-5)
    check_reward_model(model)


def test_a_step_that_has_nothing_before_it_says_so(folders) -> None:
    convention = Convention(prompt="{problem}", marker="", read="step-end")
    model = DiscriminativeModel.from_pretrained(folders["trl-token-classification"], convention=convention)
    scores = asyncio.run(model.score(Trajectory.from_texts("", ["", "a", ""])))
    assert scores.reasons[0] == "there is no token before the end of this step to read it at"
    assert scores.values[1] == scores.values[2], "an empty step is read where the step before it was"


def test_a_head_and_a_convention_must_agree(folders) -> None:
    model = load(folders, "trl-token-classification")
    with pytest.raises(InputError, match="reads 3 numbers and the head gives 2"):
        DiscriminativeModel(model.body, model.head, model.tokenizer, Convention(head="three-class", good=2), fingerprint="x")
