"""Prices: no request charges more than its price, whatever is asked; what reads a text says to the token what that costs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.policies.servers import completion, serving

from stepward.core import (
    FAILURES,
    ContextOverflow,
    Policy,
    Problem,
    RewardModel,
    Sampling,
    Trajectory,
    Until,
    Usage,
    metered,
    price_of_sample,
    price_of_score,
)
from stepward.engine.journal import Journal
from stepward.engine.journaled import JournaledPolicy, JournaledRewardModel
from stepward.engine.loop import run_sync
from stepward.engine.retry import Retry
from stepward.environments.deduction import Deduction
from stepward.environments.grade_school import GradeSchool
from stepward.environments.maths import Maths
from stepward.policies.http import HttpPolicy
from stepward.policies.local import LocalPolicy
from stepward.policies.scripted import ErrorRates, ScriptedReasoner, ScriptedSolver
from stepward.rewards.calibration import Calibrated, Calibration, Platt
from stepward.rewards.combine import Bidirectional, Capped, Ensemble, Lifted, ProcessAndValue
from stepward.rewards.combine.transform import LogSigmoid
from stepward.rewards.convention import Convention
from stepward.rewards.discriminative import DiscriminativeModel
from stepward.rewards.encoding import Encoded
from stepward.rewards.generative.scripted import ScriptedJudge
from stepward.rewards.implicit import ImplicitModel
from stepward.rewards.load import load_reward_model
from stepward.rewards.oracle import OracleReward
from stepward.rewards.pathfinder import PathFinderModel
from stepward.rewards.remote.model import Answers, RemoteModel
from stepward.search import StepBeam
from stepward.search.budget import Budget, costs
from stepward.testing.checkpoints import tiny_checkpoint
from stepward.testing.fixtures import tiny_causal_lm, tiny_prm
from stepward.testing.ladder import Climber, Ladder
from stepward.testing.noisy_judge import NoisyJudge
from stepward.testing.planted import PlantedModel, PlantedPolicy, PlantedTree
from stepward.testing.rough import RoughModel, RoughPolicy

UNITS = ("policy_tokens", "policy_prefill", "reward_tokens", "reward_written", "flops")
WORLD = GradeSchool()


def within(charged: Usage, price: Usage, units: tuple[str, ...] = UNITS) -> None:
    for unit in units:
        assert getattr(charged, unit) <= getattr(price, unit), f"{unit}: charged {charged}, price {price}"


def random_sampling(luck: random.Random) -> Sampling:
    return Sampling(
        temperature=luck.choice((0.0, 1.0, 2.0)),
        max_step_tokens=luck.choice((1, 3, 10, 512)),
        max_tokens=luck.choice((1, 4, 20, 100)),
        max_steps=luck.choice((1, 2, 6)),
        seed=luck.randrange(100),
    )


def sampled(policy: Policy, problems: list[Problem], n: int, *, seed: int = 0) -> tuple[int, int]:
    """n random requests, each checked; how many charged all of their price in policy tokens, and how many were refused alike."""
    luck, exact, refused = random.Random(seed), 0, 0

    async def run() -> None:
        nonlocal exact, refused
        open_ones = [Trajectory(problem) for problem in problems]
        for _ in range(n):
            prefix, until, n_draws, draw = luck.choice(open_ones), luck.choice(list(Until)), luck.choice((1, 3)), luck.choice((0, 0, 2))
            sampling = random_sampling(luck)
            try:
                price = price_of_sample(policy, prefix, n_draws, until=until, sampling=sampling, draw=draw)
            except FAILURES as error:
                with pytest.raises(type(error)):
                    await policy.sample(prefix, n_draws, until=until, sampling=sampling, draw=draw)
                refused += 1
                continue
            with metered() as ledger:
                drawn = await policy.sample(prefix, n_draws, until=until, sampling=sampling, draw=draw)
            within(ledger.usage, price, UNITS if price.policy_prefill else ("policy_tokens", "flops"))
            exact += ledger.usage.policy_tokens == price.policy_tokens > 0
            open_ones += [trajectory for trajectory in drawn if not trajectory.ended]

    asyncio.run(run())
    return exact, refused


SCRIPTED: dict[str, tuple[Policy, list[Problem]]] = {
    "grade-school": (ScriptedSolver(rates=ErrorRates.scaled(1.5)), list(WORLD.problems(1, 3, split="dev"))),
    "deduction": (ScriptedReasoner(), list(Deduction().problems(1, 2, split="dev"))),
    "planted": (PlantedPolicy(n_words=4), [PlantedTree().random(seed) for seed in range(3)]),
    "climber": (Climber(), [Ladder().problem(5)]),
    "judge": (ScriptedJudge(lambda asked: asked.rest_of("One.\n\nTwo words.\n\nAnd some more words than that.")), [Problem("Right?")]),
    "rough": (RoughPolicy(ScriptedSolver()), list(WORLD.problems(1, 3, split="dev"))),
}


@pytest.mark.parametrize("name", SCRIPTED)
def test_scripted_policies_charge_no_more_than_their_price(name: str) -> None:
    exact, _ = sampled(*SCRIPTED[name], 150)
    assert exact > 10, "prices must be met where limits bind"


@pytest.fixture(scope="module", params=["byte-bpe", "metaspace"])
def local(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPolicy]:
    from stepward.testing.fixtures import tiny_tokenizer

    folder = tiny_causal_lm("llama", tmp_path_factory.mktemp("lm") / request.param, tokenizer=tiny_tokenizer(request.param), max_tokens=96)
    policy = LocalPolicy.from_pretrained(folder, separator="e")
    yield policy
    policy.close()


def test_a_local_policy_charges_no_more_than_its_price_in_tokens_prefill_and_flops(local: LocalPolicy) -> None:
    """Also where the context (96 tokens) is shorter than the limits, and where a sample's tokens are not those that its text has again."""
    exact, refused = sampled(local, [Problem("How many pears?"), Problem("Half of 60?"), Problem("How many pears? " * 40)], 120)
    assert exact > 30
    assert refused > 0, "some prefix must have outgrown the context"


def test_the_first_draw_pays_for_the_prefix_and_no_other_one_does(local: LocalPolicy) -> None:
    start, sampling = Trajectory(Problem("How many pears?")), Sampling(max_step_tokens=1)
    first, later = (local.price(start, sampling=sampling, draw=draw) for draw in (0, 3))
    n_prefix = len(local.prompt_tokens(start.problem))
    assert (first.policy_prefill, later.policy_prefill, later.policy_cached) == (n_prefix, 0, n_prefix)
    for draw, price in ((0, first), (3, later)):
        with metered() as ledger:
            asyncio.run(local.sample(start, sampling=sampling, draw=draw))
        assert ledger.usage == price, "one token is written, so the price is met exactly"
    with pytest.raises(ContextOverflow):
        local.price(Trajectory(Problem("How many pears? " * 40)))


@pytest.mark.parametrize("stopping", ["auto", "server", "cut"])
@pytest.mark.parametrize("tells_stop", [True, False])
@pytest.mark.parametrize("solution", ["3 + 4 = 7.\n\n7 * 2 = 14.\n\nThe answer is 14.", "\n\n3 + 4 = 7.\n\nThe answer is 7."])
def test_an_http_policy_charges_no_more_than_its_price(stopping: Any, tells_stop: bool, solution: str) -> None:
    """Also where a step costs a second request: a silent server, and one that stops before anything is written."""

    async def ask(url: str) -> None:
        for limit in (1, 5, 500):
            for until in Until:
                async with HttpPolicy(url, "m", retry=Retry(attempts=1), stopping=stopping) as policy:
                    sampling = Sampling(max_step_tokens=limit, max_tokens=200)
                    price = price_of_sample(policy, START, 2, until=until, sampling=sampling)
                    with metered() as ledger:
                        await policy.sample(START, 2, until=until, sampling=sampling)
                    within(ledger.usage, price, ("policy_tokens",))

    with serving(completion(solution, tells_stop=tells_stop, most=1)) as server:
        asyncio.run(ask(server.url))


START = Trajectory(Problem("How many?"))


# Reward models


def solutions(n: int, seed: int = 0) -> list[Trajectory]:
    luck = random.Random(seed)
    words = ["Tom", "has", "7", "apples.", "3 + 4 = 7", "\u00e9\u4e2d", "\n", "x = 3.", "The answer is 30."]
    made = []
    for _ in range(n):
        texts = [" ".join(luck.choices(words, k=luck.randint(0, 9))) for _ in range(luck.randint(0, 5))]
        made.append(Trajectory.from_texts(" ".join(luck.choices(words, k=luck.randint(1, 12))), texts, finished=luck.random() < 0.5))
    return [*made, Trajectory(Problem("nothing yet")), Trajectory.from_texts("long", ["seven apples and so on " * 30, "and on"])]


def scored(model: RewardModel, trajectory: Trajectory) -> Usage:
    with metered() as ledger:
        try:
            asyncio.run(model.score(trajectory))
        except FAILURES:
            return ledger.usage
    return ledger.usage


def prm(folder: Path) -> RewardModel:
    return DiscriminativeModel.from_pretrained(tiny_prm("qwen2", folder, max_tokens=100))


def at_the_end(folder: Path) -> RewardModel:
    return DiscriminativeModel.from_pretrained(tiny_prm("llama", folder, convention=Convention(read="eos", max_tokens=100)))


def implicit(folder: Path) -> RewardModel:
    return ImplicitModel.from_pretrained(tiny_checkpoint("eurus-prm", folder / "policy"), reference=tiny_checkpoint("eurus-prm", folder / "reference", seed=2))


class Echoing(RemoteModel):
    """A remote model whose server answers 0 everywhere and holds 60 tokens."""

    protocol = "echo"

    def __init__(self, folder: Path, *, rereads: bool = False) -> None:
        local = DiscriminativeModel.from_pretrained(tiny_prm("qwen2", folder))

        class Facts:
            max_tokens = 60

        class Server:
            identity, url = ("echo", ""), "http://echo"

            async def facts(self) -> Facts:
                return Facts()

        super().__init__(Server(), local.tokenizer, replace(local.convention, max_tokens=100))  # type: ignore[arg-type]
        self.rereads = rereads

    async def ask(self, parts: Any, *, key: str) -> Answers:
        n = sum(part.n_kept for part in parts if isinstance(part, Encoded))
        return Answers(np.zeros((n, self.convention.n_outputs)), Usage())


def arithmetic(folder: Path) -> RewardModel:
    return load_reward_model("tools:arithmetic")


EXACT: dict[str, Callable[[Path], RewardModel]] = {
    "discriminative": prm,
    "discriminative, a sequence a step": at_the_end,
    "implicit": implicit,
    "pathfinder": lambda folder: PathFinderModel.from_pretrained(tiny_checkpoint("pathfinder-prm", folder)),
    "tools": arithmetic,
    "oracle": lambda folder: OracleReward(WORLD),
    "noisy judge": lambda folder: NoisyJudge(WORLD, k=3),
    "rough": lambda folder: RoughModel(failing=0.3),
    "ensemble": lambda folder: Ensemble([prm(folder), RoughModel(failing=0.5)]),
    "capped": lambda folder: Capped(prm(folder), arithmetic(folder)),
    "bidirectional": lambda folder: Bidirectional(prm(folder)),
    "lifted": lambda folder: Lifted(prm(folder)),
    "lifted, last": lambda folder: Lifted(RoughModel(), how="last"),
    "log-sigmoid": lambda folder: LogSigmoid(RoughModel(), lambda problem: 0.0, name="zero"),
    "process and value": lambda folder: ProcessAndValue(RoughModel(0), RoughModel(1)),
    "calibrated": lambda folder: calibrated(RoughModel()),
    "ensemble of ensembles": lambda folder: Ensemble([Ensemble([RoughModel(0), RoughModel(1)]), calibrated(Ensemble([RoughModel(2)]))]),
}
BOUNDED: dict[str, Callable[[Path], RewardModel]] = {"remote": Echoing, "remote, rereading": lambda folder: Echoing(folder, rereads=True)}


def calibrated(model: RewardModel) -> RewardModel:
    return Calibrated(model, Calibration(map=Platt(slope=2.0, intercept=0.0), scale="probability", n=1))


@pytest.mark.parametrize("name", EXACT)
def test_what_a_model_charges_is_its_price_to_the_token(name: str, tmp_path: Path) -> None:
    model, n_charged = EXACT[name](tmp_path), 0
    for trajectory in solutions(12):
        price, charged = price_of_score(model, trajectory), scored(model, trajectory)
        if charged or name not in ("noisy judge", "oracle"):  # these refuse another world's problems before they charge
            assert charged == price
        n_charged += bool(charged.reward_tokens)
    assert n_charged > 5 or name in ("tools", "oracle", "noisy judge")


@pytest.mark.parametrize("name", BOUNDED)
def test_a_remote_model_charges_no_more_than_its_price(name: str, tmp_path: Path) -> None:
    model = BOUNDED[name](tmp_path)
    exact = 0
    for trajectory in solutions(12):
        price, charged = price_of_score(model, trajectory), scored(model, trajectory)
        assert price is not None
        within(charged, price)
        exact += charged == price != Usage()
    assert exact > 3, "a solution that fits the server's context costs its price"


def test_a_combination_cannot_tell_more_than_its_members() -> None:
    class Silent(RoughModel):
        price = None  # type: ignore[assignment]

    silent = Silent()
    for model in (Ensemble([RoughModel(), silent]), Lifted(silent), calibrated(silent), Capped(RoughModel(), silent)):
        assert price_of_score(model, Trajectory.from_texts("p", ["a"])) is None


def test_a_journal_does_not_change_prices_and_what_it_kept_charges_within_them(tmp_path: Path, local: LocalPolicy) -> None:
    async def run() -> None:
        with Journal(tmp_path / "journal") as journal:
            policy, model = JournaledPolicy(local, journal), JournaledRewardModel(RoughModel(), journal)
            sampling, start = Sampling(max_tokens=8), Trajectory(Problem("How many pears?"))
            await policy.sample(start, 4, until=Until.END, sampling=sampling)
            for draw in range(4):
                price = policy.price(start, until=Until.END, sampling=sampling, draw=draw)
                assert price == local.price(start, until=Until.END, sampling=sampling, draw=draw)
                with metered() as ledger:
                    await policy.sample(start, until=Until.END, sampling=sampling, draw=draw)
                within(ledger.usage, price, ("policy_tokens", "policy_prefill", "flops"))
                assert not ledger.paid
            trajectory = Trajectory.from_texts("p", ["a", "b"])
            assert model.price(trajectory) == RoughModel().price(trajectory)

    asyncio.run(run())


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_searches_with_real_models_keep_budgets_of_every_unit_and_nearly_spend_them(share: float, local: LocalPolicy, tmp_path: Path) -> None:
    """A transformer as policy and one as reward model: FLOPs of both together, tokens that the model reads, tokens that the policy writes."""
    model, problem = prm(tmp_path), Problem("How many pears?")
    sampling = Sampling(max_step_tokens=6, max_tokens=20, max_steps=4)
    beam = StepBeam(policy=local, environment=Maths(), model=model, width=4, expansions=3, sampling=sampling)
    free = run_sync(beam.search(problem))
    for unit, whole, least in (
        ("flops", free.usage.flops, 0.8),
        ("reward_tokens", free.usage.reward_tokens, 0.8),
        ("policy_tokens", free.usage.policy_tokens, 1.0),
    ):
        budget = Budget(**{unit: int(share * whole)})
        result = run_sync(replace(beam, budget=budget).search(problem))
        spent = costs(result.usage, 0)[unit]
        assert least * share * whole - 1 < spent <= share * whole, f"{unit}: {spent} of {share * whole}"
        assert "budget" in result.source["stopped"]


def test_the_planted_model_tells_its_price() -> None:
    tree = PlantedTree()
    model = PlantedModel()
    walked = tree.walk(tree.random(0), [0, 1, 0])
    assert scored(model, walked) == price_of_score(model, walked)


def test_models_that_cannot_tell_say_none() -> None:
    from stepward.rewards.generative import GenPRM

    assert price_of_score(GenPRM(ScriptedJudge(lambda asked: "")), START) is None
