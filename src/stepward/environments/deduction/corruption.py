"""Corruption: steps with a chosen error, in place of the next step that a solution would take. The oracle recognises each as what it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from stepward.core.errors import InputError
from stepward.core.step import Step
from stepward.core.trajectory import Trajectory
from stepward.environments.deduction.judgement import HARMLESS, ErrorType
from stepward.environments.deduction.oracle import Oracle, State, oracle_of
from stepward.environments.deduction.statement import Statement, fact_text, statement_text, step_text
from stepward.environments.deduction.world import Node, Rule, verdict_text


class Written(NamedTuple):
    """A step's text, what it concludes (None for a verdict) and what it cites."""

    text: str
    statement: Statement | None = None
    cited: tuple[Statement, ...] = ()


@dataclass(frozen=True)
class Writer:
    """Writes steps for one world: right ones, ones that follow from what was stated, and wrong ones."""

    oracle: Oracle

    def next(self, state: State) -> int | None:
        """Place of the first derivation of the plan of which neither the conclusion nor its opposite was stated."""
        return next((place for place, node in enumerate(self.oracle.world.plan) if self.open(state, node)), None)

    def open(self, state: State, node: Node) -> bool:
        """Whether neither its conclusion nor the opposite was stated."""
        return node.conclusion not in state.concluded and node.conclusion.opposite not in state.concluded

    def landing(self, state: State) -> int | None:
        """Where an error leads: the first open place on the shadow's line that is as far along as the next derivation of the plan."""
        place = self.next(state)
        if place is None:
            return None
        shadow = self.oracle.world.shadow
        return next((other for other in range(place, len(shadow)) if shadow[other].spine and self.open(state, shadow[other])), None)

    def derive(self, state: State, node: Node) -> Written:
        """The step that takes a derivation from what was stated: where a premise was stated to be false, so is the conclusion."""
        premises, conclusion = [], node.conclusion
        for premise in node.premises:
            opposite = premise.opposite
            if opposite is not None and opposite in state.concluded:
                premises.append(opposite)
                conclusion = node.conclusion.opposite or conclusion
            else:
                premises.append(premise)
        return self._written(node, conclusion, tuple(premises))

    def repair(self, statement: Statement) -> Written:
        """The step that takes a statement back."""
        return Written(f"Correction: it does not follow that {statement_text(statement)}.", statement)

    def irrelevant(self, state: State) -> list[Node]:
        """Right derivations that lead nowhere and could be taken now."""
        return [node for node in self.oracle.world.extras if node.conclusion not in state.concluded and self._ready(state, node)]

    def corrupt(self, state: State, kind: ErrorType, draw: float) -> Written | None:
        """A step with an error of this kind in place of the next one; `draw` in [0, 1) chooses among the possible texts.

        None when the kind cannot be made here, which does not depend on the draw. What was stated so far should be true: an error on top of another
        may be recognised as a different kind.
        """
        made = list(self._candidates(state, kind))
        return made[int(draw * len(made))] if made else None

    def _candidates(self, state: State, kind: ErrorType) -> Iterator[Written]:
        world, place = self.oracle.world, self.next(state)
        match kind:
            case ErrorType.UNREADABLE:
                yield Written(f"Since {world.question.who} is and is, {world.question.who} is.")
            case ErrorType.IRRELEVANT:
                yield from (self._written(node, node.conclusion, node.premises) for node in self.irrelevant(state))
            case ErrorType.REDUNDANT:
                for node in world.plan:
                    if node.conclusion in state.concluded and self._ready(state, node):
                        yield self._written(node, node.conclusion, node.premises)
            case ErrorType.PREMATURE_ANSWER:
                if place is not None and self.open(state, world.plan[-1]):
                    yield Written(verdict_text(not world.answer))
            case ErrorType.WRONG_POLARITY:
                if world.goal in state.concluded:
                    yield Written(verdict_text(not world.answer))
                elif place is not None and self._ready(state, world.plan[place]):
                    node = world.plan[place]
                    yield self._written(node, node.conclusion.opposite or node.conclusion, node.premises)
            case _:
                landing = self.landing(state)
                if landing is not None and place is not None and self._ready(state, world.plan[place]):
                    yield from self._onto(state, kind, landing, world.plan[place])

    def _onto(self, state: State, kind: ErrorType, landing: int, instead: Node) -> Iterator[Written]:
        """Ways to reach a place of the shadow without a reason."""
        world = self.oracle.world
        node = world.shadow[landing]
        if kind is ErrorType.CIRCULAR:
            yield self._written(node, node.conclusion, (node.conclusion,))
            later = next((other for other in world.shadow if node.conclusion in other.premises), None)
            if later is not None and len(later.rules) == 1 and later.conclusion not in state.concluded:
                yield self._written(later, node.conclusion, (later.conclusion,))
        elif kind is ErrorType.MISSING_PREMISE:
            if node.premises[0] not in state.concluded:
                yield self._written(node, node.conclusion, node.premises)
            held = instead.premises[0]
            rule = Rule(tuple(held.literals), tuple(node.conclusion.literals))
            if rule.statement not in self.oracle.given:
                yield Written(step_text([fact_text(held), rule.text], node.conclusion), node.conclusion, (held, rule.statement))
        elif kind is ErrorType.INVALID_INFERENCE:
            for held in self._held(state, instead):
                if held not in node.premises:
                    yield self._written(node, node.conclusion, (held,))

    def _held(self, state: State, instead: Node) -> list[Statement]:
        """What an error may cite: the premises of the right step first, then other true statements about the individual."""
        who, oracle = self.oracle.world.question.who, self.oracle
        others = [fact for fact in (*oracle.world.facts, *state.concluded) if fact.who == who and len(fact.literals) == 1]
        return list(dict.fromkeys((*instead.premises, *others)))

    def _ready(self, state: State, node: Node) -> bool:
        return all(self.oracle.known(state, premise) for premise in node.premises)

    def _written(self, node: Node, conclusion: Statement, premises: tuple[Statement, ...]) -> Written:
        world = self.oracle.world
        return Written(world.text(node, conclusion, premises), conclusion, (*premises, *(world.rules[index].statement for index in node.rules)))


class Corrupted(NamedTuple):
    """A trajectory with one error of a known kind. `place`: the index of the changed or inserted step, which is the first error unless the kind is
    harmless (irrelevant, redundant)."""

    trajectory: Trajectory
    place: int
    kind: ErrorType


def corrupt(trajectory: Trajectory, kind: ErrorType | str, seed: int = 0) -> Corrupted:
    """Put an error of a chosen kind into a deduction solution, before its own first error if it has one.

    The step at a place drawn from the seed is replaced and what follows it stays (after a verdict nothing follows); a harmless kind is inserted
    instead, and leaves the rest as right as it was. The oracle confirms the kind of every corrupted step. The result is ungraded.

    Raises: InputError for an unknown kind, and when the trajectory allows no error of this kind anywhere.
    """
    if kind not in set(ErrorType):
        raise InputError(f"unknown kind of error {kind!r}; choose one of {', '.join(ErrorType)}")
    kind, oracle = ErrorType(kind), oracle_of(trajectory.problem)
    writer, rng = Writer(oracle), Random(f"{seed} {kind} {trajectory.key}")
    state, states = oracle.start, []
    for step in trajectory.steps:
        states.append(state)
        finding, state = oracle.step(state, step.text)
        if not finding.follows:
            break
    places = list(range(len(states)))
    rng.shuffle(places)
    for place in places:
        written = writer.corrupt(states[place], kind, rng.random())
        if written is None or written.text == trajectory.steps[place].text or oracle.step(states[place], written.text)[0].error is not kind:
            continue
        ends = written.statement is None and kind is not ErrorType.UNREADABLE
        old = trajectory.steps[place]
        new = Step(written.text, "" if ends else old.separator or ("\n" if kind in HARMLESS else ""))
        rest = () if ends else trajectory.steps[place if kind in HARMLESS else place + 1 :]
        steps = (*trajectory.steps[:place], new, *rest)
        return Corrupted(Trajectory(trajectory.problem, steps, finished=trajectory.finished, truncated=trajectory.truncated), place, kind)
    raise InputError(f"no error of kind {kind} can be made in this trajectory of {len(trajectory)} steps")
