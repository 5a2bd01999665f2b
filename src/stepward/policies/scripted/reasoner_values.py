"""Exact values of the scripted reasoner, by dynamic programming over what has been concluded. Knows rates and derivations, no text."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from stepward.environments.deduction.oracle import Oracle, State
from stepward.environments.deduction.statement import Statement
from stepward.environments.deduction.world import Node
from stepward.policies.scripted.rates import InferenceRates


class Mark:
    """How things stand with one derivation, as a letter. *Unsound*: wrong, or concluded from something wrong; a repair takes it back."""

    OPEN = "-"
    SOUND = "S"  # concluded, and true
    UNSOUND = "U"  # concluded, true, but from something wrong
    DENIED = "D"  # its opposite was concluded, wrongly
    REACHED = "R"  # concluded, and wrong (the shadow's line)
    BARRED = "B"  # the opposite was concluded, and is true
    BARRED_UNSOUND = "b"  # the same, from something wrong


_CONCLUDED = "SUR"
_CLEANED = str.maketrans("UDRb", "----")


class Standing(NamedTuple):
    """A mark for each derivation of the plan and of the shadow, and whether anything wrong stands."""

    plan: str
    shadow: str
    wrong: bool

    @property
    def settled(self) -> bool | None:
        """Whether the right answer was concluded (True) or its opposite (False); None for neither."""
        goal = self.plan[-1]
        return None if goal == Mark.OPEN else goal != Mark.DENIED

    @property
    def clean(self) -> Standing:
        """When everything wrong, and what rests on it, has been taken back."""
        return Standing(self.plan.translate(_CLEANED), self.shadow.translate(_CLEANED), False) if self.wrong else self


@dataclass(frozen=True)
class ReasonerValues:
    """P(right verdict | what is concluded) for one world; see `ScriptedReasoner` for the process.

    With s what is concluded, e_s the rate of errors that reach a place of the shadow (invalid inference, missing premise, circular), e_d that of
    wrong polarity, e_p that of premature answers, h = e_s + e_d + e_p, l = lucky and v = notice:

        nothing wrong:     V(s) = e_p l + e_s V(s + shadow place) + e_d V(s + next denied) + (1 - h) V(s + next)
        settled rightly:   V(s) = e_p l + (1 - e_p)
        something wrong:   V(s) = h l + (1 - h) [v V(s repaired) + (1 - v) V_on(s)];  V(s) = V(s repaired) while correcting
        V_on(s):           V(s + next as the solver goes on); 1 when settled rightly, l when settled wrongly; e_s = e_d = 0 in h when settled

    A repair leads back to where the error was made, or further on by what was rightly concluded since; so V(s) stands on both sides where nothing is
    wrong, linearly, and is solved for. An irrelevant step changes nothing that matters, so it drops out. Where the shadow has no place to reach, its
    errors are wrong polarity.
    """

    oracle: Oracle
    rates: InferenceRates
    notice: float
    lucky: float
    _known: dict[Standing, float] = field(default_factory=dict, init=False, repr=False, compare=False)
    _wrong: dict[Standing, tuple[float, dict[Standing, float]]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def value(self, state: State) -> float:
        """V of an unfinished prefix in this state."""
        standing = self.standing(state)
        return self._value(standing.clean if state.corrected else standing)

    def standing(self, state: State) -> Standing:
        """What matters of a state."""
        unsound: set[Statement] = set()
        wrong = False
        for statement, cited in state.concluded.items():
            true = self.oracle.true(statement)
            wrong = wrong or not true
            if not true or not unsound.isdisjoint(cited):
                unsound.add(statement)
        world = self.oracle.world
        plan, shadow = ("".join([self._mark(state, unsound, node) for node in nodes]) for nodes in (world.plan, world.shadow))
        return Standing(plan, shadow, wrong)

    def _mark(self, state: State, unsound: set[Statement], node: Node) -> str:
        statement = node.conclusion
        if statement in state.concluded:
            if statement not in unsound:
                return Mark.SOUND
            return Mark.UNSOUND if self.oracle.true(statement) else Mark.REACHED
        opposite = statement.opposite
        if opposite is None or opposite not in state.concluded:
            return Mark.OPEN
        if opposite not in unsound:
            return Mark.BARRED
        return Mark.BARRED_UNSOUND if self.oracle.true(opposite) else Mark.DENIED

    @cached_property
    def _parents(self) -> tuple[tuple[int, ...], ...]:
        """For each derivation of the plan the places of those that it rests on."""
        places = {node.conclusion: place for place, node in enumerate(self.oracle.world.plan)}
        return tuple(tuple(places[premise] for premise in node.premises if premise in places) for node in self.oracle.world.plan)

    def landing(self, standing: Standing) -> int | None:
        """Where an error leads on the shadow's line; None when no place is open."""
        place = self._next(standing)
        return next((at for at in range(place, len(standing.shadow)) if self._spine(at) and standing.shadow[at] == Mark.OPEN), None)

    def hazards(self, standing: Standing) -> tuple[float, float, float]:
        """Rates of errors that reach the shadow, of wrong polarity and of premature answers, as far as they are possible here."""
        rates = self.rates
        if standing.settled is not None:
            return 0.0, 0.0, rates.premature_answer
        if self.landing(standing) is None:
            return 0.0, rates.misleading + rates.wrong_polarity, rates.premature_answer
        return rates.misleading, rates.wrong_polarity, rates.premature_answer

    def onward(self, standing: Standing) -> tuple[bool, int]:
        """The derivation that the reasoner takes next, its question not being settled: whether on the shadow, and its place.

        What was reached last on the shadow is followed, unless the opposite of what comes next was concluded; else the plan is.
        """
        reached = standing.shadow.rfind(Mark.REACHED)
        if reached >= 0:
            place = next((at for at in range(reached + 1, len(standing.shadow)) if standing.shadow[at] not in _CONCLUDED), None)
            if place is not None and standing.shadow[place] == Mark.OPEN:
                return True, place
        return False, self._next(standing)

    def _next(self, standing: Standing) -> int:
        return standing.plan.index(Mark.OPEN)

    def _spine(self, at: int) -> bool:
        return self.oracle.world.shadow[at].spine

    def _value(self, standing: Standing) -> float:
        if standing.wrong:
            sure, back = self._prospects(standing)
            return sure + sum(chance * self._value(clean) for clean, chance in back.items())
        known = self._known.get(standing)
        if known is None:
            known = self._known[standing] = self._right(standing)
        return known

    def _right(self, standing: Standing) -> float:
        reaches, denies, answers = self.hazards(standing)
        on = 1.0 if standing.settled else self._value(self._went_on(standing))
        total, again = answers * self.lucky + (1.0 - reaches - denies - answers) * on, 0.0
        errors = []
        if reaches:
            landing = self.landing(standing)
            assert landing is not None
            errors.append((reaches, self._put(standing, True, landing, Mark.REACHED)))
        if denies:
            errors.append((denies, self._put(standing, False, self._next(standing), Mark.DENIED)))
        for rate, wrong in errors:
            sure, back = self._prospects(wrong)
            total += rate * (sure + sum(chance * self._value(clean) for clean, chance in back.items() if clean != standing))
            again += rate * back.get(standing, 0.0)
        return total / (1.0 - again) if again < 1.0 else 0.0  # a reasoner that errs and repairs for ever never answers

    def _prospects(self, standing: Standing) -> tuple[float, dict[Standing, float]]:
        """While something is wrong: the chance to end right before any repair, and the chances of the standings that a repair leads to."""
        kept = self._wrong.get(standing)
        if kept is None:
            sure, chance, back = 0.0, 1.0, dict[Standing, float]()
            at = standing
            while True:
                hazard = sum(self.hazards(at))
                sure += chance * hazard * self.lucky
                chance *= 1.0 - hazard
                back[at.clean] = back.get(at.clean, 0.0) + chance * self.notice
                chance *= 1.0 - self.notice
                if at.settled is not None:
                    sure += chance * (1.0 if at.settled else self.lucky)
                    break
                at = self._went_on(at)
            kept = self._wrong[standing] = sure, back
        return kept

    def _went_on(self, standing: Standing) -> Standing:
        shadow, place = self.onward(standing)
        if shadow:
            return self._put(standing, True, place, Mark.REACHED if self._spine(place) else Mark.SOUND)
        parents = [standing.plan[parent] for parent in self._parents[place]]
        mark = Mark.DENIED if Mark.DENIED in parents else Mark.UNSOUND if Mark.UNSOUND in parents else Mark.SOUND
        return self._put(standing, False, place, mark)

    def _put(self, standing: Standing, shadow: bool, place: int, mark: str) -> Standing:
        """The standing with one more conclusion. The last derivations of the two conclude opposites."""
        plan, other = standing.plan, standing.shadow
        if shadow:
            other = f"{other[:place]}{mark}{other[place + 1 :]}"
            if place == len(other) - 1:
                plan = plan[:-1] + Mark.DENIED
        else:
            plan = f"{plan[:place]}{mark}{plan[place + 1 :]}"
            if place == len(plan) - 1:
                other = other[:-1] + {Mark.DENIED: Mark.REACHED, Mark.UNSOUND: Mark.BARRED_UNSOUND}.get(mark, Mark.BARRED)
        return Standing(plan, other, standing.wrong or mark in (Mark.DENIED, Mark.REACHED))
