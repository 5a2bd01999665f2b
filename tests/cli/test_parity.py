"""stepward parity: what it compares, what it prints, and how it ends."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from tests.policies.servers import Behaviour, Reply, Server, serving
from tests.rewards.remote_peers import Peer, listed, pooling
from typer.testing import CliRunner, Result

from stepward.cli.parity import parity
from stepward.cli.parity_cases import awkward_solutions
from stepward.core import Granularity, InputError, RequestFailed, Scale, StepScores, Trajectory
from stepward.data.store import write_records
from stepward.rewards.remote.parity import Parity, compare
from stepward.testing.checkpoints import tiny_checkpoint

SOLUTIONS = [Trajectory.from_texts("q", ["a", "b", "c"]), Trajectory.from_texts("q", ["d"])]


class Table:
    """A reward model that says what the table says."""

    granularity: Granularity = "step"

    def __init__(self, values: list[list[float] | None], *, scale: Scale = "probability", aspects: list[list[float]] | None = None) -> None:
        self.values, self.scale, self.aspects = values, scale, aspects
        self.fingerprint = "table"

    async def score(self, trajectory: Trajectory) -> StepScores:
        index = SOLUTIONS.index(trajectory)
        row = self.values[index]
        if row is None:
            raise RequestFailed("the server is down")
        aspects = {} if self.aspects is None else {"redundancy": np.array(self.aspects[index])}
        return StepScores(np.array(row), tuple("odd" if math.isnan(value) else None for value in row), self.scale, aspects=aspects)


def compared(one: Table, other: Table, **options: Any) -> Parity:
    return asyncio.run(compare(one, other, SOLUTIONS, **options))


def test_differences_within_the_tolerance_agree() -> None:
    found = compared(Table([[0.1, 0.2, math.nan], [0.5]]), Table([[0.1, 0.21, math.nan], [0.48]]), tolerance=0.02 + 1e-12)
    assert found.agree
    assert found.verdict == "agree within 0.02"
    assert found.largest == pytest.approx(0.02)
    assert found.mean == pytest.approx(0.03 / 3)
    assert found.local_reasons == found.remote_reasons == (("odd", 1),)
    assert [(pair.trajectory, pair.step) for pair in found.worst(2)] == [(1, 0), (0, 1)]


def test_one_difference_above_it_does_not_and_is_shown_first() -> None:
    found = compared(Table([[0.9, 0.6, 0.3], [0.5]]), Table([[0.9, 0.4, 0.3], [0.5]]))
    assert not found.agree
    assert found.verdict == "1 values differ by more than 0.02"
    assert found.n_other_first_error == 1
    worst = found.worst(1)[0]
    assert (worst.trajectory, worst.step, worst.text, worst.local, worst.remote) == (0, 1, "b", 0.6, 0.4)


def test_a_step_that_one_side_does_not_score_is_a_disagreement_whatever_the_tolerance() -> None:
    found = compared(Table([[0.1, 0.2, 0.3], [0.5]]), Table([[0.1, math.nan, 0.3], None]), tolerance=1.0)
    assert not found.agree
    assert found.n_one_sided == 2
    assert dict(found.remote_reasons) == {"odd": 1, "RequestFailed: the server is down": 1}
    assert found.verdict == "2 values are known on one side only"
    assert all(pair.one_sided for pair in found.worst(2))


def test_where_nothing_can_be_compared_nothing_agrees() -> None:
    silent = Table([None, None])
    found = compared(silent, silent)
    assert not found.agree
    assert found.verdict == "nothing could be compared"
    assert math.isnan(found.largest)


def test_aspects_are_compared_like_scores() -> None:
    values: list[list[float] | None] = [[0.1, 0.2, 0.3], [0.5]]
    same = Table(values, aspects=[[0.0, 0.5, 1.0], [0.2]])
    assert compared(same, same).agree
    found = compared(same, Table(values, aspects=[[0.0, 0.5, 0.9], [0.2]]))
    assert not found.agree
    assert [(pair.name, pair.step) for pair in found.worst(1)] == [("redundancy", 2)]
    assert compared(same, Table(values)).n_one_sided == 4


def test_scores_that_mean_different_things_are_not_compared() -> None:
    with pytest.raises(InputError, match="scores mean the same"):
        compared(Table([[0.1, 0.2, 0.3], [0.5]]), Table([[0.1, 0.2, 0.3], [0.5]], scale="logit"))
    with pytest.raises(InputError, match="tolerance"):
        compared(Table([]), Table([]), tolerance=float("nan"))


def test_awkward_solutions_are_the_same_every_time_and_hold_every_trap() -> None:
    solutions = awkward_solutions(96)
    assert [solution.key for solution in solutions] == [solution.key for solution in awkward_solutions(96)]
    assert [solution.key for solution in solutions[:50]] == [solution.key for solution in awkward_solutions(50)]
    assert len({solution.key for solution in solutions}) == 96
    text = "".join(solution.text for solution in solutions)
    for trap in ("<extra_0>", "ки", "[PRM]", "<|im_end|>", "</s>", "\n\n", "+", "-", "\ud800", "🧮", "\\boxed", "Step 2:"):
        assert trap in text
    lengths = {len(solution) for solution in solutions}
    assert {0, 1, 9, 30} <= lengths
    assert any(not step.text for solution in solutions for step in solution.steps)
    assert any(step.observation for solution in solutions for step in solution.steps)
    assert not all(solution.finished for solution in solutions)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint("qwen2.5-math-prm", tmp_path_factory.mktemp("prm"))


def run(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(parity)
    return CliRunner().invoke(app, list(arguments))


def against(behaviour: Behaviour, folder: Path, *arguments: str) -> tuple[Result, Server]:
    with serving(behaviour) as server:
        return run("--model", str(folder), "--remote", f"vllm:{server.url}", *arguments), server


def test_a_server_of_the_same_model_agrees(folder: Path) -> None:
    result, server = against(pooling(Peer(folder, "score.0", "score.2")), folder, "--limit", "12", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["agree"] is True
    assert found["n_trajectories"] == 12
    assert found["n_compared"] == found["n_values"] == len(found["values"]) > 40
    assert found["largest_difference"] < 1e-5
    assert found["remote"].startswith("remote:")
    assert len(server.requests) == 11, "the solution without steps costs nothing"


def test_a_server_of_another_model_does_not_and_the_table_shows_where(folder: Path, tmp_path: Path) -> None:
    other = tiny_checkpoint("qwen2.5-math-prm", tmp_path, seed=1)
    result, _ = against(pooling(Peer(other, "score.0", "score.2")), folder, "--limit", "8", "--rows", "3")
    assert result.exit_code == 1
    assert "the 3 of" in result.stdout
    assert "differ by more than 0.02" in result.stdout


def test_a_server_that_refuses_is_a_disagreement_with_its_reason(folder: Path, tmp_path: Path) -> None:
    def refuse(server: Server, path: str, body: dict[str, Any]) -> Reply:
        return listed(path) or (400, {}, "no pooling here")

    data = tmp_path / "data.jsonl"
    write_records([Trajectory.from_texts("q", ["a", "b"])], data)
    result, _ = against(refuse, folder, "--data", str(data), "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["n_values"], found["n_one_sided"]) == (2, 2)
    [(reason, count)] = found["remote_unscored"].items()
    assert "no pooling here" in reason
    assert count == 2
    assert found["values"][0]["remote"] is None
    assert found["local_unscored"] == {}


def test_any_two_models_can_be_compared(folder: Path) -> None:
    assert run("--model", str(folder), "--remote", str(folder), "--limit", "6", "--tolerance", "1e-6").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--remote", "vllm:nowhere"], "known forms"),
        (["--remote", "prn:x"], "prn:x"),
        (["--model", "tools:arithmetic", "--remote", "vllm:http://127.0.0.1:1"], "--tokenizer"),
        (["--remote", "sglang:http://127.0.0.1:1/pooling"], "sglang is asked at classify, score"),
    ],
)
def test_mistakes_are_told(folder: Path, arguments: list[str], message: str) -> None:
    given = arguments if "--model" in arguments else ["--model", str(folder), *arguments]
    result = run(*given)
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)
