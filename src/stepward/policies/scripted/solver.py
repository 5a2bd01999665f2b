"""ScriptedSolver: a stochastic solver of grade-school problems whose value, step values and advantages are exactly known."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import cached_property

from stepward.core.problem import Problem
from stepward.core.record import canonical_json, content_hash
from stepward.core.step import Step
from stepward.environments.grade_school.corruption import Writer
from stepward.environments.grade_school.expressions import show
from stepward.environments.grade_school.judgement import ErrorType
from stepward.environments.grade_school.lexicon import words
from stepward.environments.grade_school.oracle import Oracle, State, oracle_of
from stepward.policies.scripted.policy import Desk, ScriptedPolicy, check_chances
from stepward.policies.scripted.rates import ErrorRates
from stepward.policies.scripted.values import Stated, Values


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
class _Desk(Desk[State]):
    """What the solver keeps about one problem."""

    judge: Oracle
    writer: Writer
    values: Values
    laws: dict[tuple[Stated, bool], Law] = field(default_factory=dict, init=False)

    def stated(self, state: State) -> Stated:
        return tuple([state.values.get(index) for index in self.judge.world.plan])


@dataclass(frozen=True, kw_only=True)
class ScriptedSolver(ScriptedPolicy[State, Move, _Desk]):
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
    are exact, with no limit on steps; a `Sampling` whose limits cut solutions off makes truncated trajectories on top.
    """

    rates: ErrorRates = ErrorRates()  # noqa: RUF009 (frozen)
    notice: float = 0.15
    lucky: float = 0.05

    def __post_init__(self) -> None:
        check_chances("ScriptedSolver", {"notice": self.notice, "lucky": self.lucky})

    @cached_property
    def fingerprint(self) -> str:
        """Names the process and all its parameters."""
        settings = canonical_json([asdict(self.rates), self.notice, self.lucky])
        return f"scripted:grade-school/1:{content_hash(settings)[:16]}"

    def _oracle(self, problem: Problem) -> Oracle:
        return oracle_of(problem)

    def _new_desk(self, problem: Problem) -> _Desk:
        oracle = oracle_of(problem)
        return _Desk(oracle, len(words(problem.prompt)), oracle, Writer(oracle), Values(oracle, self.rates, self.notice, self.lucky))

    def _value(self, desk: _Desk, state: State) -> float:
        return desk.values.value(state)

    def _as_written(self, desk: _Desk, state: State, move: Move) -> Move:
        """An error that the numbers do not allow comes out as an arithmetic slip."""
        return move if move not in _ERRORS or desk.writer.corrupt(state, _ERRORS[move], 0.0) is not None else Move.ARITHMETIC_SLIP

    def _moves(self, desk: _Desk, state: State) -> Law:
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
        if state.values[desk.judge.world.asked] == desk.judge.world.answer:
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
        world, writer = desk.judge.world, desk.writer
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


_ERRORS = {move: ErrorType(move.value) for move in Move if move.value in set(ErrorType)}
