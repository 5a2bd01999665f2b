"""Corruption: step texts with a chosen error, for the next quantity that a solution would derive. The oracle recognises each as what it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm

from stepward.environments.grade_school.expressions import Number, operand, show
from stepward.environments.grade_school.judgement import ErrorType
from stepward.environments.grade_school.operations import OPERATORS, evaluate, infix, postfix
from stepward.environments.grade_school.oracle import NEUTRAL, Oracle, State
from stepward.environments.grade_school.world import Quantity

_DELTAS = (1, -1, 2, -2, 10, -10, 3, -3, 5, -5, 4, -4, 20, -20, 6, 7, 8, 9, 30, 50, 100)

Items = tuple[Number | str, ...]


@dataclass(frozen=True)
class Writer:
    """Writes steps for one world: right ones, ones that follow from what was stated, and wrong ones."""

    oracle: Oracle
    gold: Mapping[int, str] = field(init=False, repr=False, compare=False)
    _influence: dict[int, tuple[tuple[int, Fraction], ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        world = self.oracle.world
        object.__setattr__(self, "gold", {index: world.step_text(index) for index in world.plan})

    def influence(self, source: int) -> tuple[tuple[int, Fraction], ...]:
        """The true value of every planned quantity that depends on `source` (itself included), and its change when `source` is stated 1 too high.

        Every operation is affine in its parents, so that a change of d moves each by d times as much. Unmoved quantities are left out.
        """
        found = self._influence.get(source)
        if found is None:
            quantities, plan = self.oracle.world.quantities, self.oracle.world.plan
            values: dict[int, Number] = {index: quantity.value for index, quantity in enumerate(quantities)}
            values[source] += 1
            for index in plan:
                if source in self.oracle.ancestors[index]:
                    values[index] = self._evaluate(quantities[index], values)
            moved = ((quantities[index].value, Fraction(values[index] - quantities[index].value)) for index in plan)
            found = self._influence[source] = tuple((value, change) for value, change in moved if change)
        return found

    def _evaluate(self, quantity: Quantity, values: Mapping[int, Number]) -> Number:
        return evaluate(postfix(quantity.operation, [values[parent] for parent in quantity.parents], quantity.numbers))

    def next(self, state: State) -> int | None:
        """The first quantity of the plan that no step has stated; its parents all come before it."""
        return next((index for index in self.oracle.world.plan if index not in state.values), None)

    def skippable(self, state: State) -> int | None:
        """The first quantity of the plan that was not stated and could not be yet: some parent was not stated either."""
        for index in self.oracle.world.plan:
            if index not in state.values and any(parent not in state.values for parent in self.oracle.world.quantities[index].parents):
                return index
        return None

    def derive(self, state: State, index: int) -> tuple[str, Number]:
        """The step that derives a quantity from its parents' stated values, and the value that it states."""
        quantity = self.oracle.world.quantities[index]
        values = [state.values[parent] for parent in quantity.parents]
        items = postfix(quantity.operation, values, quantity.numbers)
        value = evaluate(items)
        return f"{quantity.title} = {_written(items)} = {show(value)}.", value

    def repair(self, index: int) -> str:
        """The gold step for a quantity, announced as a correction."""
        return f"Correction: {self.gold[index]}"

    def corrupt(self, state: State, kind: ErrorType, draw: float) -> tuple[str, int | None, Number | None] | None:
        """A step with an error of this kind: its text, and the quantity and wrong value that it states (None for an answer).

        `draw`: a number in [0, 1) that chooses among the possible texts. The wrong value differs from the true one and from what
        follows from the stated values; where possible, everything that is later derived from it stays a positive whole number.
        None when the kind cannot be made here, which does not depend on the draw. Values stated so far should be right: an error on top of
        another may be recognised as a different kind.
        """
        if kind is ErrorType.PREMATURE_ANSWER:
            return self._premature(state, draw)
        if kind is ErrorType.REDUNDANT:
            return self._redundant(state, draw)
        index = self.skippable(state) if kind is ErrorType.SKIPPED_DEPENDENCY else self.next(state)
        if index is None:
            return None
        quantity = self.oracle.world.quantities[index]
        if kind is ErrorType.UNREADABLE:
            return f"{quantity.title} = = .", None, None
        if kind is ErrorType.SKIPPED_DEPENDENCY:
            value = self.miss(index, draw)
            return f"{quantity.title} = {show(value)}.", index, value
        items: Items = postfix(quantity.operation, [state.values[parent] for parent in quantity.parents], quantity.numbers)
        if kind in (ErrorType.ARITHMETIC_SLIP, ErrorType.CIRCULAR):
            value = self.miss(index, draw, also_not=evaluate(items))
            if kind is ErrorType.CIRCULAR:
                itself = next((place for place, item in enumerate(items) if not isinstance(item, str) and item in state.values.values()), 0)
                written = infix([quantity.name if place == itself else item if isinstance(item, str) else operand(item) for place, item in enumerate(items)])
            else:
                written = _written(items)
            return f"{quantity.title} = {written} = {show(value)}.", index, value
        candidates = list(
            self._other_operations(items)
            if kind is ErrorType.WRONG_OPERATION
            else self._other_operands(items, self._known(state))
            if kind is ErrorType.WRONG_OPERAND
            else self._invented(items, self._known(state))
        )
        start = int(draw * len(candidates))
        for candidate in (*candidates[start:], *candidates[:start]):
            try:
                value = evaluate(candidate)
            except ZeroDivisionError:
                continue
            if value != evaluate(items) and self._fits(index, value):
                return f"{quantity.title} = {_written(candidate)} = {show(value)}.", index, value
        return None

    def miss(self, index: int, draw: float, *, also_not: Number | None = None) -> Number:
        """A wrong value near a planned quantity's true one."""
        truth = self.oracle.world.quantities[index].value
        unit = lcm(*(change.denominator for _, change in self.influence(index)))
        start = int(draw * draw * 12)  # near misses more often
        for delta in (*_DELTAS[start:], *_DELTAS[:start]):
            value = truth + delta * unit
            if value != also_not and self._fits(index, value):
                return value
        return next(truth + delta * unit for delta in (1, 2, 3) if truth + delta * unit != also_not)

    def _fits(self, index: int, value: Number) -> bool:
        """Wrong, a positive whole number, and so is all that the solution would derive from it."""
        delta = value - self.oracle.world.quantities[index].value
        if delta == 0 or not isinstance(value, int):
            return False
        results = [truth + change * delta for truth, change in self.influence(index)]
        return all(result.denominator == 1 and result >= 1 for result in results)

    def _known(self, state: State) -> list[Number]:
        return sorted(self.oracle.numbers.union(state.values.values()))

    def _other_operands(self, items: Items, known: list[Number]) -> Iterator[Items]:
        for place, item in enumerate(items):
            if not isinstance(item, str) and item not in NEUTRAL:
                for number in known:
                    if number != item and number not in NEUTRAL:
                        yield (*items[:place], number, *items[place + 1 :])

    def _invented(self, items: Items, known: list[Number]) -> Iterator[Items]:
        for place, item in enumerate(items):
            if isinstance(item, int) and item not in NEUTRAL:
                for delta in _DELTAS:
                    for number in (item + delta, item + delta * 12):
                        if number > 1 and number not in known and number not in NEUTRAL:
                            yield (*items[:place], number, *items[place + 1 :])

    def _other_operations(self, items: Items) -> Iterator[Items]:
        if len(items) == 3:
            for left, right in ((items[0], items[1]), (items[1], items[0])):
                for operator in OPERATORS:
                    if operator != items[2]:
                        yield (left, right, operator)
            return
        a, b, first, c, second = items
        for one in OPERATORS:
            for two in OPERATORS:
                if (one, two) != (first, second) and (one in "*/" or two in "+-"):  # reads the same from left to right
                    yield (a, b, one, c, two)

    def _premature(self, state: State, draw: float) -> tuple[str, None, None]:
        stated = state.values.get(self.oracle.world.asked)
        wrong = [number for number in self._known(state) if number not in (self.oracle.world.answer, stated)]
        wrong = wrong or [self.oracle.world.answer + 1]
        return f"The answer is {show(wrong[int(draw * len(wrong))])}.", None, None

    def _redundant(self, state: State, draw: float) -> tuple[str, int, Number] | None:
        texts = []
        for index in self.oracle.world.plan:
            if index in state.values and all(parent in state.values for parent in self.oracle.world.quantities[index].parents):
                text, value = self.derive(state, index)
                if value == state.values[index]:
                    texts.append((text, index, value))
        return texts[int(draw * len(texts))] if texts else None


def _written(items: Items) -> str:
    return infix([item if isinstance(item, str) else operand(item) for item in items])
