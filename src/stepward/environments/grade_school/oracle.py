"""Oracle: the exact correctness and error type of every step of any solution that loosely follows the step style.

What is read (see `claims`): a step makes one or more claims "quantity = expression = ... = value", or "The answer is N". Spaces, case, the
full stop, thousands separators, parentheses, unit words and words such as "so" do not matter. A step's finding is that of its first wrong claim.

What is known: the facts of the problem, whatever a step says of them, then every value that a step has stated for a derived quantity (right
or wrong; the latest counts).

A derivation of quantity Q is judged by the first rule that applies:

1. unreadable: it does not parse, or has no value (a division by zero).
2. invented_fact: Q, or a quantity that is named in the expression, does not exist in the problem.
3. circular: the expression names Q itself, or, while Q is unknown, a quantity that is derived from Q.
4. skipped_dependency: the expression names a quantity that is not known yet.
5. A bare value ("Q = 7") repeats what is known of Q; or states a fact's value wrongly (invented_fact); or equals what the parents' known values
   give; or does not (arithmetic_slip); or some parent is not known yet (skipped_dependency).
6. An expression is right when it equals Q's definition identically, as a polynomial in the facts, under some reading of its numerals: a
   numeral is itself, or any known quantity with that stated value. So the order of terms, 3 + 3 + 3 for 3 * 3, or a parent's own expression
   in place of its value are all right, and a numerical coincidence is not. A right expression whose equalities do not hold is an
   arithmetic_slip.
7. A wrong expression is skipped_dependency when a parent of Q is not known yet; invented_fact when it holds a number that is neither in the
   problem nor stated before; wrong_operation when its numbers are those of the definition; wrong_operand otherwise.

The answer must repeat the stated value of the asked quantity: it is premature_answer when that quantity is unknown or has another stated value,
whatever the truth ("The answer is 4 + 3 = 7" derives the asked quantity and is judged as a derivation first).

A step that follows is redundant when it repeats a known value or derives a quantity that the answer does not need; redundant steps are correct.
Views: `follows` (local) asks for no error given what was stated, so a step that rightly uses an earlier wrong value follows; `true` asks for
the world's value; `correct` asks for both; the prefix view is wrong from the first step that does not follow onward, repaired or not. A repair
("Correction: Tom's apples = 4 + 3 = 7.") is a derivation like any other: right, it restores the quantity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from hashlib import blake2b

from stepward.core.errors import InputError
from stepward.core.problem import Problem
from stepward.environments.grade_school.claims import Claim, read_claims
from stepward.environments.grade_school.expressions import MODULUS, Expression, Named, Number, residue_of, show, tokenize
from stepward.environments.grade_school.judgement import ErrorType, StepJudgement
from stepward.environments.grade_school.lexicon import OBJECTS
from stepward.environments.grade_school.operations import evaluate, postfix
from stepward.environments.grade_school.world import World
from stepward.environments.judgement import Judgement, judge

_UNITS = frozenset(OBJECTS)
NEUTRAL = (1, 100)  # numbers that do not count when operands are compared: a percentage's hundred, a fraction's one


@dataclass(frozen=True)
class State:
    """What a prefix has stated. `values`: known value by quantity, facts included. `answer`: the last final answer.

    `answered`, `corrected`, `repeated`: the last step gave the final answer, announced a correction, was redundant.
    """

    values: Mapping[int, Number]
    answer: Number | None = None
    answered: bool = False
    corrected: bool = False
    repeated: bool = False


@dataclass(frozen=True)
class Oracle:
    """The judge of one world."""

    world: World
    names: Mapping[tuple[str, ...], int] = field(init=False, repr=False, compare=False)
    units: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names: dict[tuple[str, ...], int] = {}
        for index, quantity in enumerate(self.world.quantities):
            tokens = tuple(tokenize(quantity.name))
            names[tokens] = index
            if tokens[0] in ("the", "each"):
                names.setdefault(tokens[1:], index)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "units", _UNITS)

    @cached_property
    def start(self) -> State:
        """The state before the first step."""
        return State({index: quantity.value for index, quantity in enumerate(self.world.quantities) if quantity.given})

    @cached_property
    def definitions(self) -> tuple[Expression | None, ...]:
        """Each derived quantity's expression with its parents named; None for facts."""
        return tuple(
            None if quantity.given else Expression(postfix(quantity.operation, [Named(parent) for parent in quantity.parents], quantity.numbers))
            for quantity in self.world.quantities
        )

    @cached_property
    def symbols(self) -> tuple[int, ...]:
        """Each quantity as a residue: facts at pseudo-random points, derived quantities by their definitions."""
        residues: list[int] = []
        for index, definition in enumerate(self.definitions):
            if definition is None:
                residues.append(int.from_bytes(blake2b(f"fact {index}".encode(), digest_size=8).digest(), "little") % MODULUS)
            else:
                residues.append(next(definition.residues(_literal, residues.__getitem__)))
        return tuple(residues)

    @cached_property
    def ancestors(self) -> tuple[frozenset[int], ...]:
        """What each quantity is derived from, directly or not."""
        found: list[frozenset[int]] = []
        for quantity in self.world.quantities:
            found.append(frozenset(quantity.parents).union(*(found[parent] for parent in quantity.parents)))
        return tuple(found)

    @cached_property
    def numbers(self) -> frozenset[Number]:
        """Every number that the problem states."""
        told: set[Number] = {100 for quantity in self.world.quantities if quantity.operation == "percent"}
        for quantity in self.world.quantities:
            told.update(quantity.numbers)
            if quantity.given:
                told.add(quantity.value)
        return frozenset(told)

    def expected(self, index: int, values: Mapping[int, Number]) -> Number | None:
        """What a derived quantity's definition gives on known values; None when a parent is unknown."""
        quantity = self.world.quantities[index]
        if any(parent not in values for parent in quantity.parents):
            return None
        return evaluate(postfix(quantity.operation, [values[parent] for parent in quantity.parents], quantity.numbers))

    def judge(self, texts: Iterable[str]) -> Judgement[StepJudgement]:
        """The finding for every step of a solution."""
        return judge(self.step, self.start, texts, truth=self.world.answer, environment="grade-school")

    def read(self, texts: Iterable[str], state: State | None = None) -> State:
        """The state after some steps."""
        state = self.start if state is None else state
        for text in texts:
            state = self.step(state, text)[1]
        return state

    def step(self, state: State, text: str) -> tuple[StepJudgement, State]:
        """The finding for one step, and the state after it."""
        claims = read_claims(text, self.names, self.units)
        if claims is None:
            return StepJudgement(ErrorType.UNREADABLE, False, note="not a readable step"), replace(state, answered=False, corrected=False, repeated=False)
        values, answer = dict(state.values), state.answer
        findings = []
        for claim in claims:
            finding = self._answer(values, claim) if claim.answer else self._derivation(values, claim)
            findings.append(finding)
            if finding.value is not None:
                if claim.answer:
                    answer = finding.value
                    if finding.follows:
                        values[self.world.asked] = finding.value
                elif claim.quantity is not None and not self.world.quantities[claim.quantity].given:
                    values[claim.quantity] = finding.value
        summary = findings[0]
        if len(findings) > 1:
            wrong = next((finding for finding in findings if not finding.follows), None)
            summary = wrong or next((finding for finding in findings if finding.error is None), summary)
            summary = replace(summary, true=all(finding.true for finding in findings), repairs=any(finding.repairs for finding in findings))
        after = State(values, answer, any(c.answer for c in claims), any(c.correction for c in claims), summary.error is ErrorType.REDUNDANT)
        return summary, after

    def _answer(self, values: Mapping[int, Number], claim: Claim) -> StepJudgement:
        asked = self.world.asked
        known = values.get(asked)
        if known is None and any(not part.bare for part in claim.chain):
            return replace(self._derivation(values, replace(claim, quantity=asked)), quantity="answer")
        results = [part.value(values) for part in claim.chain]
        value = results[-1]
        true = value == self.world.answer
        error, note = None, ""
        if value is None:
            error, note = ErrorType.UNREADABLE, "the answer has no value"
        elif known is None:
            error, note = ErrorType.PREMATURE_ANSWER, f"{self.world.quantities[asked].name} was never derived"
        elif value != known:
            error, note = ErrorType.PREMATURE_ANSWER, f"{self.world.quantities[asked].name} was stated as {show(known)}"
        elif any(result != value for result in results):
            error, note = ErrorType.ARITHMETIC_SLIP, "the equality does not hold"
        return StepJudgement(error, true, "answer", value, note=note)

    def _derivation(self, values: Mapping[int, Number], claim: Claim) -> StepJudgement:
        index = claim.quantity
        if index is None:
            return StepJudgement(ErrorType.INVENTED_FACT, False, claim.text.partition("=")[0].strip(), note="the problem has no such quantity")
        quantity = self.world.quantities[index]
        results = [part.value(values) for part in claim.chain]
        value = results[-1]
        error, note = self._error(values, claim, index, results)
        true = value is not None and value == quantity.value
        known = values.get(index)
        repairs = error is None and true and known is not None and known != value
        if error is None and (known == value or index not in self.world.needed):
            error, note = ErrorType.REDUNDANT, "known already" if known == value else "not needed for the answer"
        return StepJudgement(error, true, quantity.name, value, repairs, note)

    def _error(self, values: Mapping[int, Number], claim: Claim, index: int, results: Sequence[Number | None]) -> tuple[ErrorType | None, str]:
        """The first of the rules in the module's docstring that applies."""
        quantity = self.world.quantities[index]
        for named in (named for part in claim.chain for named in part.named):
            if named.index is None:
                return ErrorType.INVENTED_FACT, "names a quantity that the problem does not have"
            if named.index == index or (index not in values and index in self.ancestors[named.index]):
                return ErrorType.CIRCULAR, f"derives {quantity.name} from itself"
            if named.index not in values:
                return ErrorType.SKIPPED_DEPENDENCY, f"{self.world.quantities[named.index].name} was never derived"
        if any(result is None for result in results):
            return ErrorType.UNREADABLE, "has no value"
        value = results[-1]
        holds = all(result == value for result in results)
        missing = next((parent for parent in quantity.parents if parent not in values), None)
        shown = next((part for part in claim.chain if not part.bare), None)
        if shown is None:
            if not holds:
                return ErrorType.ARITHMETIC_SLIP, "the equality does not hold"
            if index in values and value == values[index]:
                return None, ""
            if quantity.given:
                return ErrorType.INVENTED_FACT, f"the problem says {quantity.value}"
            if missing is None:
                expected = self.expected(index, values)
                return (None, "") if value == expected else (ErrorType.ARITHMETIC_SLIP, f"what it follows from gives {expected}")
        elif self.equivalent(index, shown, values):
            first = next(result for result in results if result is not None)
            return (None, "") if holds else (ErrorType.ARITHMETIC_SLIP, f"the expression gives {show(first)}")
        if missing is not None:
            return ErrorType.SKIPPED_DEPENDENCY, f"{self.world.quantities[missing].name} was never derived"
        assert shown is not None
        used: list[Number] = [*shown.numerals, *(values[named.index] for named in shown.named if named.index is not None)]
        invented = next((number for number in used if number not in self.numbers and number not in values.values()), None)
        if invented is not None:
            return ErrorType.INVENTED_FACT, f"{show(invented)} is neither in the problem nor derived"
        definition = self.definitions[index]
        if definition is not None:
            right: list[Number] = [*definition.numerals, *(values[parent] for parent in quantity.parents)]
            if _operands(used) == _operands(right):
                return ErrorType.WRONG_OPERATION, f"the numbers of {quantity.name}, combined wrongly"
        return ErrorType.WRONG_OPERAND, f"{quantity.name} does not follow from these numbers"

    def equivalent(self, index: int, shown: Expression, values: Mapping[int, Number]) -> bool:
        """Whether an expression equals a quantity identically under some reading of its numerals (rule 6)."""
        quantity = self.world.quantities[index]
        parents = [values[parent] for parent in quantity.parents if parent in values]
        if len(parents) == len(quantity.parents) and not quantity.given and shown.items == postfix(quantity.operation, parents, quantity.numbers):
            return True  # as the gold solution writes it, the usual case
        goal = self.symbols[index]
        others = [(other, value) for other, value in values.items() if other != index]

        def readings(number: Number) -> list[int]:
            found = {self.symbols[other] for other, value in others if value == number}
            literal = residue_of(number)
            return sorted(found if literal is None else found | {literal})

        return any(residue == goal for residue in shown.residues(readings, self.symbols.__getitem__))


def _literal(number: Number) -> list[int]:
    residue = residue_of(number)
    return [] if residue is None else [residue]


def _operands(numbers: Iterable[Number]) -> Counter[Number]:
    return Counter(number for number in numbers if number not in NEUTRAL)


@lru_cache(maxsize=4096)
def oracle_of(problem: Problem) -> Oracle:
    """The oracle of a problem; those of the last 4,096 problems are kept.

    Raises: InputError for a problem that does not carry its world.
    """
    world = problem.metadata.get("world")
    if not isinstance(world, Mapping):
        raise InputError(f"problem {problem.id!r} has no metadata['world']; the grade-school oracle judges only problems that GradeSchool.problem made")
    return Oracle(World.from_json(world))
