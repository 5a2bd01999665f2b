"""ScriptedSolver: a stochastic solver of grade-school problems whose value, step values and advantages are exactly known."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import cached_property

from stepward.core.errors import InputError
from stepward.core.protocols import DEFAULT_SAMPLING
from stepward.core.record import canonical_json, content_hash
from stepward.core.sampling import Sampling, Until
from stepward.core.step import Step
from stepward.core.trajectory import Trajectory
from stepward.core.usage import Usage, charge
from stepward.engine.noise import uniforms
from stepward.environments.grade_school.corruption import Writer
from stepward.environments.grade_school.expressions import show
from stepward.environments.grade_school.judgement import ErrorType
from stepward.environments.grade_school.lexicon import WORD, words
from stepward.environments.grade_school.oracle import Oracle, State, oracle_of
from stepward.policies.scripted.rates import ErrorRates
from stepward.policies.scripted.values import Stated, Values

SEPARATOR = "\n"
_KEPT_PROBLEMS = 4096
_KEPT_STATES = 100_000
_KEPT_STEPS = 200  # per problem


class Move(StrEnum):
    """What the solver does in a step; errors carry the names of their `ErrorType`."""

    DERIVE = "derive"  # the next quantity, from the stated values
    ANSWER = "answer"  # the stated value of the asked quantity
    LUCKY_ANSWER = "lucky_answer"  # the right answer against what was stated
    REPAIR = "repair"
    REDUNDANT = "redundant"
    ARITHMETIC_SLIP = "arithmetic_slip"
    WRONG_OPERAND = "wrong_operand"
    WRONG_OPERATION = "wrong_operation"
    SKIPPED_DEPENDENCY = "skipped_dependency"
    INVENTED_FACT = "invented_fact"
    PREMATURE_ANSWER = "premature_answer"
    LUCKY_PREMATURE_ANSWER = "lucky_premature_answer"
    CIRCULAR = "circular"


Law = list[tuple[Move, float]]

_MISSTATING = (Move.ARITHMETIC_SLIP, Move.WRONG_OPERAND, Move.WRONG_OPERATION, Move.INVENTED_FACT, Move.CIRCULAR)
_ENDING = frozenset({Move.ANSWER, Move.LUCKY_ANSWER, Move.PREMATURE_ANSWER, Move.LUCKY_PREMATURE_ANSWER})


@dataclass(frozen=True)
class _Desk:
    """What the solver keeps about one problem."""

    oracle: Oracle
    writer: Writer
    values: Values
    prompt_words: int
    laws: dict[tuple[Stated, bool], Law] = field(default_factory=dict)
    steps: dict[str, Step] = field(default_factory=dict)

    def stated(self, state: State) -> Stated:
        return tuple([state.values.get(index) for index in self.oracle.world.plan])

    def step(self, text: str, separator: str = SEPARATOR) -> Step:
        """A step with its number of words; those of right steps are kept."""
        kept = self.steps.get(text)
        if kept is None:
            kept = Step(text, separator, n_tokens=len(words(text)) + bool(separator))
            if len(self.steps) < _KEPT_STEPS:
                self.steps[text] = kept
        return kept


@dataclass(frozen=True, kw_only=True)
class ScriptedSolver:
    """Solves grade-school problems step by step, erring, noticing and repairing at settable rates.

    The process. The solver follows the gold plan: the quantities that the answer needs, parents first, then the answer. A planned quantity that
    was stated with a value other than the world's is *wrong*.

    - While nothing is wrong, a step repeats an earlier step with chance `rates.redundant` (not twice in a row); else it errs with the chance of
      each type; else it derives the next quantity rightly, or, when all are stated, gives the answer. Misstating errors (arithmetic slip, wrong
      operand, wrong operation, invented fact, circular) state the next quantity wrongly; where the problem's numbers allow no wrong operand,
      wrong operation or invented fact, an arithmetic slip takes its place. A skipped dependency states the first quantity that cannot be derived
      yet, wrongly. A premature answer ends the solution with a wrong number, or, with chance `lucky`, with the right one.
    - While something is wrong, a further error, at the same total chance, is always a premature answer. Otherwise the solver notices with
      chance `notice` per step: it repairs the first wrong quantity whose parents are stated and right ("Correction: ..."), and then, step by step
      without fail, every further one that is repairable. Otherwise it goes on, deriving the next quantity from what is stated, and finally
      answers with the stated value of the asked quantity; if that is wrong it still gives the right answer with chance `lucky`.

    Every prefix in the step style has a state, read by the oracle: it need not be this solver's. `value`, `q`, `advantage` and `step_law`
    are exact, with no limit on steps; a `Sampling` whose limits cut solutions off makes truncated trajectories on top. Temperature, top-p and
    top-k belong to token models: the rates alone set the law. A token is a word (see `grade_school.words`) or a step separator.
    """

    rates: ErrorRates = ErrorRates()  # noqa: RUF009 (frozen)
    notice: float = 0.15
    lucky: float = 0.05
    _desks: dict[str, _Desk] = field(default_factory=dict, init=False, repr=False, compare=False)
    _states: dict[str, tuple[Oracle, State]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("notice", "lucky"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"ScriptedSolver.{name} must lie in [0, 1], got {getattr(self, name)!r}")

    @cached_property
    def fingerprint(self) -> str:
        """Names the process and all its parameters."""
        settings = canonical_json([asdict(self.rates), self.notice, self.lucky])
        return f"scripted:grade-school/1:{content_hash(settings)[:16]}"

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

    def value(self, prefix: Trajectory) -> float:
        """P(correct final answer | prefix) under this solver; the outcome itself for a finished prefix, NaN for one cut off without an answer."""
        desk, state = self._desk(prefix), self._state(prefix)
        if state.answered or prefix.ended:
            if state.answer is not None:
                return float(state.answer == desk.oracle.world.answer)
            return float("nan") if prefix.truncated else 0.0
        return desk.values.value(state)

    def q(self, prefix: Trajectory, step: Step | str) -> float:
        """The value of a step: V(prefix + step)."""
        return self.value(prefix.extend(step))

    def advantage(self, prefix: Trajectory, step: Step | str) -> float:
        """V(prefix + step) - V(prefix)."""
        return self.q(prefix, step) - self.value(prefix)

    def step_law(self, prefix: Trajectory) -> dict[Move, float]:
        """The exact chance of every kind of next step; only possible kinds are listed.

        Raises: InputError for a prefix that has ended or states its final answer.
        """
        desk, state = self._open(prefix)
        law: dict[Move, float] = {}
        if state.answered:
            raise InputError("the prefix states its final answer: no step follows; mark it finished, or go back with prefix(k)")
        for move, chance in self._law(desk, state):
            kind = move if move not in _ERRORS or desk.writer.corrupt(state, _ERRORS[move], 0.0) is not None else Move.ARITHMETIC_SLIP
            if chance > 0.0:
                law[kind] = law.get(kind, 0.0) + chance
        return law

    def step(self, prefix: Trajectory, move: Move, *, draw: float = 0.0) -> Step:
        """A step of this kind as the solver would write it; `draw` in [0, 1) chooses among its texts.

        Raises: InputError when the kind is not possible here.
        """
        law = self.step_law(prefix)
        if move not in law:
            raise InputError(f"move {move!r} is not possible after this prefix; possible: {', '.join(law)}")
        desk, state = self._open(prefix)
        return self._write(desk, state, move, draw)[0]

    def _open(self, prefix: Trajectory) -> tuple[_Desk, State]:
        if prefix.ended:
            raise InputError("cannot continue a trajectory that has ended; use prefix(k) to go back to an open one")
        desk, state = self._desk(prefix), self._state(prefix)
        return desk, state

    def _desk(self, prefix: Trajectory) -> _Desk:
        problem = prefix.problem
        oracle = oracle_of(problem)
        desk = self._desks.get(problem.key)
        if desk is None or desk.oracle is not oracle:
            if len(self._desks) >= _KEPT_PROBLEMS:
                self._desks.clear()
            desk = _Desk(oracle, Writer(oracle), Values(oracle, self.rates, self.notice, self.lucky), len(words(problem.prompt)))
            self._desks[problem.key] = desk
        return desk

    def _state(self, prefix: Trajectory) -> State:
        oracle = oracle_of(prefix.problem)
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

    def _keep(self, prefix: Trajectory, oracle: Oracle, state: State) -> None:
        if len(self._states) >= _KEPT_STATES:
            self._states.clear()
        self._states[prefix.key] = (oracle, state)

    def _law(self, desk: _Desk, state: State) -> Law:
        """Kinds of next step with their chances, in a fixed order; errors that the numbers do not allow still stand for themselves."""
        stated = desk.stated(state)
        wrong = desk.values.wrong(stated)
        if not wrong:
            return self._clean_law(desk, stated, state.repeated)
        repairable = desk.values.repairable(stated, wrong) is not None
        if repairable and state.corrected:
            return [(Move.REPAIR, 1.0)]
        hazard = sum(desk.values.hazards(stated))
        share = self.notice if repairable else 0.0
        law = [(Move.PREMATURE_ANSWER, hazard * (1.0 - self.lucky)), (Move.REPAIR, (1.0 - hazard) * share)]
        lucky, rest = hazard * self.lucky, (1.0 - hazard) * (1.0 - share)
        if None in stated:
            return [*law, (Move.LUCKY_PREMATURE_ANSWER, lucky), (Move.DERIVE, rest)]
        if state.values[desk.oracle.world.asked] == desk.oracle.world.answer:
            return [*law, (Move.ANSWER, rest + lucky)]
        return [*law, (Move.LUCKY_ANSWER, rest * self.lucky + lucky), (Move.ANSWER, rest * (1.0 - self.lucky))]

    def _clean_law(self, desk: _Desk, stated: Stated, repeated: bool) -> Law:
        kept = desk.laws.get((stated, repeated))
        if kept is not None:
            return kept
        rates = self.rates
        misstates, skips, answers = desk.values.hazards(stated)
        again = rates.redundant if desk.values.repeatable(stated) and not repeated else 0.0
        rest = 1.0 - again
        law = [(Move.REDUNDANT, again), (Move.PREMATURE_ANSWER, rest * answers * (1.0 - self.lucky))]
        right, lucky = rest * (1.0 - misstates - skips - answers), rest * answers * self.lucky
        if None not in stated:  # being lucky is then to give the answer
            law.append((Move.ANSWER, right + lucky))
        else:
            law.append((Move.LUCKY_PREMATURE_ANSWER, lucky))
            law += [(move, rest * getattr(rates, move.value)) for move in _MISSTATING]
            law += [(Move.SKIPPED_DEPENDENCY, rest * skips), (Move.DERIVE, right)]
        desk.laws[stated, repeated] = law
        return law

    def _write(self, desk: _Desk, state: State, move: Move, draw: float) -> tuple[Step, State]:
        """The step of a move, and the state after it as the oracle would read it."""
        world, writer = desk.oracle.world, desk.writer
        if move in _ENDING:
            lucky = move in (Move.LUCKY_ANSWER, Move.LUCKY_PREMATURE_ANSWER)
            if move is Move.PREMATURE_ANSWER:
                made = writer.corrupt(state, ErrorType.PREMATURE_ANSWER, draw)
                assert made is not None
                text = made[0]
            else:
                text = f"The answer is {show(world.answer if lucky else state.values[world.asked])}."
            return desk.step(text, ""), replace(state, answered=True)
        values = dict(state.values)
        if move is Move.DERIVE:
            index = writer.next(state)
            assert index is not None
            text, values[index] = writer.derive(state, index)
        elif move is Move.REPAIR:
            stated = desk.stated(state)
            place = desk.values.repairable(stated, desk.values.wrong(stated))
            assert place is not None
            text, values[world.plan[place]] = writer.repair(world.plan[place]), world.quantities[world.plan[place]].value
        else:
            made = writer.corrupt(state, _ERRORS[move], draw) or writer.corrupt(state, ErrorType.ARITHMETIC_SLIP, draw)
            assert made is not None
            text, index, value = made
            assert index is not None
            assert value is not None
            values[index] = value
        after = State(values, state.answer, False, move is Move.REPAIR, move is Move.REDUNDANT)
        return desk.step(text), after

    def _continue(self, desk: _Desk, state: State, prefix: Trajectory, n_words: int, longest: int, sampling: Sampling, draw: int) -> Trajectory:
        steps: list[Step] = []
        if len(prefix) >= sampling.max_steps or n_words >= sampling.max_tokens:
            return replace(prefix, truncated=True)
        for position in range(longest):
            choose, vary = uniforms(sampling.seed, prefix.key, draw, position, 2).tolist()
            move = _pick(self._law(desk, state), choose)
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


_ERRORS = {move: ErrorType(move.value) for move in Move if move.value in set(ErrorType)}


def _pick(law: Law, choose: float) -> Move:
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
