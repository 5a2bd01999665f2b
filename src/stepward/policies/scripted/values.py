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
    quantities, l = lucky and v = notice:

        W empty, all stated:   V(s) = (1 - e_p) + e_p l
        W empty:               V(s) = e_p l + e_w V(s + next wrong) + e_s V(s + skipped wrong) + (1 - e_p - e_w - e_s) V(s + next right)
        W not empty:           V(s) = v V(s with the first repairable one right, correcting) + (1 - v) V_on(s)
                               with v = 1 while correcting and v = 0 when none is repairable
        V_on(s):               V(s + next as it follows), or when all are stated: 1 if the asked quantity is right, l if not

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

    def _clean(self, stated: Stated) -> float:
        rates, world = self.rates, self.oracle.world
        answered = rates.premature_answer * self.lucky
        place = next((place for place, value in enumerate(stated) if value is None), None)
        if place is None:
            return (1.0 - rates.premature_answer) + answered
        truth = world.quantities[world.plan[place]].value
        skipped = self.skippable(stated)
        skip_rate = 0.0 if skipped is None else rates.skipped_dependency
        total = answered + (1.0 - rates.premature_answer - rates.misstating - skip_rate) * self._value(_put(stated, place, truth), False)
        if rates.misstating:
            total += rates.misstating * self._value(_put(stated, place, truth + 1), False)
        if skip_rate and skipped is not None:
            total += skip_rate * self._value(_put(stated, skipped, world.quantities[world.plan[skipped]].value + 1), False)
        return total

    def _dirty(self, stated: Stated, wrong: list[int], correcting: bool) -> float:
        world = self.oracle.world
        place = self.repairable(stated, wrong)
        share = 0.0 if place is None else 1.0 if correcting else self.notice
        total = 0.0
        if share and place is not None:
            total += share * self._value(_put(stated, place, world.quantities[world.plan[place]].value), True)
        if share < 1.0:
            total += (1.0 - share) * self._go_on(stated)
        return total

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


def _put(stated: Stated, place: int, value: Number | None) -> Stated:
    return (*stated[:place], value, *stated[place + 1 :])
