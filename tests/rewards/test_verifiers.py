"""Verdicts combine soundly, the router only adds, and verifiers together are a conforming reward model and labeler."""

from __future__ import annotations

import asyncio
import math
import pickle
from dataclasses import dataclass, field

import pytest

from stepward.core import InputError, MissingExtra, Problem, RequestFailed, Trajectory
from stepward.labeling.tools import ToolLabels
from stepward.rewards.load import load_reward_model
from stepward.rewards.verifiers import Router, State, StepContext, ToolVerifier, Verdict, Verifier, combine, installed, load, load_tools, load_verifier
from stepward.testing.labeler import check_labeler
from stepward.testing.reward_model import check_reward_model

S, R, A = State.SUPPORTED, State.REFUTED, State.ABSTAIN


def verdict(state: State, *, exact: bool = True, kind: str = "test") -> Verdict:
    return Verdict(state=state, verifier="told", kind=kind, text="x", span=(0, 1), reason="so it was told", exact=exact, evidence={"left": "1"})


@dataclass(frozen=True)
class Told:
    """A verifier that says of each step what its text says, one word a verdict; `~` before a word makes it inexact."""

    name: str = "told"
    cue: str = ""
    fingerprint: str = field(default="told/1")

    def reads(self, context: StepContext) -> bool:
        return self.cue in context.text

    async def verify(self, context: StepContext) -> list[Verdict]:
        words = {state.value: state for state in State}
        return [verdict(words[word.lstrip("~")], exact=not word.startswith("~")) for word in context.text.split() if word.lstrip("~") in words]


@pytest.mark.parametrize(
    ("verdicts", "state"),
    [
        ([], A),
        ([verdict(A)], A),
        ([verdict(S)], S),
        ([verdict(S), verdict(A)], S),
        ([verdict(S), verdict(R)], R),
        ([verdict(R), verdict(A)], R),
        ([verdict(R, exact=False)], A),
        ([verdict(S), verdict(R, exact=False)], A),
        ([verdict(S, exact=False)], A),
        ([verdict(R, exact=False), verdict(R)], R),
    ],
)
def test_a_step_is_refuted_by_an_exact_refutation_and_supported_only_unrefuted(verdicts: list[Verdict], state: State) -> None:
    step = combine(verdicts)
    assert step.state is state
    assert step.reason
    assert all(each.exact and each.state is state for each in step.deciding)
    assert bool(step.deciding) == (state is not A)


def test_evidence_is_frozen_and_survives_as_a_record() -> None:
    one = verdict(R, kind="sum")
    with pytest.raises(TypeError):
        one.evidence["left"] = "2"  # type: ignore[index]
    assert one.to_record()["evidence"] == {"left": "1"}
    assert one.to_record()["span"] == [0, 1]
    assert combine([one]).kind == "sum"
    assert "left: 1" in one.sentence


def test_an_adviser_adds_checks_and_takes_none_away() -> None:
    numbers, words = Told("numbers", cue="1"), Told("words", cue="w")
    context = StepContext(Trajectory.from_texts("P", ["1 is here"]), 0)

    async def advise(_: StepContext) -> list[str]:
        return ["words", "nobody"]

    async def fail(_: StepContext) -> list[str]:
        raise RequestFailed("no adviser today")

    async def route(router: Router) -> list[str]:
        return [verifier.name for verifier in await router.route(context)]

    assert asyncio.run(route(Router([numbers, words]))) == ["numbers"]
    assert asyncio.run(route(Router([numbers, words], advise))) == ["numbers", "words"]
    assert asyncio.run(route(Router([numbers, words], fail))) == ["numbers"]
    with pytest.raises(InputError, match="once"):
        Router([numbers, numbers])


def test_scores_are_one_zero_or_abstained_and_doubts_change_no_value() -> None:
    model = ToolVerifier([Told()])
    scores = asyncio.run(model.score(Trajectory.from_texts("P", ["supported", "supported refuted", "words", "~refuted", "supported ~refuted"])))
    assert scores.values[:2].tolist() == [1.0, 0.0]
    assert all(math.isnan(value) for value in scores.values[2:])
    assert scores.n_failed == 0
    assert scores.first_error() == 1
    assert scores.aspects["doubts"].tolist() == [0, 0, 0, 1, 1]
    assert scores.source["model"] == model.fingerprint == "tools:told/1"


def test_labels_are_local_with_evidence_and_know_the_first_error_only_behind_labelled_steps() -> None:
    labeler = ToolLabels(verifiers=[Told()])
    labels = asyncio.run(labeler.label(Trajectory.from_texts("P", ["supported", "refuted", "words"])))
    assert labels.hard == (True, False, None)
    assert labels.semantics == "local"
    assert labels.first_error == 1
    assert labels.error_types == (None, "test", None)
    assert labels.confidence[1] == 1.0, "a refutation is a proof"
    assert math.isnan(labels.confidence[0]), "a checked claim that holds says nothing about the rest of its step"
    assert math.isnan(labels.confidence[2])
    assert labels.evidence[1][0]["state"] == "refuted"
    assert str(labels.reasons[2]).startswith("abstained")
    assert asyncio.run(labeler.label(Trajectory.from_texts("P", ["words", "refuted"]))).first_error is None
    with pytest.raises(InputError, match="at least one"):
        ToolLabels(verifiers=[])


def test_specifications_name_verifiers() -> None:
    assert load_tools("tools:arithmetic").fingerprint == "tools:arithmetic/2"
    assert load_tools("tools:arithmetic+quantities").fingerprint == "tools:arithmetic/2+quantities/2"
    assert load_reward_model("tools:quantities").fingerprint == "tools:quantities/2"
    assert {"arithmetic", "algebra", "quantities"} <= {verifier.name for verifier in load_tools("tools:all").router.verifiers}
    for wrong in ("tools:astrology", "tools:", "tools:arithmetic+", "tools:all+arithmetic"):
        with pytest.raises(InputError, match="unknown verifier"):
            load_tools(wrong)
    with pytest.raises(InputError, match="once"):
        load_tools("tools:arithmetic+arithmetic")


def test_a_verifier_whose_package_is_missing_is_left_out_of_all_and_named_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Verifier:
        if name == "algebra":
            raise MissingExtra("sympy", "tools")
        return load_verifier(name)

    monkeypatch.setattr(load, "load_verifier", missing)
    assert "algebra" not in {verifier.name for verifier in installed()}
    with pytest.raises(MissingExtra, match=r"stepward\[tools\]"):
        load_tools("tools:algebra")


@pytest.mark.parametrize("name", sorted(load.VERIFIERS))
def test_every_registered_verifier_keeps_the_protocol(name: str) -> None:
    try:
        verifier = load_verifier(name)
    except MissingExtra as error:
        pytest.skip(str(error))
    assert isinstance(verifier, Verifier)
    assert verifier.name == name
    assert verifier.fingerprint.startswith(f"{name}/")


@pytest.mark.parametrize("name", ["arithmetic", "algebra", "quantities"])
def test_the_text_verifiers_can_be_sent_to_other_processes(name: str) -> None:
    verifier = load_verifier(name)
    assert pickle.loads(pickle.dumps(verifier)) == verifier


def test_the_text_verifiers_together_conform() -> None:
    solution = Trajectory.from_texts(
        Problem("Ann has 17 apples and buys 3 bags of 25 apples. How many apples has she?"),
        ["She buys 3 * 25 = 75 apples.", r"So she has \(17 + 75 = 93\) apples.", "The answer is 92."],
    )
    verifiers = [load_verifier(name) for name in ("arithmetic", "algebra", "quantities")]
    check_reward_model(ToolVerifier(verifiers), [solution])
    check_labeler(ToolLabels(verifiers=verifiers), [solution])
    assert asyncio.run(ToolVerifier(verifiers).score(solution)).first_error() == 1
