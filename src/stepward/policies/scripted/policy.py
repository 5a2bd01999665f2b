"""ScriptedPolicy: what stochastic solvers with exact values have in common. What they do in a step, and what that is worth, is theirs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

from stepward.core.errors import InputError
from stepward.core.price import room
from stepward.core.problem import Problem
from stepward.core.protocols import DEFAULT_SAMPLING
from stepward.core.sampling import Sampling, Until
from stepward.core.step import Step
from stepward.core.trajectory import Trajectory
from stepward.core.usage import Usage, charge
from stepward.engine.noise import uniforms
from stepward.environments.grade_school.lexicon import WORD, words

SEPARATOR = "\n"
_KEPT_PROBLEMS = 4096
_KEPT_STATES = 100_000
_KEPT_STEPS = 200  # per problem


class Stated(Protocol):
    """What a prefix has stated, as its environment's oracle reads it."""

    @property
    def answer(self) -> Any: ...

    @property
    def answered(self) -> bool: ...


S = TypeVar("S", bound=Stated)
M = TypeVar("M")
D = TypeVar("D", bound="Desk[Any]")


class Reader(Protocol[S]):
    """An oracle: the state that steps lead to, and the world that has the answer."""

    @property
    def world(self) -> Any: ...

    @property
    def start(self) -> S: ...

    def read(self, texts: Iterable[str], state: S | None = None) -> S: ...


@dataclass(frozen=True)
class Desk(Generic[S]):
    """What a solver keeps about one problem."""

    oracle: Reader[S]
    prompt_words: int
    steps: dict[str, Step] = field(default_factory=dict, init=False)

    def step(self, text: str, separator: str = SEPARATOR) -> Step:
        """A step with its number of words; the first ones are kept."""
        kept = self.steps.get(text)
        if kept is None:
            kept = Step(text, separator, n_tokens=len(words(text)) + bool(separator))
            if len(self.steps) < _KEPT_STEPS:
                self.steps[text] = kept
        return kept


@dataclass(frozen=True, kw_only=True)
class ScriptedPolicy(ABC, Generic[S, M, D]):
    """A solver that draws a kind of step from a known law, and then one of its texts, of which all are worth the same.

    A token is a word (see `grade_school.words`) or a step separator. Temperature, top-p and top-k belong to token models: they change nothing here.
    """

    _desks: dict[str, D] = field(default_factory=dict, init=False, repr=False, compare=False)
    _states: dict[str, tuple[Reader[S], S]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Names the process and all its parameters."""

    @abstractmethod
    def _oracle(self, problem: Problem) -> Reader[S]: ...

    @abstractmethod
    def _new_desk(self, problem: Problem) -> D: ...

    @abstractmethod
    def _moves(self, desk: D, state: S) -> Sequence[tuple[M, float]]:
        """Kinds of next step with their chances, in a fixed order."""

    @abstractmethod
    def _write(self, desk: D, state: S, move: M, draw: float) -> tuple[Step, S]:
        """The step of a move, and the state after it as the oracle would read it."""

    @abstractmethod
    def _value(self, desk: D, state: S) -> float:
        """V of an unfinished prefix in this state."""

    async def sample(
        self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        """`n` continuations by one step or to the end; number i uses noise draw + i.

        Step j of a continuation depends on (sampling.seed, prefix key, draw + i, j) only. END and repeated STEP requests draw from the same law,
        not the same numbers. Charged once a request: words written, and words of the prompt and prefix read.

        A prefix whose last step states the final answer has nothing left to write: it comes back finished, for no tokens.

        Raises: InputError for a prefix that has ended, and for a problem of another environment.
        """
        desk, state = self._open(prefix)
        if state.answered:
            return [replace(prefix, finished=True)] * n
        n_before = sum(_n_tokens(step) for step in prefix.steps)
        longest = 1 if until is Until.STEP else sampling.max_steps
        made = [self._continue(desk, state, prefix, n_before, longest, sampling, draw + index) for index in range(n)]
        written = sum(step.n_tokens or 0 for trajectory in made for step in trajectory.steps[len(prefix) :])
        charge(Usage(policy_tokens=written, policy_prefill=desk.prompt_words + n_before, calls=1))
        return made

    def price(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Usage:
        """The most that `sample` charges: all the words that the limits leave room for."""
        del draw
        n_before = sum(_n_tokens(step) for step in prefix.steps)
        written = n * room(prefix, n_before, until=until, sampling=sampling)
        return Usage(policy_tokens=written, policy_prefill=len(words(prefix.problem.prompt)) + n_before, calls=1)

    def value(self, prefix: Trajectory) -> float:
        """P(correct final answer | prefix) under this solver; the outcome itself for a finished prefix, NaN for one cut off without an answer."""
        desk, state = self._desk(prefix), self._state(prefix)
        if state.answered or prefix.ended:
            if state.answer is not None:
                return float(state.answer == desk.oracle.world.answer)
            return float("nan") if prefix.truncated else 0.0
        return self._value(desk, state)

    def q(self, prefix: Trajectory, step: Step | str) -> float:
        """The value of a step: V(prefix + step)."""
        return self.value(prefix.extend(step))

    def advantage(self, prefix: Trajectory, step: Step | str) -> float:
        """V(prefix + step) - V(prefix)."""
        return self.q(prefix, step) - self.value(prefix)

    def step_law(self, prefix: Trajectory) -> dict[M, float]:
        """The exact chance of every kind of next step; only possible kinds are listed.

        Raises: InputError for a prefix that has ended or states its final answer.
        """
        desk, state = self._open(prefix)
        if state.answered:
            raise InputError("the prefix states its final answer: no step follows; mark it finished, or go back with prefix(k)")
        law: dict[M, float] = {}
        for move, chance in self._moves(desk, state):
            kind = self._as_written(desk, state, move)
            if chance > 0.0:
                law[kind] = law.get(kind, 0.0) + chance
        return law

    def step(self, prefix: Trajectory, move: M, *, draw: float = 0.0) -> Step:
        """A step of this kind as the solver would write it; `draw` in [0, 1) chooses among its texts.

        Raises: InputError when the kind is not possible here.
        """
        law = self.step_law(prefix)
        if move not in law:
            raise InputError(f"move {move!r} is not possible after this prefix; possible: {', '.join(map(str, law))}")
        desk, state = self._open(prefix)
        return self._write(desk, state, move, draw)[0]

    def _as_written(self, desk: D, state: S, move: M) -> M:
        """The kind of step that a move comes out as, where the problem does not allow it as it is."""
        del desk, state
        return move

    def _open(self, prefix: Trajectory) -> tuple[D, S]:
        if prefix.ended:
            raise InputError("cannot continue a trajectory that has ended; use prefix(k) to go back to an open one")
        return self._desk(prefix), self._state(prefix)

    def _desk(self, prefix: Trajectory) -> D:
        problem = prefix.problem
        desk = self._desks.get(problem.key)
        if desk is None or desk.oracle is not self._oracle(problem):
            if len(self._desks) >= _KEPT_PROBLEMS:
                self._desks.clear()
            desk = self._desks[problem.key] = self._new_desk(problem)
        return desk

    def _state(self, prefix: Trajectory) -> S:
        oracle = self._oracle(prefix.problem)
        kept = self._states.get(prefix.key)
        if kept is not None and kept[0] is oracle:
            return kept[1]
        state, start = oracle.start, 0
        for k in range(len(prefix) - 1, 0, -1):  # the longest prefix that was read before
            kept = self._states.get(prefix.keys[k])
            if kept is not None and kept[0] is oracle:
                state, start = kept[1], k
                break
        state = oracle.read((step.text for step in prefix.steps[start:]), state)
        self._keep(prefix, oracle, state)
        return state

    def _keep(self, prefix: Trajectory, oracle: Reader[S], state: S) -> None:
        if len(self._states) >= _KEPT_STATES:
            self._states.clear()
        self._states[prefix.key] = (oracle, state)

    def _continue(self, desk: D, state: S, prefix: Trajectory, n_words: int, longest: int, sampling: Sampling, draw: int) -> Trajectory:
        steps: list[Step] = []
        if len(prefix) >= sampling.max_steps or n_words >= sampling.max_tokens:
            return replace(prefix, truncated=True)
        for position in range(longest):
            choose, vary = uniforms(sampling.seed, prefix.key, draw, position, 2).tolist()
            move = _pick(self._moves(desk, state), choose)
            step, state = self._write(desk, state, move, vary)
            allowed = min(sampling.max_step_tokens, sampling.max_tokens - n_words)
            cut = (step.n_tokens or 0) > allowed
            steps.append(_cut(step, allowed) if cut else step)
            n_words += steps[-1].n_tokens or 0
            finished = state.answered and not cut
            full = not finished and (cut or len(prefix) + len(steps) >= sampling.max_steps or n_words >= sampling.max_tokens)
            if finished or full:
                return Trajectory(prefix.problem, (*prefix.steps, *steps), finished=finished, truncated=full)
        if len(steps) == 1:
            longer = prefix.extend(steps[0])
            self._keep(longer, desk.oracle, state)
            return longer
        return Trajectory(prefix.problem, (*prefix.steps, *steps))


def check_chances(owner: str, chances: Mapping[str, float]) -> None:
    """Raises: InputError for a chance outside [0, 1]."""
    for name, chance in chances.items():
        if not 0.0 <= chance <= 1.0:
            raise InputError(f"{owner}.{name} must lie in [0, 1], got {chance!r}")


def _pick(law: Sequence[tuple[M, float]], choose: float) -> M:
    for move, chance in law:
        choose -= chance
        if choose < 0.0:
            return move
    return next(move for move, chance in reversed(law) if chance > 0.0)  # rounding at the very end


def _n_tokens(step: Step) -> int:
    return step.n_tokens if step.n_tokens is not None else len(words(step.text)) + bool(step.separator)


def _cut(step: Step, allowed: int) -> Step:
    """The first `allowed` words of a step."""
    ends = [match.end() for match in WORD.finditer(step.text)]
    kept = min(allowed, len(ends))
    return Step(step.text[: ends[kept - 1]], n_tokens=kept)
