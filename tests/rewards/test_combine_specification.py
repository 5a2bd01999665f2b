"""Claims about the text form of combinations: what it means, that it survives being written, and that mistakes are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepward.core import FrozenDict, InputError, RewardModel, StepScores, Trajectory
from stepward.rewards.calibration import Calibrated, fit_temperature
from stepward.rewards.combine import (
    COMBINATIONS,
    FORMS,
    AnswerConfidence,
    Bidirectional,
    Call,
    Capped,
    Ensemble,
    FollowUpLikelihood,
    Leaf,
    Lifted,
    ProcessAndValue,
    StepConfidence,
    is_combination,
    load_combination,
    parse,
)
from stepward.rewards.load import load_reward_model


class Named:
    """A reward model that is only a name."""

    granularity = "step"
    scale = "probability"

    def __init__(self, name: str) -> None:
        self.fingerprint = name

    async def score(self, trajectory: Trajectory) -> StepScores:
        return StepScores(np.full(len(trajectory), 0.5))


class Writer:
    """A policy with log-probabilities that is only a name."""

    def __init__(self, name: str) -> None:
        self.fingerprint = name

    async def sample(self, *_: Any, **__: Any) -> list[Trajectory]:
        return []

    async def logprobs(self, trajectory: Trajectory) -> Any:
        raise NotImplementedError

    async def entropies(self, trajectory: Trajectory) -> Any:
        raise NotImplementedError


def load(text: str) -> RewardModel:
    return load_combination(text, Named, load_policy=Writer)


def test_what_specifications_mean() -> None:
    for text, tree in [
        ("prm:models/a", Leaf("prm:models/a")),
        ("Qwen/Qwen2.5-Math-PRM-7B", Leaf("Qwen/Qwen2.5-Math-PRM-7B")),
        ("mean(A, B)", Call("mean", (Leaf("A"), Leaf("B")))),
        (" lcb( A ,B ; k = 1.5 ) ", Call("lcb", (Leaf("A"), Leaf("B")), FrozenDict({"k": "1.5"}))),
        (
            "capped(mean(A, min(B, C)), tools:arithmetic; cap=0.1)",
            Call("capped", (Call("mean", (Leaf("A"), Call("min", (Leaf("B"), Leaf("C"))))), Leaf("tools:arithmetic")), FrozenDict({"cap": "0.1"})),
        ),
        ("mean(http://host:8000/v1?a=b&c=d, prm:x)", Call("mean", (Leaf("http://host:8000/v1?a=b&c=d"), Leaf("prm:x")))),
        ('calibrated(prm:a, "odd, name; really.json")', Call("calibrated", (Leaf("prm:a"), Leaf("odd, name; really.json")))),
        ("lifted(prm:models (old)/x)", Call("lifted", (Leaf("prm:models (old)/x"),))),
        ('mean("a\\"b", "c\\\\d")', Call("mean", (Leaf('a"b'), Leaf("c\\d")))),
        ("models(1)/prm", Leaf("models(1)/prm")),
        ('"mean(A, B)"', Leaf("mean(A, B)")),
        ("mean", Leaf("mean")),
    ]:  # fmt: skip
        assert parse(text) == tree, text
        assert parse(str(tree)) == tree, str(tree)


names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=12) | st.sampled_from(
    ["prm:a", "a,b", "(", ")", ")(", '"', "\\", "a;k=1", "mean(A)", "f(x)", "http://h:1/v1", " x "]
)
trees = st.recursive(
    st.builds(Leaf, names),
    lambda inner: st.builds(
        Call,
        st.sampled_from(COMBINATIONS),
        st.lists(inner, min_size=1, max_size=3).map(tuple),
        st.dictionaries(st.from_regex(r"[a-z][a-z_-]{0,5}", fullmatch=True), names, max_size=2).map(FrozenDict),
    ),
    max_leaves=6,
)


@given(trees)
def test_every_tree_survives_being_written(tree: Call | Leaf) -> None:
    assert parse(str(tree)) == tree


@given(st.text(max_size=30) | st.lists(st.sampled_from(["mean(", "lifted(", "a", ",", ";", "k=1", ")", '"', "\\", " ", "("]), max_size=12).map("".join))
def test_any_text_is_a_tree_or_a_told_mistake(text: str) -> None:
    try:
        tree = parse(text)
    except InputError:
        return
    assert isinstance(tree, Call) == is_combination(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mean(A, B", "not closed"),
        ("mean(A, B))", "after the end"),
        ("mean(A,, B)", "empty"),
        ("mean()", "empty"),
        ("mean(A; k)", "key=value"),
        ("mean(A; k=1, k=2)", "twice"),
        ("mean(A, average(B))", "unknown combination 'average'"),
        ('mean("A)', "not closed"),
        ("mean(A, B(c)", "unknown combination 'B'"),
        ("mean(" * 40 + "A" + ")" * 40, "deeper"),
        ('mean(a"b)', "quote"),
        ('"A" B', "after the end"),
    ],
)
def test_mistakes_in_the_text_are_told(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(text)


def test_every_form_that_is_listed_loads(tmp_path: Path) -> None:
    fit_temperature([0.2, 0.8, 0.6], [0.0, 1.0, 0.0]).save(tmp_path / "c.json")
    kinds = {
        "mean": Ensemble, "min": Ensemble, "median": Ensemble, "lcb": Ensemble, "capped": Capped, "lifted": Lifted, "calibrated": Calibrated,
        "bidirectional": Bidirectional, "process-and-value": ProcessAndValue, "confidence": StepConfidence, "answer-confidence": AnswerConfidence,
        "follow-up": FollowUpLikelihood,
    }  # fmt: skip
    found = set()
    for form in FORMS:
        model = load(form.replace(", ...", "").replace("FILE", str(tmp_path / "c.json")))
        name = form.partition("(")[0]
        found.add(name)
        assert isinstance(model, kinds[name])
    assert found == set(COMBINATIONS) == set(kinds)


def test_options_reach_the_model() -> None:
    ensemble = load("lcb(A, B; k=2, missing=skip, weights=2:1, threshold=0.3)")
    assert isinstance(ensemble, Ensemble)
    assert (ensemble.rule, ensemble.k, ensemble.missing, ensemble.weights, ensemble.threshold) == ("lcb", 2.0, "skip", (2.0, 1.0), 0.3)
    capped = load("capped(lifted(A; how=last), B; cap=0.1, support=0.6)")
    assert isinstance(capped, Capped)
    assert isinstance(capped.model, Lifted)
    assert (capped.model.how, capped.cap, capped.support) == ("last", 0.1, 0.6)
    both = load("process-and-value(A, B; beta=inf, beta_on=process, aggregation=mean)")
    assert isinstance(both, ProcessAndValue)
    assert (both.beta, both.beta_on, both.aggregation) == (float("inf"), "process", "mean")
    confidence = load("confidence(tiny; of=entropy)")
    assert isinstance(confidence, StepConfidence)
    assert (confidence.of, confidence.policy.fingerprint) == ("entropy", "tiny")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mean(A; k=1)", "belongs to lcb"),
        ("lifted(A, B)", "takes 1 argument"),
        ("capped(A)", "takes 2 argument"),
        ("bidirectional(A, B, C)", "1 or 2"),
        ("lcb(A, B; k=much)", "expected a number"),
        ("mean(A, B; color=red)", "no option color"),
        ("answer-confidence(A; of=mean)", "no option of"),
        ("calibrated(A, min(B, C))", "is a name"),
        ("calibrated(A, missing.json)", "missing.json"),
        ("lcb(A, B; k=-1)", "at least 0"),
        ("bidirectional(A; gate=2)", "gate"),
    ],
)
def test_mistakes_in_the_meaning_are_told(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(text)


def test_calibrated_refuses_another_models_calibration_unless_told(tmp_path: Path) -> None:
    file = tmp_path / "of a, by b.json"
    fit_temperature([0.2, 0.8, 0.6], [0.0, 1.0, 0.0], model="A").save(file)
    assert load(f'calibrated(A, "{file}")').fingerprint.startswith("calibrated-temperature")
    with pytest.raises(InputError, match="fitted on A, the model is B"):
        load(f'calibrated(B, "{file}")')
    load(f'calibrated(B, "{file}"; other_model=allow)')


def test_a_model_that_is_named_twice_is_loaded_once_and_mistakes_in_options_come_before_loading() -> None:
    loaded: list[str] = []

    def load_model(name: str) -> RewardModel:
        loaded.append(name)
        return Named(name)

    both = load_combination("process-and-value(A, mean(A, B))", load_model)
    assert isinstance(both, ProcessAndValue)
    assert sorted(loaded) == ["A", "B"]
    with pytest.raises(InputError, match="no option color"):
        load_combination("capped(C, D; color=red)", load_model)
    assert sorted(loaded) == ["A", "B"]


def test_a_specification_may_be_longer_than_the_name_of_a_file() -> None:
    assert isinstance(load_reward_model("mean(" + ", ".join(["tools:arithmetic"] * 400) + ")"), Ensemble)
