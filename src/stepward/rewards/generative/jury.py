"""Jury: k draws of a judge on one question: asked, read, forced or asked again where a verdict is missing, and reduced to one vote a slot."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from stepward.core import FAILURES, InputError, Policy, Problem, Sampling, Trajectory
from stepward.rewards.generative import frame
from stepward.rewards.generative.asking import Answer, Asker, with_system
from stepward.rewards.generative.odds import read_odds, tells_odds
from stepward.rewards.generative.task import Forcing, Mark, Question, Reader, Reading, Slot, Vote, check_choice
from stepward.rewards.generative.votes import REDUCTIONS, Ballot, Reduce, reduce_ballots

Read = Literal["probability", "words"]
_VERSION = 1
_FORCED_TOKENS = 20  # as GenPRM's forced judgement
_LEAST_MASS = 0.01  # a forced verdict counts only where its two words have at least this probability together: else the judge was about to say something else
_JOIN = "\n\n[answer {number}]\n"


@dataclass(frozen=True)
class Hearing:
    """What came of one question: a vote a slot, and the judge's text a step (where it can be told which text is about which step)."""

    votes: Mapping[Slot, Vote]
    rationales: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Draw:
    ballots: Mapping[Slot, Ballot]
    texts: Mapping[int, str]
    cut_off: bool = False


class Jury:
    """`k` answers a question, reduced by `reduce`. `read` "probability": a verdict is p(good word) / (p(good) + p(bad)) at the place where the judge wrote
    it, where the policy tells probabilities (`odds.read_odds`), else 0 or 1 by the word; "words": always the word.

    An answer that lacks a verdict, or has a malformed one, is asked for once more, with noise of its own (draws k to 2k - 1). The second answer counts where it
    has all verdicts; else the first one does, with what only the second one has; what neither has is unscored with the reason. An answer cut off by its
    budget is first forced (`Reader.forcing`).
    """

    def __init__(self, policy: Policy, sampling: Sampling, *, k: int = 1, reduce: Reduce = "mean", read: Read = "probability") -> None:
        if k < 1:
            raise InputError(f"a judge needs k >= 1 answers a question, got {k!r}")
        check_choice("judge", "reduce", reduce, REDUCTIONS)
        check_choice("judge", "read", read, ("probability", "words"))
        self.policy, self.k, self.reduce = policy, k, reduce
        self.read: Read = "probability" if read == "probability" and tells_odds(policy) and reduce != "index" else "words"
        self.asker = Asker(policy, sampling)

    def describe(self) -> dict[str, Any]:
        """Everything that decides an answer but the task, JSON-compatible."""
        sampling = self.asker.sampling.to_record()
        settings = {"k": self.k, "reduce": self.reduce, "read": self.read, "sampling": sampling, "versions": [_VERSION, frame.VERSION]}
        return {"policy": self.policy.fingerprint, **settings}

    async def hear(self, task: Reader, question: Question, *, images: tuple[str, ...] = ()) -> Hearing:
        """The votes on one question; a failure of the policy (`FAILURES`) is the reason of all of them."""
        problem = Problem(with_system(self.policy, task.system, question.prompt), images=images)
        try:
            answers = await self.asker.ask(problem, question.lead, self.k)
        except FAILURES as error:
            return Hearing({slot: Vote(math.nan, f"{type(error).__name__}: {error}") for slot in (*question.slots, *question.extras)})
        draws = await asyncio.gather(*(self._draw(task, question, answer, index) for index, answer in enumerate(answers)))
        ballots = [draw.ballots for draw in draws]
        rationales = {step: joined([draw.texts.get(step, "") for draw in draws]) for step in question.steps}
        votes = reduce_ballots(ballots, question.slots, self.reduce)
        votes |= reduce_ballots(ballots, question.extras, "mean" if self.reduce == "index" else self.reduce)
        return Hearing(votes, {step: text for step, text in rationales.items() if text})

    async def value(self, answer: Answer, mark: Mark) -> Ballot:
        """A mark's verdict: the probability of its good word against its bad one, or the verdict as it is."""
        if self.read == "probability" and mark.words is not None:
            odds = await read_odds(self.policy, answer.upto(mark.start), mark.words)
            if odds is not None:
                return Ballot(odds.share, words=False)
        return Ballot(mark.value)

    async def _draw(self, task: Reader, question: Question, answer: Answer, index: int) -> _Draw:
        """One draw's verdicts on every slot, asked again once where one is missing."""
        first = await self._read(task, question, answer, index)
        missing = [slot for slot in question.slots if slot not in first.ballots]
        if not missing:
            return first
        try:
            [second_answer] = await self.asker.ask(answer.trajectory.problem, question.lead, 1, draw=self.k + index, again=True)
        except FAILURES as error:
            reason = f"the judge gave no verdict, and asking again failed: {type(error).__name__}: {error}"
            return _Draw({**first.ballots, **{slot: Ballot(math.nan, reason) for slot in missing}}, first.texts)
        second = await self._read(task, question, second_answer, self.k + index)
        if all(slot in second.ballots for slot in question.slots):
            return second
        cut = f"; the last answer was cut off after {self.asker.sampling.max_tokens} tokens" if second.cut_off else ""
        lost = Ballot(math.nan, f"the judge gave no verdict in two answers{cut}")
        found = {slot: ballot for slot, ballot in second.ballots.items() if not math.isnan(ballot.value)}
        filled = {slot: found.get(slot, lost) for slot in missing}
        texts = {step: "\n\n[asked again]\n".join(filter(None, (first.texts.get(step), second.texts.get(step)))) for step in {*first.texts, *second.texts}}
        return _Draw({**first.ballots, **filled}, texts)

    async def _read(self, task: Reader, question: Question, answer: Answer, index: int) -> _Draw:
        """The ballots of one answer, forced where that is due; missing slots are not among them."""
        answer = await self._think_again(task, answer, index)
        reading, cut_off = task.read(question, answer.text), answer.cut_off
        forced: dict[Slot, Ballot] = {}
        forcing = task.forcing(question)
        if forcing is not None and (forcing.always or cut_off):
            open_slots = [slot for slot in forcing.slots if slot not in reading.marks and slot not in reading.silent]
            if open_slots:
                answer, reading, forced = await self._force(task, question, answer, reading, forcing, open_slots, index)
        asked = (*question.slots, *question.extras)
        slots = [slot for slot in asked if slot in reading.marks and slot not in forced]
        values = await asyncio.gather(*(self.value(answer, reading.marks[slot]) for slot in slots))
        ballots: dict[Slot, Ballot] = {**forced, **dict(zip(slots, values, strict=True))}
        ballots |= {slot: Ballot(math.nan, reason) for slot, reason in reading.silent.items() if slot not in ballots and slot in asked}
        ballots |= {slot: Ballot(math.nan, "the judge did not say") for slot in question.extras if slot not in ballots}
        return _Draw(ballots, rationales(question, reading, answer.text), cut_off)

    async def _think_again(self, task: Reader, answer: Answer, index: int) -> Answer:
        """The answer after the task's further rounds, each of which goes on where the one before came to its close; as it is where a round fails."""
        begin = 0
        for trigger in task.triggers:
            ends = [at for at in (answer.text.find(stop, begin) for stop in task.stops) if at >= 0]
            prefix = open_with(answer.upto(min(ends, default=len(answer.text))), trigger)
            begin = len(prefix.text) - answer.lead
            try:
                longer, _ = await self.asker.write_until(prefix, task.stops, draw=index)
            except FAILURES:
                return answer
            answer = Answer(longer, answer.lead)
        return answer

    async def _force(
        self, task: Reader, question: Question, answer: Answer, reading: Reading, forcing: Forcing, slots: list[Slot], index: int
    ) -> tuple[Answer, Reading, dict[Slot, Ballot]]:
        """The answer with the forcing text and the verdict behind it: read from probabilities, or written by the judge in a few tokens."""
        written = answer.text.rstrip()
        ends_with_it = written.endswith(forcing.text.strip())
        prefix = answer.upto(len(written)) if ends_with_it else open_with(answer.upto(len(answer.text)), forcing.text)
        if self.read == "probability" and forcing.words is not None:
            odds = await read_odds(self.policy, prefix, forcing.words)
            if odds is not None and odds.mass >= _LEAST_MASS:
                said = open_with(prefix, forcing.words[0] if odds.share >= 0.5 else forcing.words[1])
                return Answer(said, answer.lead), reading, {slot: Ballot(odds.share, words=False) for slot in slots}
            if odds is not None:
                return answer, reading, {}
        try:
            longer = await self.asker.go_on(prefix, answer.lead, limit=_FORCED_TOKENS, draw=index)
        except FAILURES:
            return answer, reading, {}
        return longer, task.read(question, longer.text), {}


def rationales(question: Question, reading: Reading, text: str) -> dict[int, str]:
    """The judge's text by step: each step gets the words up to its mark; where one verdict speaks for all, the step that it finds wrong, else the last one,
    gets everything; where there is no verdict, the first step does."""
    marks = sorted(((mark.start, mark.end, step, mark) for step, mark in _by_step(reading)), key=lambda item: (item[0], item[2]))
    if not marks:
        return {question.steps[0]: text} if question.steps and text else {}
    if len({start for start, *_ in marks}) == 1:
        return {next((step for _, _, step, mark in marks if mark.value < 0.5), marks[-1][2]): text}
    found: dict[int, str] = {}
    begin = 0
    for number, (_, end, step, _) in enumerate(marks):
        stop = len(text) if number == len(marks) - 1 else max(begin, end)
        found[step] = found.get(step, "") + text[begin:stop]
        begin = stop
    return {step: text.strip() for step, text in found.items()}


def _by_step(reading: Reading) -> Iterator[tuple[int, Mark]]:
    for slot, mark in reading.marks.items():
        if isinstance(slot, int):
            yield slot, mark
        elif isinstance(slot, tuple):
            yield slot[0], mark


def joined(texts: list[str]) -> str:
    """The texts of several draws as one, numbered from 1 where there are several."""
    if len(texts) == 1:
        return texts[0]
    return "".join(_JOIN.format(number=number) + text for number, text in enumerate(texts, 1) if text).lstrip()


def open_with(prefix: Trajectory, text: str) -> Trajectory:
    """An open trajectory with `text` put behind it as a step of its own."""
    return prefix.extend(text) if text else prefix
