"""Early rejection: what a step costs when it is broken off, that it comes out whole, and when the best is lost."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import pytest
from scipy.stats import norm
from tests.policies.tiny_models import EOS, TOKENIZERS, model
from tests.search.exact import PROBLEMS, SOLVER, WORLD, Exact, results, standard_error

from stepward.core import InputError, Problem, Sampling, Step, StepScores, Trajectory, Until, metered
from stepward.engine.loop import run_sync
from stepward.engine.noise import uniforms
from stepward.environments.maths import Maths
from stepward.policies.local import LocalPolicy
from stepward.search.beam import StepBeam
from stepward.search.budget import Budget
from stepward.search.compute_optimal import ComputeOptimal
from stepward.search.early_rejection import EarlyRejection
from stepward.testing import check_search
from stepward.testing.planted import PlantedPolicy, PlantedTree


def rejecting(**settings: Any) -> EarlyRejection:
    parts = {"policy": SOLVER, "environment": WORLD, "model": Exact(), "width": 2, "expansions": 3, "aggregation": "last"}
    return EarlyRejection(**(parts | settings))


@pytest.fixture(scope="module", params=list(TOKENIZERS))
def local(request: pytest.FixtureRequest) -> Iterator[LocalPolicy]:
    tokenizer = TOKENIZERS[request.param]()
    made = LocalPolicy(model("llama", len(tokenizer), eos=tokenizer.convert_tokens_to_ids(EOS)), tokenizer, template="raw", separator="\n")
    yield made
    made.close()


def test_a_tau_beyond_every_step_is_a_beam() -> None:
    beam = StepBeam(policy=SOLVER, environment=WORLD, model=Exact(), width=2, expansions=3, aggregation="last")
    for one, other in zip(results(rejecting(tau=500), PROBLEMS[:15]), results(beam, PROBLEMS[:15]), strict=True):
        assert one.tree.to_record() == other.tree.to_record()
        assert one.usage.policy_tokens == other.usage.policy_tokens


def test_a_broken_step_that_is_finished_is_the_step_drawn_at_once(local: LocalPolicy) -> None:
    """For every limit, temperature and draw: text, separator, number of tokens and log-probability, whether or not the beginning is remembered."""
    prefix = Trajectory(Problem("Tom has 3 apples."))

    def same(one: Trajectory, other: Trajectory) -> None:
        assert one.key == other.key
        assert (one.finished, one.truncated, one.steps[-1].n_tokens) == (other.finished, other.truncated, other.steps[-1].n_tokens)
        assert one.steps[-1].logprob == pytest.approx(other.steps[-1].logprob, abs=1e-4)

    async def run() -> None:
        for temperature in (0.0, 1.0):
            whole = Sampling(temperature=temperature, max_step_tokens=24, seed=3)
            for draw, expected in enumerate(await local.sample(prefix, 4, sampling=whole)):
                for tau in (2, 7):
                    [begun] = await local.sample(prefix, 1, sampling=Sampling(temperature=temperature, max_step_tokens=tau, seed=3), draw=draw)
                    if begun.truncated:
                        with metered() as ledger:
                            same(await local.resume(prefix, begun.steps[-1], sampling=whole, draw=draw), expected)
                        assert ledger.usage.policy_tokens == (expected.steps[-1].n_tokens or 0) - tau
                        assert ledger.paid == ledger.usage, "what was begun is remembered: nothing is read twice"
                        local._broken_steps._kept.clear()
                        with metered() as ledger:
                            same(await local.resume(prefix, begun.steps[-1], sampling=whole, draw=draw), expected)
                        assert ledger.usage.policy_tokens == (expected.steps[-1].n_tokens or 0) - tau
                        assert ledger.paid.policy_tokens == expected.steps[-1].n_tokens

    run_sync(run())


@dataclass(frozen=True)
class Hashed:
    """A reward that depends on the text alone, in no particular way."""

    fingerprint: str = "hashed"
    granularity: Literal["step"] = "step"
    scale: Literal["probability"] = "probability"

    async def score(self, trajectory: Trajectory) -> StepScores:
        return StepScores(np.array([int(key[:6], 16) / 16**6 for key in trajectory.keys[1:]]))


def test_the_tokens_of_a_level_are_those_of_the_formula(local: LocalPolicy) -> None:
    """N tau + width (l - tau), each candidate and each kept step with its own length; nothing is written twice."""
    search = rejecting(policy=local, environment=Maths(), model=Hashed(), tau=4, sampling=Sampling(max_step_tokens=16, max_tokens=60, max_steps=4))
    for result in results(search, [Problem("Tom has 3 apples."), Problem("6 + 6")]):
        finished = {node.revises: node for node in result.tree if node.revises is not None}
        begun = [node for node in result.tree if node.parent is not None and node.revises is None]
        expected = sum(_last(node).n_tokens or 0 for node in begun)
        expected += sum((_last(node).n_tokens or 0) - (_last(result.tree.nodes[index]).n_tokens or 0) for index, node in finished.items())
        assert finished
        assert result.usage.policy_tokens == expected
        for node in result.tree:
            if node.kind == "partial":
                assert _last(node).n_tokens == 4
                assert node.dropped or finished[node.index].value == node.value


def _last(node: Any) -> Step:
    step: Step = node.trajectory.steps[-1]
    return step


def test_a_scripted_draw_is_asked_for_again_and_begins_as_it_began() -> None:
    """N tau + width l: the first tau tokens of what is kept are paid for twice."""
    for result in results(rejecting(tau=3), PROBLEMS[:15]):
        finished = {node.revises: node for node in result.tree if node.revises is not None}
        assert finished
        for index, node in finished.items():
            assert _last(node).text.startswith(_last(result.tree.nodes[index]).text)
        assert result.usage.policy_tokens == sum(_last(node).n_tokens or 0 for node in result.tree if node.parent is not None)
    check_search(rejecting(tau=3), PROBLEMS[:3])


def test_the_finished_steps_are_draws_of_the_policy() -> None:
    """One chain with nothing to choose from is the policy itself, wherever its steps are broken off: right with its own chance."""
    found = results(rejecting(tau=3, width=1, expansions=1, model=Exact(constant=0.5)), PROBLEMS)
    chance = np.array([SOLVER.value(Trajectory(problem)) for problem in PROBLEMS])
    right = np.array([0.0 if result.chosen is None else SOLVER.value(result.chosen) for result in found])
    assert abs((right - chance).mean()) < 3 * standard_error(right - chance)


@dataclass(frozen=True)
class Numbered:
    """Draw i is one step of `length` words, the first of which is its number, and the end."""

    length: int = 80
    fingerprint: str = "numbered"

    async def sample(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = Sampling(), draw: int = 0) -> list[Trajectory]:
        words = min(self.length, sampling.max_step_tokens)
        ends = {"finished": words == self.length, "truncated": words < self.length}
        return [prefix.extend(Step(" ".join([str(draw + index), *["so"] * (words - 1)]), n_tokens=words), **ends) for index in range(n)]


@dataclass(frozen=True)
class EverSurer:
    """`gap` for draw 0 and 0 for the others, plus normal noise of deviation 1 / sqrt(words read)."""

    gap: float
    fingerprint: str = "ever surer"
    granularity: Literal["step"] = "step"
    scale: Literal["logit"] = "logit"

    async def score(self, trajectory: Trajectory) -> StepScores:
        words = trajectory.text.split()
        noise = NormalDist().inv_cdf(float(uniforms(1, f"{trajectory.problem.prompt} {words[0]}", 0, 0, 1)[0]))
        return StepScores([self.gap * (words[0] == "0") + noise / math.sqrt(len(words))], scale="logit")


def test_the_best_is_lost_ever_more_rarely_the_longer_one_looks() -> None:
    """P(best dropped after tau tokens) = 1 - E[Phi(X + gap sqrt(tau))^(N-1)], X normal: below (N - 1) exp(-tau gap^2 / 4), and falling with tau."""
    n, gap, n_trials = 4, 0.5, 300
    problems = [Problem(f"problem {trial}") for trial in range(n_trials)]
    lost = {}
    for tau in (4, 16, 64):
        search = rejecting(policy=Numbered(), environment=Maths(), model=EverSurer(gap), tau=tau, width=1, expansions=n)
        chosen = [result.chosen for result in results(search, problems)]
        assert all(solution is not None and len(solution.text.split()) == 80 for solution in chosen)
        lost[tau] = float(np.mean([solution is not None and solution.text.split()[0] != "0" for solution in chosen]))
        x = np.linspace(-8.0, 8.0, 4001)
        law = float(np.sum(norm.pdf(x) * norm.cdf(x + gap * math.sqrt(tau)) ** (n - 1)) * (x[1] - x[0]))
        assert abs(lost[tau] - (1 - law)) < 3 * math.sqrt(law * (1 - law) / n_trials)
        assert 1 - law < (n - 1) * math.exp(-tau * gap**2 / 4)
    assert lost[4] > 2 * lost[16] > 4 * lost[64]


def test_a_step_that_turns_out_cut_off_takes_no_place_while_another_can_be_finished() -> None:
    """A kept step that is cut off and answers nothing stands in a level of such steps, all of which were finished."""
    n_again = 0
    for limit, width in ((16, 1), (20, 2), (16, 3)):
        search = rejecting(tau=8, width=width, model=Exact(constant=0.5), sampling=Sampling(max_step_tokens=limit))
        for result in results(search, PROBLEMS[:20]):
            whole = [node for node in result.tree if node.parent is not None and node.kind != "partial"]
            useless = {node.index for node in whole if node.trajectory.truncated and WORLD.answer(node.trajectory) is None}
            finished = {node.revises for node in whole}
            for depth in {node.depth for node in whole if node.index in useless and node.dropped is None}:
                assert all(node.index in useless for node in whole if node.depth == depth)
                assert all(node.index in finished for node in result.tree if node.depth == depth and node.kind == "partial")
            n_again += sum(node.dropped == "cut off" for node in whole)
        check_search(search, PROBLEMS[:2])
    assert n_again > 0


def test_a_budget_is_kept_in_the_middle_of_steps(local: LocalPolicy) -> None:
    for tokens in range(1, 80, 11):
        search = rejecting(policy=local, environment=Maths(), model=Hashed(), tau=4, sampling=Sampling(max_step_tokens=16), budget=Budget(policy_tokens=tokens))
        for result in results(search, [Problem("Tom has 3 apples.")]):
            assert result.usage.policy_tokens <= tokens


def test_candidates_without_a_score_are_never_finished() -> None:
    for result in results(rejecting(tau=3, model=Exact(fail_every=3)), PROBLEMS[:20]):
        unscored = {node.index for node in result.tree if node.kind == "partial" and node.reason}
        scored = sum(not node.reason for node in result.tree.root.children)
        if scored >= 2:
            assert not any(node.revises in unscored for node in result.tree if node.revises is not None and result.tree.nodes[node.revises].depth == 1)
    with pytest.raises(InputError, match="at least 1"):
        rejecting(tau=0)


def test_a_journal_keeps_finished_steps(local: LocalPolicy, tmp_path: Any) -> None:
    from stepward.engine.journal import Journal
    from stepward.engine.journaled import JournaledPolicy

    async def run() -> None:
        prefix = Trajectory(Problem("Tom has 3 apples."))
        short, whole = Sampling(max_step_tokens=3), Sampling(max_step_tokens=20)
        for paid in (True, False):
            with Journal(tmp_path / "journal.sqlite") as journal:
                policy = JournaledPolicy(local, journal)
                with metered() as ledger:
                    [begun] = await policy.sample(prefix, 1, until=Until.STEP, sampling=short)
                    found = await policy.resume(prefix, begun.steps[-1], sampling=whole)
                assert found.key == (await local.sample(prefix, 1, sampling=whole))[0].key
                assert ledger.usage.policy_tokens == found.steps[-1].n_tokens
                assert bool(ledger.paid) == paid

    asyncio.run(run())


def test_an_agents_world_answers_whole_steps_only() -> None:
    """Observations stand behind finished steps, never behind what was broken off, and a broken-off step does nothing in the world."""
    world = PlantedTree(interactive=True)
    problems = [world.random(seed, depth=3, branching=3) for seed in range(3)]
    policy = PlantedPolicy(skew=1.0, n_words=6, interactive=True)
    search = rejecting(policy=policy, environment=world, model=Hashed(), tau=3, width=2, expansions=3)
    for result in results(search, problems):
        partial = [node for node in result.tree if node.kind == "partial"]
        assert partial
        assert all(_last(node).observation is None and _last(node).text == "then then then" for node in partial)
        assert all(_last(node).observation for node in result.tree if node.parent is not None and node.kind != "partial")
        assert result.chosen is not None
    check_search(search, problems)


def test_broken_steps_are_other_draws_than_the_solutions_drawn_before() -> None:
    """In one search, a step that is broken off does not repeat the beginning of a draft from the same prefix."""
    search = ComputeOptimal(policy=SOLVER, environment=WORLD, model=Exact(), strategies=(rejecting(tau=8),), edges=(), choices=(0,), drafts=6)
    repeated = [
        begun.trajectory.text.split("\n")[0] == draft.trajectory.text[: len(begun.trajectory.text)]
        for result in results(search, PROBLEMS[:20])
        for draft, begun in zip(result.tree.root.children[:6], result.tree.root.children[6:12], strict=True)
    ]
    assert np.mean(repeated) < 0.9
