"""AnswerGrader: is a stated answer equal to the reference answer? Safe to ask about hostile text, from any thread or event loop."""

from __future__ import annotations

from fractions import Fraction
from types import TracebackType

from stepward.core.errors import InputError
from stepward.core.outcome import Outcome
from stepward.engine.workers import FAILED, Limits, Reply, WorkerPool
from stepward.environments.answers import bare_answer, canonical_answer, plain_number, spell_number

_TOLERANCE = Fraction(1, 100_000)  # math-verify compares decimals at six places; nearer pairs are its to decide


class AnswerGrader:
    r"""Grades answers with math-verify in `workers` processes that are killed when an answer outlives `time_limit_s`.

    A right answer has value 1, a wrong one 0. Unscored, each with its reason: over the time or memory limit, a crashed worker (after one
    more try), nested too deeply, longer than `max_chars`, a reference that cannot be read. `time_limit_s` is processor time, so that the load of the
    machine decides no grade; on the clock an answer may take `patience_s(time_limit_s)`, plus starting a worker (once) and waiting for a free one.

    What counts as equal: equal values and expressions (`2\sqrt{3}` and `\sqrt{12}`, 1/2 and 0.5, sets in any order); decimals at six places
    (1/3 and 0.333333, not 0.333), and to one part in a thousand below 0.001; a percentage and its fraction or its bare number (50% for 0.5 and for 50);
    unit words after a number do not count. Where the reference has no equals sign, of an equation chain the last side is graded (`48/2 = 24` is 24).

    Plain numbers and equal spellings are decided here in microseconds; no process is started before something else is asked.
    """

    def __init__(
        self,
        *,
        workers: int = 2,
        time_limit_s: float = 3.0,
        memory_limit_mb: int = 1024,
        max_chars: int = 2000,
        recycle_after: int = 1000,
        startup_limit_s: float = 300.0,
    ) -> None:
        if max_chars < 1:
            raise InputError(f"AnswerGrader.max_chars must be at least 1, got {max_chars!r}")
        self._max_chars = max_chars
        self._limits = Limits(time_limit_s=time_limit_s, memory_limit_mb=memory_limit_mb, recycle_after=recycle_after, startup_limit_s=startup_limit_s)
        self._pool = WorkerPool("stepward.environments.grader.verdict:answer", workers=workers, limits=self._limits, work="grading")

    @property
    def fingerprint(self) -> str:
        """What a grade depends on."""
        return f"math-verify(time_limit_s={self._limits.time_limit_s:g},memory_limit_mb={self._limits.memory_limit_mb},max_chars={self._max_chars})"

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the workers that are alive."""
        return self._pool.pids

    async def grade(self, gold: str, answer: str) -> Outcome:
        """The outcome of `answer` against the reference `gold`, without blocking the event loop."""
        outcome = self._at_once(gold, answer)
        if outcome is not None:
            return outcome
        return _outcome(answer, await self._pool.call({"gold": gold, "answer": answer}))

    def grade_sync(self, gold: str, answer: str) -> Outcome:
        """The same for threads; blocks for as long as the grading and the queue before it take."""
        outcome = self._at_once(gold, answer)
        if outcome is not None:
            return outcome
        return _outcome(answer, self._pool.submit({"gold": gold, "answer": answer}).result())

    def close(self) -> None:
        """End every worker process; what still waits becomes unscored. Also happens at garbage collection and at interpreter exit."""
        self._pool.close()

    def __enter__(self) -> AnswerGrader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _at_once(self, gold: str, answer: str) -> Outcome | None:
        if not isinstance(gold, str) or not isinstance(answer, str):
            raise InputError(f"answers are graded as text, got {gold!r} and {answer!r}; convert them with str()")
        if self._pool.closed:
            raise InputError("this AnswerGrader is closed; make a new one")
        for name, text in (("reference answer", gold), ("answer", answer)):
            if len(text) > self._max_chars:
                return Outcome.unscored(f"the {name} has {len(text)} characters, more than the {self._max_chars} that are graded")
        if not gold.strip():
            return Outcome.unscored("the reference answer is empty")
        return compare_plainly(gold, answer)


def compare_plainly(gold: str, answer: str) -> Outcome | None:
    """The outcome where rational arithmetic on short digit strings, or equal spelling, decides it; None where it takes a worker."""
    reference, stated = plain_number(gold), plain_number(answer)
    if reference is not None and stated is not None:
        if reference == stated:
            return Outcome(1.0, spell_number(stated))
        far = reference.denominator == stated.denominator == 1 or abs(reference - stated) > _TOLERANCE * max(Fraction(1), abs(reference))
        return Outcome(0.0, spell_number(stated)) if far else None
    spelled = canonical_answer(answer)
    if not spelled:
        return Outcome(0.0, None, "the answer is empty")
    if "=" in gold and "=" in answer and bare_answer(gold) != bare_answer(answer):
        return None  # x = 2 and y = 2 are spelled alike once the left side is off
    return Outcome(1.0, spelled) if spelled == canonical_answer(gold) else None


def _outcome(answer: str, reply: Reply) -> Outcome:
    spelled = canonical_answer(answer)
    if FAILED in reply or reply["verdict"] == "unscored":
        return Outcome.unscored(str(reply.get(FAILED) or reply["reason"]), answer=spelled)
    return Outcome(1.0 if reply["verdict"] == "right" else 0.0, spelled, reply.get("reason"))
