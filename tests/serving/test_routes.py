"""What the routes answer is what the model says, for one solution and for many, and what failed is null with its reason."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.serving.parts import HashModel, application, hash_scores, item

from stepward.core import Problem, RewardModel, Step, StepScores, Trajectory
from stepward.data.segment import segment
from stepward.rewards.load import load_reward_model
from stepward.testing.fixtures import tiny_prm


def post(model: RewardModel, path: str, body: Any, *, status: int = 200, **settings: Any) -> Any:
    async def ask() -> Any:
        async with application(model, **settings) as (client, _):
            answer = await client.post(path, json=body)
            assert answer.status_code == status, answer.text
            return answer.json()

    return asyncio.run(ask())


def same(result: dict[str, Any], scores: StepScores) -> bool:
    """The answer holds exactly these numbers and reasons."""
    values = [None if math.isnan(value) else value for value in scores.values]
    return bool(result["scores"] == values and result["reasons"] == list(scores.reasons) and result["first_error"] == scores.first_error())


def test_one_solution_gets_the_models_own_numbers() -> None:
    trajectory = Trajectory.from_texts("What is 1 + 1?", ["1 + 1 = 2.", "unknown", "The answer is 2."])
    answer = post(HashModel(), "/v1/score", item("What is 1 + 1?", "1 + 1 = 2.", "unknown", "The answer is 2."), name="mine")
    scores = hash_scores(trajectory)
    [result] = answer["results"]
    assert same(result, scores)
    assert result["aggregate"] == scores.overall("min")
    assert result["aspects"]["twice"][0] == scores.aspects["twice"][0]
    assert (result["threshold"], result["scale"], result["source"]) == (0.5, "probability", {"model": "test:hash"})
    assert result["usage"]["reward_tokens"] == result["paid"]["reward_tokens"] == len(trajectory.text)
    assert answer["model"] == {"name": "mine", "fingerprint": "test:hash"}


def test_many_items_are_answered_in_order_and_each_by_its_own_form() -> None:
    text = "Step 1: 2 + 2 = 4.\nStep 2: broken.\nStep 3: Done."
    problem = {"prompt": "p", "answer": "4", "reference_steps": ["2 + 2"], "metadata": {"level": [1, {"x": None}]}, "environment": "maths"}
    written = [{"text": "look up 2 + 2", "separator": "\n", "observation": "4", "agent": "solver", "action": {"call": ["add", 2, 2]}}, "It is 4."]
    items = [item("a"), {"problem": "b", "text": text}, {"problem": problem, "steps": written, "ending": "open"}, {"problem": "c", "steps": []}]
    answer = post(HashModel(), "/v1/score", {"items": items, "aggregation": "mean"})
    whole = Problem("p", answer="4", reference_steps=("2 + 2",), metadata={"level": [1, {"x": None}]}, environment="maths")
    steps = (Step("look up 2 + 2", "\n", observation="4", agent="solver", action={"call": ["add", 2, 2]}), Step("It is 4."))
    expected = [
        Trajectory.from_texts("a", item()["steps"]),
        Trajectory(Problem("b"), segment(text), finished=True),
        Trajectory(whole, steps),
        Trajectory(Problem("c")),
    ]
    assert len(answer["results"]) == 4
    for result, trajectory in zip(answer["results"], expected, strict=True):
        assert same(result, hash_scores(trajectory)), f"{result['scores']} is not what the model says of {trajectory.text!r}"
    assert answer["results"][1]["steps"] == ["Step 1: 2 + 2 = 4.", "Step 2: broken.", "Step 3: Done."]
    assert "steps" not in answer["results"][0]
    assert answer["results"][0]["aggregate"] == pytest.approx(np.mean(answer["results"][0]["scores"]))
    assert answer["results"][1]["aggregate"] is None, "a step that failed leaves the whole unknown"
    assert answer["results"][3] | {"usage": 0, "paid": 0} == answer["results"][3] | {"scores": [], "aggregate": None, "usage": 0, "paid": 0}


def test_one_bad_item_is_data_and_the_others_do_not_notice(caplog: pytest.LogCaptureFixture) -> None:
    answer = post(HashModel(), "/v1/score", {"items": [item("a"), item("b", "x", "explode"), item("c", "refuse"), item("d")]})
    first, exploded, refused, last = answer["results"]
    assert exploded["scores"] == [None, None]
    assert exploded["reasons"] == ["RuntimeError: a mistake in the model"] * 2
    assert refused["reasons"] == ["RequestFailed: no such luck"]
    assert same(first, hash_scores(Trajectory.from_texts("a", item()["steps"])))
    assert same(last, hash_scores(Trajectory.from_texts("d", item()["steps"])))
    assert "a mistake in the model" in caplog.text, "our own mistakes belong in the log"
    assert "no such luck" not in caplog.text


def test_a_model_that_returns_another_number_of_scores_is_found_out() -> None:
    class Short(HashModel):
        async def score(self, trajectory: Trajectory) -> StepScores:
            return StepScores(np.array([0.5]))

    [result] = post(Short(), "/v1/score", item())["results"]
    assert result["scores"] == [None, None]
    assert result["reasons"][0] == "CountMismatch: the model gave 1 scores for 2 steps"


@pytest.mark.parametrize("spec", ["tools:arithmetic", "prm"])
def test_real_models_score_the_same_behind_the_server(spec: str, tmp_path: Path) -> None:
    source = str(tiny_prm("qwen2", tmp_path / "prm")) if spec == "prm" else spec
    texts = ["2 + 2 = 4.\n\n4 + 1 = 6.\n\nSo it is 6.", "Only one step", "Ünïcödé ∑ 數學\n\n🧮 and <extra_0> in a step\n\n" + "long " * 600]
    trajectories = [Trajectory(Problem(f"What is {index}?"), segment(text), finished=True) for index, text in enumerate(texts)]

    async def alone() -> list[StepScores]:
        direct = load_reward_model(source)
        return [await direct.score(trajectory) for trajectory in trajectories]

    answer = post(load_reward_model(source), "/v1/score", {"items": [{"problem": t.problem.prompt, "text": t.text} for t in trajectories]})
    for result, scores in zip(answer["results"], asyncio.run(alone()), strict=True):
        given = np.array(result["scores"], dtype=np.float64)
        np.testing.assert_allclose(given, scores.values, atol=1e-5, rtol=0)
        assert result["reasons"] == list(scores.reasons)
        assert result["usage"]["reward_tokens"] == scores.usage.reward_tokens


def test_the_model_tells_what_it_is() -> None:
    async def ask() -> Any:
        async with application(HashModel(), name="org/model", max_steps=7) as (client, _):
            return (await client.get("/v1/models")).json()

    [entry] = asyncio.run(ask())["data"]
    assert (entry["id"], entry["fingerprint"], entry["scale"], entry["granularity"]) == ("org/model", "test:hash", "probability", "step")
    assert entry["limits"]["max_steps"] == 7


def test_metrics_count_what_happened() -> None:
    async def ask() -> str:
        async with application(HashModel()) as (client, _):
            await client.post("/v1/score", json={"items": [item("a", "one", "unknown", "broken"), item("b", "refuse")]})
            await client.post("/v1/score", json={"items": 3})
            await client.get("/made/up/path")
            page = await client.get("/metrics")
            assert page.headers["content-type"].startswith("text/plain")
            return page.text

    lines = asyncio.run(ask()).splitlines()
    for expected in (
        'stepward_requests_total{route="/v1/score",status="200"} 1.0',
        'stepward_requests_total{route="/v1/score",status="422"} 1.0',
        'stepward_requests_total{route="unmatched",status="404"} 1.0',
        'stepward_request_seconds_count{route="/v1/score"} 2.0',
        "stepward_queue_items 0.0",
        "stepward_ready 1.0",
        "stepward_items_total 2.0",
        "stepward_steps_total 4.0",
        'stepward_unscored_steps_total{kind="abstained"} 1.0',
        'stepward_unscored_steps_total{kind="failed"} 2.0',
        'stepward_failed_items_total{error="RequestFailed"} 1.0',
        f'stepward_tokens_total{{kind="computed"}} {len("one" + "unknown" + "broken") + 4}.0',
        "stepward_batch_items_count 1.0",
        "stepward_batch_items_sum 1.0",
    ):
        assert expected in lines, f"{expected!r} is not on the metrics page"
