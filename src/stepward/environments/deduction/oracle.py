"""Oracle: the exact correctness and error type of every step of any solution that loosely follows the step style.

What is read (see `claims`): a step cites statements and concludes one ("Since A and B, C.", "A and B, so C.", "C because A and B."), or states
some one after another, or takes one back ("Correction: it does not follow that C."), or gives the verdict ("So the statement is true."). Case, spaces,
plurals and words such as "therefore" do not matter. A step's finding is that of its first wrong claim.

What is known: the facts and rules of the problem, whatever a step says of them, then every statement that a step has concluded, right or wrong.
A step that concludes the opposite of an earlier conclusion, or takes it back, removes that and everything that was concluded from it.

A conclusion C is judged by the first rule that applies. A sentence that cites nothing and states something known restates it: it counts as
cited by what the same step concludes after it.

1. circular: C is not known, and it cites something that is not known either and that is C itself, or can only be reached through C: chaining from
   the problem's facts does not reach it when C may not be used, and chaining from C does.
2. missing_premise: it cites something that is neither in the problem nor concluded before.
3. invalid_inference: what it cites contradicts itself.
4. C is entailed by what it cites: the step follows.
5. wrong_polarity: the opposite of C is entailed by what it cites.
6. missing_premise: C is entailed by the problem, but not by what the step cites.
7. invalid_inference.

The verdict must repeat what is known of the question: it is premature_answer when neither the question nor its opposite is known, and
wrong_polarity when it contradicts what is known, whatever the truth. A retraction follows when the statement was concluded and is not entailed by the
problem; else it is an invalid_inference.

A step that follows is redundant when C was known already, and irrelevant when C has no bearing on the question: no chain of rules leads from it to
the statement asked about or to its opposite. Both are correct.

Views: `follows` (local) asks for no error given what was stated, so a step that rightly uses an earlier wrong conclusion follows; `true` asks
for entailment by the problem; `correct` asks for both; the prefix view is wrong from the first step that does not follow onward, repaired or not.
Entailment is decided by `prover`, which is sound and complete here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

from stepward.core.errors import InputError
from stepward.core.problem import Problem
from stepward.environments.deduction.claims import Claim, read_claims
from stepward.environments.deduction.judgement import ErrorType, StepJudgement
from stepward.environments.deduction.prover import consistent, entails, follows_through, forced
from stepward.environments.deduction.statement import Literal, Statement, negated
from stepward.environments.deduction.world import World
from stepward.environments.judgement import Judgement, judge


@dataclass(frozen=True)
class State:
    """What a prefix has stated. `concluded`: every statement that was concluded and not taken back, in order, with the earlier conclusions it cites.

    `answer`: the last verdict. `answered`, `corrected`: the last step gave the verdict, announced a correction.
    """

    concluded: Mapping[Statement, tuple[Statement, ...]]
    answer: bool | None = None
    answered: bool = False
    corrected: bool = False

    def conclude(self, statement: Statement, cited: tuple[Statement, ...]) -> State:
        """The state after one more conclusion; its opposite and what rests on that go. A statement that is there already stays as it is."""
        if statement in self.concluded:
            return self
        opposite = statement.opposite
        kept = self.without(opposite) if opposite is not None and opposite in self.concluded else self.concluded
        return replace(self, concluded={**kept, statement: tuple(one for one in cited if one in kept)})

    def without(self, statement: Statement) -> dict[Statement, tuple[Statement, ...]]:
        """What is left when a conclusion is taken back."""
        gone = {statement}
        kept: dict[Statement, tuple[Statement, ...]] = {}
        for concluded, cited in self.concluded.items():  # what a conclusion rests on comes before it
            if concluded in gone or not gone.isdisjoint(cited):
                gone.add(concluded)
            else:
                kept[concluded] = cited
        return kept


@dataclass(frozen=True)
class Oracle:
    """The judge of one world."""

    world: World
    _truth: dict[Statement, bool] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def given(self) -> frozenset[Statement]:
        """What the problem says."""
        return frozenset(self.world.statements)

    @property
    def start(self) -> State:
        """The state before the first step."""
        return State({})

    def true(self, statement: Statement) -> bool:
        """Whether the problem entails a statement."""
        known = self._truth.get(statement)
        if known is None:
            known = self._truth[statement] = entails(self.world.statements, statement)
        return known

    def known(self, state: State, statement: Statement) -> bool:
        return statement in self.given or statement in state.concluded

    @cached_property
    def relevant(self) -> frozenset[Literal]:
        """The literals from which clauses lead to the question or its opposite: going back from these two, in every clause that holds one of the
        literals found the opposites of the others."""
        question = self.world.question
        found = {literal for (word, _) in question.literals for literal in ((word, True), (word, False))}
        while True:
            before = len(found)
            for clause in (statement.literals for statement in self.world.statements if statement.who in ("", question.who)):
                for literal in clause & found:
                    found.update(negated(other) for other in clause - {literal})
            if len(found) == before:
                return frozenset(found)

    def judge(self, texts: Iterable[str]) -> Judgement[StepJudgement]:
        """The finding for every step of a solution."""
        return judge(self.step, self.start, texts, truth=self.world.answer, environment="deduction")

    def read(self, texts: Iterable[str], state: State | None = None) -> State:
        """The state after some steps."""
        state = self.start if state is None else state
        for text in texts:
            state = self.step(state, text)[1]
        return state

    def step(self, state: State, text: str) -> tuple[StepJudgement, State]:
        """The finding for one step, and the state after it."""
        claims = read_claims(text)
        state = replace(state, answered=False, corrected=False)
        if claims is None:
            return StepJudgement(ErrorType.UNREADABLE, False, note="not a readable step"), state
        findings: list[StepJudgement] = []
        said: list[Statement] = []
        for claim in claims:
            finding, state = self._claim(state, claim, tuple(said))
            findings.append(finding)
            if claim.kind == "statement" and finding.statement is not None:
                said.append(finding.statement)
        summary = findings[0]
        if len(findings) > 1:
            wrong = next((finding for finding in findings if not finding.follows), None)
            kept = [finding for finding in findings if finding.error is not ErrorType.REDUNDANT] or findings
            summary = wrong or next((finding for finding in kept if finding.error is None), kept[0])
            summary = replace(summary, true=all(finding.true for finding in findings), repairs=any(finding.repairs for finding in findings))
        return summary, replace(state, corrected=any(claim.correction for claim in claims))

    def _claim(self, state: State, claim: Claim, said: tuple[Statement, ...]) -> tuple[StepJudgement, State]:
        if claim.verdict is not None:
            return self._verdict(state, claim.verdict), replace(state, answer=claim.verdict, answered=True)
        statement = claim.statement
        assert statement is not None
        if claim.kind == "retraction":
            return self._retraction(state, statement)
        if claim.kind == "statement":
            if self.known(state, statement):
                return StepJudgement(ErrorType.REDUNDANT, self.true(statement), statement, note="known already"), state
            claim = replace(claim, cited=said)
        return self._conclusion(state, claim.cited, statement)

    def _verdict(self, state: State, verdict: bool) -> StepJudgement:
        world = self.world
        question, opposite = world.question, world.question.opposite
        assert opposite is not None
        true = verdict == world.answer
        stated = question if verdict else opposite
        if self.known(state, stated):
            return StepJudgement(None, true, None, verdict)
        if self.known(state, opposite if verdict else question):
            return StepJudgement(ErrorType.WRONG_POLARITY, true, None, verdict, note="the opposite was concluded")
        return StepJudgement(ErrorType.PREMATURE_ANSWER, true, None, verdict, note="neither the statement nor its opposite was concluded")

    def _retraction(self, state: State, statement: Statement) -> tuple[StepJudgement, State]:
        if statement not in state.concluded:
            return StepJudgement(ErrorType.INVALID_INFERENCE, True, statement, note="nothing to take back: it was not concluded"), state
        after = replace(state, concluded=state.without(statement))
        if self.true(statement):
            return StepJudgement(ErrorType.INVALID_INFERENCE, False, statement, note="it does follow"), after
        return StepJudgement(None, True, statement, repairs=True), after

    def _conclusion(self, state: State, cited: tuple[Statement, ...], statement: Statement) -> tuple[StepJudgement, State]:
        error, note = self._error(state, cited, statement)
        true = self.true(statement)
        opposite = statement.opposite
        repairs = error is None and true and opposite is not None and opposite in state.concluded
        if error is None:
            if self.known(state, statement):
                error, note = ErrorType.REDUNDANT, "known already"
            elif statement.who != self.world.question.who or self.relevant.isdisjoint(statement.literals):
                error, note = ErrorType.IRRELEVANT, "has no bearing on the question"
        after = state
        if statement not in self.given and opposite not in self.given:
            after = state.conclude(statement, cited)
        return StepJudgement(error, true, statement, repairs=repairs, note=note), after

    def _error(self, state: State, cited: tuple[Statement, ...], statement: Statement) -> tuple[ErrorType | None, str]:
        """The first of the rules in the module's docstring that applies."""
        unknown = [one for one in cited if not self.known(state, one)]
        if statement in unknown:
            return ErrorType.CIRCULAR, "cites what it concludes"
        if unknown and not self.known(state, statement) and any(self._needs(one, statement) for one in unknown):
            return ErrorType.CIRCULAR, "cites something that can only be reached through the conclusion"
        if unknown:
            return ErrorType.MISSING_PREMISE, "cites something that is neither in the problem nor concluded before"
        if not consistent(cited):
            return ErrorType.INVALID_INFERENCE, "what it cites contradicts itself"
        if entails(cited, statement):
            return None, ""
        opposite = statement.opposite
        if opposite is not None and entails(cited, opposite):
            return ErrorType.WRONG_POLARITY, "the opposite follows from what it cites"
        if self.true(statement):
            return ErrorType.MISSING_PREMISE, "follows from the problem, but not from what it cites"
        return ErrorType.INVALID_INFERENCE, "does not follow from what it cites"

    def _needs(self, cited: Statement, conclusion: Statement) -> bool:
        """Whether a cited statement can be reached through the conclusion and not without it; both of one literal about one individual."""
        if not cited.who or cited.who != conclusion.who or len(cited.literals) != 1 or len(conclusion.literals) != 1:
            return False
        ((target,), (through,)) = (tuple(cited.literals), tuple(conclusion.literals))
        clauses = [one.literals for one in self.world.statements if one.who in ("", cited.who)]
        units = {next(iter(clause)) for clause in clauses if len(clause) == 1}
        without = forced(clauses, units, never=(through,))
        return target not in without and target in follows_through(clauses, without, through)


@lru_cache(maxsize=4096)
def oracle_of(problem: Problem) -> Oracle:
    """The oracle of a problem; those of the last 4,096 problems are kept.

    Raises: InputError for a problem that does not carry its world.
    """
    world = problem.metadata.get("world")
    if not isinstance(world, Mapping):
        raise InputError(f"problem {problem.id!r} has no metadata['world']; the deduction oracle judges only problems that Deduction.problem made")
    return Oracle(World.from_json(world))


def wrong_statements(oracle: Oracle, state: State) -> list[Statement]:
    """What was concluded, still stands and is not entailed by the problem; in the order of its statement."""
    return [statement for statement in state.concluded if not oracle.true(statement)]
