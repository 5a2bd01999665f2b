"""World: the quantities of one problem, how each follows from others, and which one is asked. No English beyond their names here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from stepward.core.errors import FormatError
from stepward.core.record import canonical_json, content_hash
from stepward.environments.grade_school.operations import OPERATIONS, evaluate, expression, postfix

TOTAL, DIFFERENCE = "total", "difference"
SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Quantity:
    """How many `object` the `owner` has: a given `value` (operation "given"), or an operation on `parents` (indices) and `numbers`.

    The two quantities that only a question names have the object "total" or "difference" and no owner.
    """

    owner: str
    object: str
    operation: str
    parents: tuple[int, ...]
    numbers: tuple[int, ...]
    value: int

    @property
    def name(self) -> str:
        """As a step writes it in mid-sentence: "Tom's apples", "each box's apples", "the total"."""
        return f"{self.owner}'s {self.object}" if self.owner else f"the {self.object}"

    @property
    def title(self) -> str:
        """The name at the start of a step."""
        name = self.name
        return name[0].upper() + name[1:]

    @property
    def given(self) -> bool:
        return self.operation == "given"


@dataclass(frozen=True)
class World:
    """Quantities in an order in which parents come before what depends on them, and the index of the one that is asked."""

    quantities: tuple[Quantity, ...]
    asked: int

    @cached_property
    def needed(self) -> frozenset[int]:
        """Indices of the quantities that the answer depends on, the asked one included."""
        found: set[int] = set()
        stack = [self.asked]
        while stack:
            index = stack.pop()
            if index not in found:
                found.add(index)
                stack.extend(self.quantities[index].parents)
        return frozenset(found)

    @cached_property
    def plan(self) -> tuple[int, ...]:
        """The derived quantities that the answer needs, in the order of the quantities: the order of the gold solution.

        Facts are told in this order too, unless they are shuffled, so that a reader can compute as it reads.
        """
        return tuple(index for index in sorted(self.needed) if not self.quantities[index].given)

    @property
    def answer(self) -> int:
        return self.quantities[self.asked].value

    @cached_property
    def cancels(self) -> bool:
        """Whether the answer does not change with some quantity on the way to it, as in (a + 5) - (a + 2): an error there would be invisible.

        The answer is affine in every quantity, so a change by one tells.
        """
        return any(self._answer_with(index) == self.answer for index in self.needed if index != self.asked)

    def _answer_with(self, changed: int) -> Fraction:
        """The answer if the quantity `changed` were one more than it is."""
        values: list[Fraction] = []
        for index, quantity in enumerate(self.quantities):
            if index == changed or quantity.given:
                values.append(Fraction(quantity.value + (index == changed)))
            else:
                values.append(_affine(quantity, [values[parent] for parent in quantity.parents]))
        return values[self.asked]

    @cached_property
    def content(self) -> str:
        """Hash of what is asked and of everything it depends on: names, operations, numbers; not of wording, order or distractors."""
        names = [quantity.name for quantity in self.quantities]
        rows = sorted(
            canonical_json([quantity.name, quantity.operation, _parent_names(quantity, names), list(quantity.numbers), quantity.value])
            for quantity in (self.quantities[index] for index in self.needed)
        )
        return content_hash("grade-school world", names[self.asked], *rows)

    @property
    def split(self) -> str:
        """The one split that this world may appear in: 8/10 of all worlds are train, 1/10 dev, 1/10 test, by `content`."""
        bucket = int(self.content[:8], 16) % 10
        return "train" if bucket < 8 else "dev" if bucket == 8 else "test"

    def step_text(self, index: int) -> str:
        """The gold step for a derived quantity, e.g. "Tom's apples = 4 + 3 = 7."."""
        quantity = self.quantities[index]
        values = [self.quantities[parent].value for parent in quantity.parents]
        return f"{quantity.title} = {expression(quantity.operation, values, quantity.numbers)} = {quantity.value}."

    def gold_steps(self) -> tuple[str, ...]:
        """The gold solution: one step for each quantity of the plan, then "The answer is N."."""
        return (*(self.step_text(index) for index in self.plan), f"The answer is {self.answer}.")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON for `Problem.metadata`."""
        rows = [[q.owner, q.object, q.operation, list(q.parents), list(q.numbers), q.value] for q in self.quantities]
        return {"quantities": rows, "asked": self.asked}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> World:
        """Raises: FormatError when the data is not a consistent world."""
        try:
            quantities = tuple(
                Quantity(str(owner), str(thing), str(operation), tuple(map(int, parents)), tuple(map(int, numbers)), int(value))
                for owner, thing, operation, parents, numbers, value in data["quantities"]
            )
            asked = int(data["asked"])
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"not a grade-school world: {error!r}", field="metadata.world") from error
        if not 0 <= asked < len(quantities):
            raise FormatError(f"asked quantity {asked} of {len(quantities)}", field="metadata.world")
        for index, quantity in enumerate(quantities):
            n_parents, n_numbers = OPERATIONS.get(quantity.operation, (-1, -1))
            allowed = (2, 3) if n_parents is None else (n_parents,)
            if len(quantity.parents) not in allowed or len(quantity.numbers) != n_numbers or any(not 0 <= parent < index for parent in quantity.parents):
                raise FormatError(f"quantity {index}: operation {quantity.operation!r} does not go with its parents and numbers", field="metadata.world")
        return cls(quantities, asked)


def _affine(quantity: Quantity, values: list[Fraction]) -> Fraction:
    return Fraction(evaluate(postfix(quantity.operation, values, quantity.numbers)))


def _parent_names(quantity: Quantity, names: list[str]) -> list[str]:
    parents = [names[parent] for parent in quantity.parents]
    return sorted(parents) if quantity.operation == "sum" else parents
