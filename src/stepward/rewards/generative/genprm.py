r"""GenPRM: a dialogue with one step a turn; the judge analyses the step, writes code that checks it, and gives a judgement. Code is run by others or not at
all.

Texts: GenPRM: Scaling Test-Time Compute of Process Reward Models via Generative Reasoning (2025), the authors' repository, src/prm_evaluation and README.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from stepward.core import (
    FAILURES,
    Granularity,
    InputError,
    Policy,
    Problem,
    Sampling,
    Scale,
    StepScores,
    Trajectory,
    canonical_json,
    content_hash,
    metered_as_reward,
)
from stepward.rewards.generative.asking import Answer, with_system
from stepward.rewards.generative.frame import Frame
from stepward.rewards.generative.jury import Jury, Read, joined, open_with
from stepward.rewards.generative.model import step_scores
from stepward.rewards.generative.odds import read_odds
from stepward.rewards.generative.parsing import word_marks
from stepward.rewards.generative.task import Slot, Vote, check_choice
from stepward.rewards.generative.turns import Turns, named_turns
from stepward.rewards.generative.votes import Ballot, Reduce, reduce_ballots

SYSTEM = "You are a math teacher. Your task is to review and critique the paragraphs in solution step by step."
SAMPLING = Sampling(temperature=0.6, top_p=0.95, top_k=20, max_tokens=2048)

_FIRST = "Question: {problem}\n\n{step}"
_ANALYZE = "<analyze>\nLet's analyze the Paragraph {number} step by step: "
_VERIFY = "<verify>\nLet's use python code to find any potential error:\n```python\n"
_OUTPUT = "<output>\n**Judgement**: $\\boxed"
_CODE_OUTPUT = "[Code Output]\n\n```\n{output}\n```\n"
_NOT_EXECUTED = "[not executed]"
_FENCE = "\n```\n"
_FORCED_TOKENS = 20
_LEAST_MASS = 0.01
_JUDGEMENT = re.compile(r"\s{0,4}\{?\s{0,4}(?:\\text\{)?(yes|no)(?!\w)", re.IGNORECASE)
_FRAME = Frame()
_OUTPUT_FRAME = Frame(("```",))


class CodeExecutor(Protocol):
    """Runs Python that a model wrote, in a sandbox."""

    @property
    def fingerprint(self) -> str: ...

    async def run(self, code: str, *, before: Sequence[str] = ()) -> str:
        """What `code` prints, or its error, in a fresh namespace in which the blocks `before` have run. Raises: RequestFailed when it could not be run."""
        ...


@dataclass(frozen=True)
class _Critique:
    """One draw on one step: the dialogue up to its end (open), the words of this turn, and the verdict (None: not read)."""

    dialogue: Trajectory
    text: str
    ballot: Ballot | None


class GenPRM:
    r"""score_t = p(Yes) / (p(Yes) + p(No)) at the judgement on step t, averaged over k critiques; a step's score does not depend on later steps.

    Each critique: `<analyze>`, then `<verify>` with Python, then `<output> \boxed{Yes|No}`, up to `rounds` blocks of code. With an `executor`
    (`rewards.code.SandboxedPython` runs the blocks in the sandbox) their output is shown to the judge as in the authors' code; without one the first block
    is followed by "[not executed]" and the judgement is asked for at once, so that no output is invented. Where the budget or the rounds end first, the
    judgement follows the analysis alone. The next step's turn follows the first critique that was read.

    `sampling.max_tokens` bounds the analysis and every block of code (the authors': analysis, and analysis and code together). `turns`: how turns are
    written, by default as the local policy's chat template does ("chatml", "llama3", "deepseek" or "plain" for servers). A judgement that cannot be read is
    asked for once more. The dialogue ends where a step has no critique at all: later steps are unscored.
    """

    granularity: Granularity = "step"
    scale: Scale = "probability"

    def __init__(
        self,
        policy: Policy,
        *,
        k: int = 1,
        reduce: Reduce = "mean",
        read: Read = "probability",
        executor: CodeExecutor | None = None,
        rounds: int = 3,
        turns: Turns | str | None = None,
        sampling: Sampling = SAMPLING,
    ) -> None:
        check_choice("GenPRM", "reduce", reduce, ("mean", "majority", "min"))
        if not isinstance(rounds, int) or rounds < 1:
            raise InputError(f"GenPRM rounds must be a whole number of at least 1, got {rounds!r}")
        if executor is not None and not callable(getattr(executor, "run", None)):
            raise InputError(f"GenPRM executor must be a CodeExecutor, which runs code in a sandbox, got {executor!r}; in text only 'sandbox' can be named")
        self.policy, self.executor, self.rounds = policy, executor, rounds
        self.turns = named_turns(turns, policy)
        self.jury = Jury(policy, sampling, k=k, reduce=reduce, read=read)

    @cached_property
    def fingerprint(self) -> str:
        """Names the policy, the texts, k, how answers are read and reduced, the executor and the sampling."""
        executor = "none" if self.executor is None else self.executor.fingerprint
        texts = (SYSTEM, _FIRST, _ANALYZE, _VERIFY, _OUTPUT, _CODE_OUTPUT, *self.turns)
        return "judge:genprm:" + content_hash(*texts, executor, str(self.rounds), canonical_json(self.jury.describe()))

    async def score(self, trajectory: Trajectory) -> StepScores:
        """One probability a step, shape [S]; NaN with the reason where there is no judgement."""
        votes: list[Vote] = []
        texts: dict[int, str] = {}
        source = {"model": self.fingerprint, "judge": "genprm", "policy": self.policy.fingerprint, "k": self.jury.k, "reduce": self.jury.reduce}
        with metered_as_reward() as ledger:
            dialogue: Trajectory | None = self._opening(trajectory)
            for index in range(len(trajectory)):
                if dialogue is None:
                    votes += [Vote(math.nan, f"the dialogue broke off at step {index - 1} (counted from 0): {votes[-1].reason}")] * (len(trajectory) - index)
                    break
                if index:
                    dialogue = open_with(dialogue, self.turns.user + _FRAME.step(trajectory.steps[index]) + self.turns.assistant)
                vote, texts[index], dialogue = await self._turn(dialogue, index)
                votes.append(vote)
        return step_scores(votes, texts, source=source, usage=ledger.usage, aspects={})

    def _opening(self, trajectory: Trajectory) -> Trajectory:
        first = _FRAME.step(trajectory.steps[0]) if trajectory.steps else ""
        prompt = _FIRST.format(problem=_FRAME.escape(trajectory.problem.prompt), step=first)
        return Trajectory(Problem(with_system(self.policy, SYSTEM, prompt), images=trajectory.problem.images))

    async def _turn(self, dialogue: Trajectory, index: int) -> tuple[Vote, str, Trajectory | None]:
        """The vote on a step, the critiques, and the dialogue with the first of them; None when there is none."""
        drawn = await asyncio.gather(*(self._twice(dialogue, index, draw) for draw in range(self.jury.k)))
        critiques = [critique for critique in drawn if isinstance(critique, _Critique)]
        ballots: list[dict[Slot, Ballot]] = [
            {
                index: Ballot(math.nan, critique)
                if isinstance(critique, str)
                else critique.ballot or Ballot(math.nan, "the judgement was neither Yes nor No, twice")
            }
            for critique in drawn
        ]
        vote = reduce_ballots(ballots, (index,), self.jury.reduce)[index]
        read = [critique for critique in critiques if critique.ballot is not None] or critiques
        text = joined([critique.text for critique in critiques]) if critiques else ""
        return vote, text, read[0].dialogue if read else None

    async def _twice(self, dialogue: Trajectory, index: int, draw: int) -> _Critique | str:
        """One draw's critique, drawn anew once where its judgement cannot be read; the reason where the policy or the executor failed."""
        try:
            critique = await self._critique(dialogue, index, draw)
            return critique if critique.ballot is not None else await self._critique(dialogue, index, self.jury.k + draw)
        except FAILURES as error:
            return f"{type(error).__name__}: {error}"

    async def _critique(self, dialogue: Trajectory, index: int, draw: int) -> _Critique:
        start, asker = len(dialogue.text), self.jury.asker
        at, stop = await asker.write_until(open_with(dialogue, _ANALYZE.format(number=index + 1)), ("</analyze>",), draw=draw)
        analysed = open_with(at, "\n" if stop else "</analyze>\n")
        at, blocks = open_with(analysed, _VERIFY), list[str]()
        begin = len(analysed.text)
        for _ in range(self.rounds):
            written = len(at.text)
            at, stop = await asker.write_until(at, (_FENCE, "</output>"), draw=draw)
            if stop == "</output>":
                marks = word_marks(at.text[written:], "Yes", "No")
                ballot = await self.jury.value(Answer(at, written), marks[-1]) if marks else None
                return _Critique(open_with(at, "\n"), at.text[start:] + "\n", ballot)
            if stop is None:
                return await self._judgement(analysed, start, draw)
            code = at.text[at.text.rfind("```python\n", begin) + len("```python\n") : -len(_FENCE)]
            if self.executor is None:
                return await self._judgement(open_with(at, _CODE_OUTPUT.format(output=_NOT_EXECUTED) + "</verify>\n"), start, draw)
            output = _OUTPUT_FRAME.escape(await self.executor.run(code, before=tuple(blocks)))
            blocks.append(code)
            begin = len(at.text)
            at = open_with(at, _CODE_OUTPUT.format(output=output))
        return await self._judgement(analysed, start, draw)

    async def _judgement(self, at: Trajectory, start: int, draw: int) -> _Critique:
        """The critique with its judgement forced: read from probabilities, or written by the judge in a few tokens."""
        asked = open_with(at, _OUTPUT)
        if self.jury.read == "probability":
            odds = await read_odds(self.policy, open_with(asked, "{"), ("Yes", "No"))
            if odds is not None:
                ballot = Ballot(odds.share, words=False) if odds.mass >= _LEAST_MASS else None
                return _judged(asked, start, None if ballot is None else odds.share >= 0.5, ballot)
        said = (await self.jury.asker.go_on(asked, 0, limit=_FORCED_TOKENS, draw=draw)).trajectory.text[len(asked.text) :]
        match = _JUDGEMENT.match(said)
        good = None if match is None else match.group(1).lower() == "yes"
        return _judged(asked, start, good, None if good is None else Ballot(float(good)))


def _judged(asked: Trajectory, start: int, good: bool | None, ballot: Ballot | None) -> _Critique:
    """The critique closed by the judgement, in the form in which the judge writes it."""
    closed = asked if good is None else open_with(asked, "{" + ("Yes" if good else "No") + "}$\n</output>\n")
    return _Critique(closed, closed.text[start:], ballot)
