"""Exact values of the scripted solver, by dynamic programming over what has been stated. Knows rates and worlds, no text."""

from __future__ import annotations

from dataclasses import dataclass, field

from stepward.environments.grade_school.expressions import Number
from stepward.environments.grade_school.oracle import Oracle, State
from stepward.policies.scripted.rates import ErrorRates

Stated = tuple[Number | None, ...]  # by place in the plan; None: not stated


@dataclass(frozen=True)
class Values:
    """P(correct final answer | what is stated) for one world; see `ScriptedSolver` for the process.

    With s what is stated, W its wrong quantities, e_p, e_s and e_w the rates of premature answers, skipped dependencies and misstated
    quantities, h = e_p + e_s + e_w, l = lucky and v = notice:

        W empty:               V(s) = e_p l + e_w V(s + next wrong) + e_s V(s + skipped wrong) + (1 - h) V(s + next right)
        W not empty:           V(s) = h l + (1 - h) [v V_fix(s) + (1 - v) V_on(s)], with v = 0 when nothing is repairable;
                               V(s) = V_fix(s) while correcting, if something is repairable
        V_fix(s):              V(s with the first repairable quantity right, correcting)
        V_on(s):               V(s + next as it follows)
        all stated:            e_s = e_w = 0, and "next" is the answer, which is worth 1 if the asked quantity is right and l if not

    A redundant step changes nothing, so it drops out. Where no quantity can be skipped, e_s = 0. How wrong a quantity is does not matter:
    every operation is affine, so with one new error at a time the same quantities come out wrong for every wrong value; 1 too high stands for all.
    """

    oracle: Oracle
    rates: ErrorRates
    notice: float
    lucky: float
    _known: dict[tuple[Stated, bool], float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def value(self, state: State) -> float:
        """V of an unfinished prefix in this state."""
        return self._value(tuple(state.values.get(index) for index in self.oracle.world.plan), state.corrected)

    def _value(self, stated: Stated, correcting: bool) -> float:
        key = (stated, correcting)
        found = self._known.get(key)
        if found is None:
            wrong = self.wrong(stated)
            found = self._known[key] = self._dirty(stated, wrong, correcting) if wrong else self._clean(stated)
        return found

    def wrong(self, stated: Stated) -> list[int]:
        """Places in the plan that are stated wrongly."""
        quantities, plan = self.oracle.world.quantities, self.oracle.world.plan
        return [place for place, value in enumerate(stated) if value is not None and value != quantities[plan[place]].value]

    def repairable(self, stated: Stated, wrong: list[int]) -> int | None:
        """The first wrong place whose planned parents are all stated and right."""
        quantities, plan = self.oracle.world.quantities, self.oracle.world.plan
        for place in wrong:
            parents = [plan.index(parent) for parent in quantities[plan[place]].parents if not quantities[parent].given]
            if all(stated[parent] is not None and parent not in wrong for parent in parents):
                return place
        return None

    def hazards(self, stated: Stated) -> tuple[float, float, float]:
        """Rates of a misstated quantity, a skipped dependency and a premature answer, as far as they are possible here."""
        if None not in stated:
            return 0.0, 0.0, self.rates.premature_answer
        skips = 0.0 if self.skippable(stated) is None else self.rates.skipped_dependency
        return self.rates.misstating, skips, self.rates.premature_answer

    def _clean(self, stated: Stated) -> float:
        world = self.oracle.world
        misstates, skips, answers = self.hazards(stated)
        total = answers * self.lucky + (1.0 - misstates - skips - answers) * self._go_on(stated)
        if misstates:
            place = stated.index(None)
            total += misstates * self._value(_put(stated, place, world.quantities[world.plan[place]].value + 1), False)
        skipped = self.skippable(stated) if skips else None
        if skipped is not None:
            total += skips * self._value(_put(stated, skipped, world.quantities[world.plan[skipped]].value + 1), False)
        return total

    def _dirty(self, stated: Stated, wrong: list[int], correcting: bool) -> float:
        world = self.oracle.world
        place = self.repairable(stated, wrong)
        repaired = 0.0 if place is None else self._value(_put(stated, place, world.quantities[world.plan[place]].value), True)
        if correcting and place is not None:
            return repaired
        share = 0.0 if place is None else self.notice
        hazard = sum(self.hazards(stated))
        return hazard * self.lucky + (1.0 - hazard) * (share * repaired + (1.0 - share) * self._go_on(stated))

    def _go_on(self, stated: Stated) -> float:
        world = self.oracle.world
        place = next((place for place, value in enumerate(stated) if value is None), None)
        if place is None:
            return 1.0 if stated[world.plan.index(world.asked)] == world.answer else self.lucky
        known: dict[int, Number] = dict(self.oracle.start.values)
        known.update({world.plan[at]: value for at, value in enumerate(stated) if value is not None})
        return self._value(_put(stated, place, self.oracle.expected(world.plan[place], known)), False)

    def skippable(self, stated: Stated) -> int | None:
        """The first place that is not stated and has a planned parent that is not stated either."""
        quantities, plan = self.oracle.world.quantities, self.oracle.world.plan
        missing = {plan[place] for place, value in enumerate(stated) if value is None}
        return next((place for place, index in enumerate(plan) if index in missing and not missing.isdisjoint(quantities[index].parents)), None)

    def repeatable(self, stated: Stated) -> bool:
        """Whether some step could be repeated: a stated quantity whose parents are known."""
        quantities, plan = self.oracle.world.quantities, self.oracle.world.plan
        missing = {plan[place] for place, value in enumerate(stated) if value is None}
        return any(value is not None and missing.isdisjoint(quantities[plan[place]].parents) for place, value in enumerate(stated))


def _put(stated: Stated, place: int, value: Number | None) -> Stated:
    return (*stated[:place], value, *stated[place + 1 :])
