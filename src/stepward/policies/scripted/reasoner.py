"""ScriptedReasoner: a stochastic solver of deduction problems whose value, step values and advantages are exactly known."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import cached_property

from stepward.core.problem import Problem
from stepward.core.record import canonical_json, content_hash
from stepward.core.step import Step
from stepward.environments.deduction.corruption import Writer
from stepward.environments.deduction.judgement import ErrorType
from stepward.environments.deduction.lexicon import words
from stepward.environments.deduction.oracle import Oracle, State, oracle_of, wrong_statements
from stepward.environments.deduction.world import verdict_text
from stepward.policies.scripted.policy import Desk, ScriptedPolicy, check_chances
from stepward.policies.scripted.rates import InferenceRates
from stepward.policies.scripted.reasoner_values import ReasonerValues, Standing


class Inference(StrEnum):
    """What the reasoner does in a step; errors carry the names of their `ErrorType`."""

    DERIVE = "derive"  # the next conclusion, from what was concluded
    ANSWER = "answer"  # the verdict that follows from what was concluded
    LUCKY_ANSWER = "lucky_answer"  # the right verdict against what was concluded
    REPAIR = "repair"
    IRRELEVANT = "irrelevant"
    INVALID_INFERENCE = "invalid_inference"
    MISSING_PREMISE = "missing_premise"
    WRONG_POLARITY = "wrong_polarity"
    CIRCULAR = "circular"
    PREMATURE_ANSWER = "premature_answer"  # the wrong verdict, whatever was concluded
    LUCKY_PREMATURE_ANSWER = "lucky_premature_answer"


Law = tuple[tuple[Inference, float], ...]

_MISLEADING = (Inference.INVALID_INFERENCE, Inference.MISSING_PREMISE, Inference.CIRCULAR)
_ERRORS = {move: ErrorType(move.value) for move in (*_MISLEADING, Inference.WRONG_POLARITY)}


@dataclass(frozen=True)
class _Desk(Desk[State]):
    """What the reasoner keeps about one problem."""

    judge: Oracle
    writer: Writer
    values: ReasonerValues
    laws: dict[tuple[Standing, bool, bool], Law] = field(default_factory=dict, init=False)
    standings: dict[tuple[object, ...], Standing] = field(default_factory=dict, init=False)

    def standing(self, state: State) -> Standing:
        key = tuple(state.concluded.items())
        kept = self.standings.get(key)
        if kept is None:
            kept = self.standings[key] = self.values.standing(state)
        return kept


@dataclass(frozen=True, kw_only=True)
class ScriptedReasoner(ScriptedPolicy[State, Inference, _Desk]):
    """Settles deduction questions step by step, erring, noticing and repairing at settable rates.

    The process. The reasoner follows the gold plan, then gives the verdict. A conclusion that stands and is not entailed by the problem is *wrong*.

    - While nothing is wrong, a step is irrelevant with chance `rates.irrelevant`, if the problem has a right derivation left that leads nowhere; else it
      errs with the chance of each type; else it takes the next derivation of the plan, or, when the question is settled, gives the verdict. An
      invalid inference, a missing premise and a circular step conclude a place of the shadow (see `World`) that is as far along, from which rules of the
      problem lead to the wrong verdict. A wrong polarity concludes the opposite of the next conclusion. Where no place of the shadow is open, wrong
      polarity takes the place of the other three. A premature answer ends the solution with the wrong verdict, or, with chance `lucky`, with the right one.
    - While something is wrong, a further error, at the same total chance, is always a premature answer. Otherwise the reasoner notices with chance
      `notice` per step: it takes back what was wrong first, and with it all that rests on that ("Correction: it does not follow that ..."), and then,
      step by step without fail, whatever else is wrong. Otherwise it goes on: along the shadow, by steps that follow from its wrong
      conclusion; or along the plan, where a denied premise gives a denied conclusion; and finally gives the verdict that it has concluded; if that is
      wrong it still gives the right one with chance `lucky`.

    Every prefix in the step style has a state, read by the oracle: it need not be this reasoner's. `value`, `q`, `advantage` and `step_law`
    are exact, with no limit on steps; a `Sampling` whose limits cut solutions off makes truncated trajectories on top.
    """

    rates: InferenceRates = InferenceRates()  # noqa: RUF009 (frozen)
    notice: float = 0.15
    lucky: float = 0.1

    def __post_init__(self) -> None:
        check_chances("ScriptedReasoner", {"notice": self.notice, "lucky": self.lucky})

    @cached_property
    def fingerprint(self) -> str:
        """Names the process and all its parameters."""
        settings = canonical_json([asdict(self.rates), self.notice, self.lucky])
        return f"scripted:deduction/1:{content_hash(settings)[:16]}"

    def _oracle(self, problem: Problem) -> Oracle:
        return oracle_of(problem)

    def _new_desk(self, problem: Problem) -> _Desk:
        oracle = oracle_of(problem)
        return _Desk(oracle, len(words(problem.prompt)), oracle, Writer(oracle), ReasonerValues(oracle, self.rates, self.notice, self.lucky))

    def _value(self, desk: _Desk, state: State) -> float:
        return desk.values.value(state)

    def _moves(self, desk: _Desk, state: State) -> Law:
        standing = desk.standing(state)
        strays = not standing.wrong and bool(desk.writer.irrelevant(state))
        key = (standing, strays, state.corrected)
        kept = desk.laws.get(key)
        if kept is None:
            law = self._wrong_law(desk, standing, state.corrected) if standing.wrong else self._right_law(desk, standing, strays)
            kept = desk.laws[key] = tuple((move, chance) for move, chance in law if chance > 0.0)
        return kept

    def _right_law(self, desk: _Desk, standing: Standing, strays: bool) -> list[tuple[Inference, float]]:
        reaches, denies, answers = desk.values.hazards(standing)
        away = self.rates.irrelevant if strays else 0.0
        rest = 1.0 - away
        law = [(Inference.IRRELEVANT, away), (Inference.PREMATURE_ANSWER, rest * answers * (1.0 - self.lucky))]
        right, lucky = rest * (1.0 - reaches - denies - answers), rest * answers * self.lucky
        if standing.settled:  # being lucky is then to give the verdict
            return [*law, (Inference.ANSWER, right + lucky)]
        law += [(move, rest * getattr(self.rates, move.value)) for move in _MISLEADING if reaches]
        return [*law, (Inference.WRONG_POLARITY, rest * denies), (Inference.LUCKY_PREMATURE_ANSWER, lucky), (Inference.DERIVE, right)]

    def _wrong_law(self, desk: _Desk, standing: Standing, correcting: bool) -> list[tuple[Inference, float]]:
        if correcting:
            return [(Inference.REPAIR, 1.0)]
        hazard = sum(desk.values.hazards(standing))
        law = [(Inference.PREMATURE_ANSWER, hazard * (1.0 - self.lucky)), (Inference.REPAIR, (1.0 - hazard) * self.notice)]
        lucky, rest = hazard * self.lucky, (1.0 - hazard) * (1.0 - self.notice)
        if standing.settled is None:
            return [*law, (Inference.LUCKY_PREMATURE_ANSWER, lucky), (Inference.DERIVE, rest)]
        if standing.settled:
            return [*law, (Inference.ANSWER, rest + lucky)]
        return [*law, (Inference.LUCKY_ANSWER, rest * self.lucky + lucky), (Inference.ANSWER, rest * (1.0 - self.lucky))]

    def _write(self, desk: _Desk, state: State, move: Inference, draw: float) -> tuple[Step, State]:
        world, writer = desk.judge.world, desk.writer
        if move in (Inference.ANSWER, Inference.LUCKY_ANSWER, Inference.PREMATURE_ANSWER, Inference.LUCKY_PREMATURE_ANSWER):
            right = move is not Inference.PREMATURE_ANSWER and (move is not Inference.ANSWER or bool(desk.standing(state).settled))
            verdict = world.answer == right
            return desk.step(verdict_text(verdict), ""), replace(state, answer=verdict, answered=True, corrected=False)
        if move is Inference.REPAIR:
            wrong = wrong_statements(desk.judge, state)[0]
            after = State(state.without(wrong), state.answer, False, True)
            return desk.step(writer.repair(wrong).text), after
        if move is Inference.DERIVE:
            shadow, place = desk.values.onward(desk.standing(state))
            written = writer.derive(state, (world.shadow if shadow else world.plan)[place])
        else:
            made = writer.corrupt(state, ErrorType.IRRELEVANT if move is Inference.IRRELEVANT else _ERRORS[move], draw)
            assert made is not None, f"{move} must be possible where the law has it"
            written = made
        assert written.statement is not None
        return desk.step(written.text), State(state.conclude(written.statement, written.cited).concluded, state.answer)
