r"""Pairwise judges: which of two solutions is better, asked in both orders. Rankings from such verdicts are in `ranking.py`.

Prompts: "rm-r1" and "rm-r1-instruct" from RM-R1: Reward Modeling as Reasoning (2025), the authors' repository (for reasoning models, and with the system
prompt for instruct models); "mt-bench" from Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena (2023), as in RewardBench (without the tie option).
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from stepward.core import Policy, Problem, Sampling, Trajectory, Usage, canonical_json, content_hash, metered_as_reward
from stepward.rewards.generative.frame import Frame, plain
from stepward.rewards.generative.jury import Jury, Read
from stepward.rewards.generative.model import GREEDY
from stepward.rewards.generative.pair_prompts import PAIR_PROMPTS, PairPrompt
from stepward.rewards.generative.ranking import Knockout, knockout
from stepward.rewards.generative.task import Forcing, Mark, Question, Reader, Reading, Vote, check_choice
from stepward.rewards.generative.votes import Reduce

Orders = Literal["both", "given"]
_FRAME = Frame()
_VERDICT = re.compile(r"\[\[\s{0,4}([AB])\s{0,4}\]\]")


@dataclass(frozen=True)
class Comparison:
    """How far solution a is preferred to b: `value` in [0, 1], or NaN with the `reason`.

    `orders`: the value by the answers that showed a first, and by those that showed b first (each the preference for a; NaN where unknown or not asked).
    """

    value: float
    reason: str | None = None
    orders: tuple[float, float] = (math.nan, math.nan)
    rationales: tuple[str | None, str | None] = (None, None)
    usage: Usage = Usage()

    @property
    def winner(self) -> Literal["a", "b"] | None:
        """None for a draw or an undecided comparison."""
        return "a" if self.value > 0.5 else "b" if self.value < 0.5 else None

    @property
    def consistent(self) -> bool | None:
        """Do both orders prefer the same solution? None where either is unknown."""
        first, second = self.orders
        return None if math.isnan(first) or math.isnan(second) else (first - 0.5) * (second - 0.5) > 0.0


class PairwiseJudge:
    """P(a better than b), the mean of both orders, each the reduced vote of k answers; a judge that always prefers what it sees first gives 0.5.

    `orders` "given" asks only with a first, at half the cost and with the judge's bias for a position. A comparison with an order that could not be read is
    undecided. The prompt's system line, if any, should be the policy's; where it is not, it opens the prompt.
    """

    def __init__(
        self,
        policy: Policy,
        prompt: str = "rm-r1",
        *,
        k: int = 1,
        reduce: Reduce = "mean",
        read: Read = "probability",
        orders: Orders = "both",
        sampling: Sampling = GREEDY,
    ) -> None:
        check_choice("PairwiseJudge", "prompt", prompt, tuple(PAIR_PROMPTS))
        check_choice("PairwiseJudge", "orders", orders, ("both", "given"))
        check_choice("PairwiseJudge", "reduce", reduce, ("mean", "majority", "min"))
        self.policy, self.orders = policy, orders
        self.reader = _PairReader(PAIR_PROMPTS[prompt])
        self.jury = Jury(policy, sampling, k=k, reduce=reduce, read=read)

    @cached_property
    def fingerprint(self) -> str:
        """Names the policy, the prompt, k, how answers are read and reduced, the orders and the sampling."""
        return "judge:pairwise:" + content_hash(*map(str, vars(self.reader.prompt).values()), self.orders, canonical_json(self.jury.describe()))

    async def compare(self, problem: Problem, a: Trajectory, b: Trajectory) -> Comparison:
        """How far `a` is preferred to `b` as a solution of `problem`."""
        shown = [(a, b), (b, a)] if self.orders == "both" else [(a, b)]
        questions = [self.reader.question(problem, first, second) for first, second in shown]
        with metered_as_reward() as ledger:
            heard = await asyncio.gather(*(self.jury.hear(self.reader, question, images=problem.images) for question in questions))
        votes = [hearing.votes["first"] for hearing in heard]
        values = (votes[0].value, 1.0 - votes[1].value if len(votes) > 1 else math.nan)
        texts = tuple(hearing.rationales.get(0) for hearing in heard)
        unknown = next((index for index, vote in enumerate(votes) if not vote.known), None)
        reason = None if unknown is None else f"with solution {'ab'[unknown]} shown first: {votes[unknown].reason}"
        value = math.nan if reason else (values[0] + values[1]) / 2.0 if len(votes) > 1 else values[0]
        return Comparison(value, reason, values, (texts[0], texts[1] if len(texts) > 1 else None), ledger.usage.as_reward())

    async def best(self, problem: Problem, candidates: Sequence[Trajectory]) -> Knockout:
        """The candidate that wins a knockout (see `ranking.knockout`)."""

        async def prefer(i: int, j: int) -> float:
            return (await self.compare(problem, candidates[i], candidates[j])).value

        return await knockout(len(candidates), prefer)


class _PairReader(Reader):
    """The slot "first": 1 when the solution shown first is better."""

    name = "pairwise"

    def __init__(self, prompt: PairPrompt) -> None:
        self.prompt = prompt

    @property
    def system(self) -> str:
        return self.prompt.system

    def question(self, problem: Problem, first: Trajectory, second: Trajectory) -> Question:
        text = self.prompt.template.format(question=_FRAME.escape(problem.prompt), answer_a=_solution(first), answer_b=_solution(second))
        return Question(prompt=text, slots=("first",), steps=(0,))

    def read(self, question: Question, text: str) -> Reading:  # noqa: ARG002
        """The last [[A]] or [[B]], inside <answer> tags where the prompt asks for them."""
        found = None
        for match in _VERDICT.finditer(text):
            if not self.prompt.tagged or (text[: match.start()].endswith("<answer>") and text.startswith("</answer>", match.end())):
                found = match
        if found is None:
            return Reading()
        return Reading({"first": Mark(float(found.group(1) == "A"), found.start(1), found.end(), ("A", "B"))})

    def forcing(self, question: Question) -> Forcing:  # noqa: ARG002
        """The final verdict begun for the judge."""
        return Forcing(text="\n\n<answer>[[" if self.prompt.tagged else "\n\n[[", slots=("first",), words=("A", "B"))


def _solution(trajectory: Trajectory) -> str:
    """The solution's text as written, with what an environment answered, escaped."""
    return _FRAME.escape("".join(plain(step) + step.separator for step in trajectory.steps))


def preference_matrix(n: int, comparisons: Mapping[tuple[int, int], Comparison | Vote]) -> list[list[float]]:
    """P[i][j] = how far i is preferred to j from comparisons of pairs; P[j][i] = 1 - P[i][j] where only one was made, NaN where none was. For
    `ranking.borda`."""
    matrix = [[math.nan] * n for _ in range(n)]
    for (i, j), comparison in comparisons.items():
        matrix[i][j] = comparison.value
        if (j, i) not in comparisons:
            matrix[j][i] = 1.0 - comparison.value
    return matrix
