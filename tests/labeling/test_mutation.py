"""PRLCoder: what an edit of a line is labelled comes from the tests, never from what the edit was meant to be."""

from __future__ import annotations

import ast
import asyncio
import random
import sys
from collections.abc import Callable

import pytest

from stepward.core import InputError, Outcome, Problem, Trajectory
from stepward.engine.sandbox import NoSandbox, best_sandbox
from stepward.environments.code import Code
from stepward.labeling.mutation import MutationLabels
from stepward.labeling.program_edits import choose, mutations, refactorings
from stepward.rewards.generative.scripted import Asked, ScriptedJudge

PROGRAM = '''def clamp(x, low, high):
    """Keep x within bounds."""
    if x < low:
        return low

    # above
    if x > high:
        return high
    y = x + 0
    return y
'''


class Judged:
    """An environment whose grade is a function of the program's text."""

    interactive = False
    fingerprint = "judged"

    def __init__(self, verdict: Callable[[str], bool | None]) -> None:
        self.verdict = verdict

    async def observe(self, trajectory: Trajectory) -> Trajectory:
        return trajectory

    def is_finished(self, trajectory: Trajectory) -> bool:
        return trajectory.finished

    def answer(self, trajectory: Trajectory) -> str | None:
        return None

    async def grade(self, trajectory: Trajectory) -> Outcome:
        passed = self.verdict(trajectory.text)
        return Outcome.unscored("cannot tell") if passed is None else Outcome(float(passed))


def lines(program: str, problem: Problem | str = "Write clamp.") -> Trajectory:
    return Trajectory.from_texts(problem, program.rstrip("\n").split("\n"), separator="\n")


def keeps(*wanted: str) -> Callable[[str], bool]:
    """Passes while these texts are in the program."""
    return lambda text: all(part in text for part in wanted)


def test_every_type_of_mutation_is_made_and_changes_the_tree() -> None:
    program = """
def f(xs, n):
    t = 0
    while n > 0 and not xs:
        n -= 1
        if n == 2:
            break
        xs.append(max(n, t * 2))
    return t
"""
    made = mutations(program)
    assert {edit.operator for edit in made} == {
        "comparison", "boundary", "arithmetic", "constant", "variable", "logic", "condition", "return", "statement", "loop", "call", "augmented",
    }  # fmt: skip
    for edit in made:
        changed = edit.apply(program)
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(program)), edit
        assert changed.count("\n") == program.count("\n"), "one line, and no other"
        assert sum(a != b for a, b in zip(changed.split("\n"), program.split("\n"), strict=True)) == 1


def test_docstrings_annotations_messages_and_f_strings_are_left_alone() -> None:
    program = 'def f(x: "int" = 1) -> "str":\n    """A docstring."""\n    raise ValueError("no " + str(1))\n    print(f"{x + 1} é")\n'
    assert [edit.operator for edit in mutations(program)] == ["statement"]


def test_positions_are_right_behind_characters_of_several_bytes() -> None:
    program = "a = 'é日本'; b = 1 + 2\n"
    assert {edit.apply(program) for edit in mutations(program) if edit.operator == "arithmetic"} == {"a = 'é日本'; b = 1 - 2\n"}


def test_refactorings_keep_the_value() -> None:
    """Checked by Python itself on programs without side effects."""
    generator = random.Random(0)
    for _ in range(20):
        a, b = generator.randint(0, 9), generator.randint(0, 9)
        program = f"a = {a}\nb = {b}\nif a < b:\n    c = a\nelse:\n    c = b + {a}\n"
        wanted: dict[str, object] = {}
        exec(program, wanted)
        made = refactorings(program)
        assert {edit.operator for edit in made} == {"flip", "double negation", "parentheses", "sum"}
        for edit in made:
            found: dict[str, object] = {}
            exec(edit.apply(program), found)
            assert found["c"] == wanted["c"], edit


def test_the_choice_is_the_same_for_the_same_seed_and_takes_types_in_turn() -> None:
    made = mutations(PROGRAM)
    assert choose(made, 5, 3) == choose(made, 5, 3)
    kinds = {edit.operator for edit in made}
    assert {edit.operator for edit in choose(made, len(kinds), 0)} == kinds
    assert sorted(choose(made, 10**6, 1), key=repr) == sorted(made, key=repr)


def test_a_line_is_good_when_an_edit_of_it_fails() -> None:
    labeler = MutationLabels(environment=Judged(keeps("if x < low:", "return low", "return y")), per_step=50)
    labels = asyncio.run(labeler.label(lines(PROGRAM)))
    texts = [step.text.strip() for step in lines(PROGRAM).steps]
    assert [text for text, good in zip(texts, labels.hard, strict=True) if good] == ["if x < low:", "return low", "return y"]
    assert labels.semantics == "prefix"
    assert labels.first_error == -1
    assert set(filter(None, labels.reasons)) == {"abstained: no edit of this step fails a test"}
    record = labels.evidence[2][0]
    assert record["intent"] == "mutation"
    assert record["passed"] is False


def test_intent_is_never_believed() -> None:
    """A mutation that passes is a positive example, a refactoring that fails a negative one."""
    labeler = MutationLabels(environment=Judged(keeps("y = x + 0", "if x < low:")), per_step=50, refactorings=5)
    made = asyncio.run(labeler.examples(lines(PROGRAM)))
    by_intent = {(example.metadata["intent"], example.metadata["passed"]) for example in made}
    assert ("refactoring", False) in by_intent
    for example in made:
        assert example.labels is not None
        index, passed = example.metadata["index"], example.metadata["passed"]
        n_steps = len(example.trajectory)
        assert len(example.labels) == n_steps
        assert example.labels.hard == tuple(passed or k < index for k in range(n_steps))
        assert example.labels.first_error == (-1 if passed else index)
        assert keeps("y = x + 0", "if x < low:")(example.trajectory.text) is passed
    indices = {example.metadata["index"] for example in made}
    assert indices == {2, 8}, "where no edit fails the tests say nothing, and survivors are left out"


def test_programs_that_fail_or_cannot_be_tested_are_unlabelled() -> None:
    for verdict, said in ((False, "fails its tests"), (None, "could not be tested: cannot tell")):
        labeler = MutationLabels(environment=Judged(lambda _, verdict=verdict: verdict))
        labels = asyncio.run(labeler.label(lines(PROGRAM)))
        assert labels.n_unlabelled == len(lines(PROGRAM))
        assert said in str(labels.reasons[0])
        assert asyncio.run(labeler.examples(lines(PROGRAM))) == []
    fenced = Trajectory.from_texts("p", ["```python\nx = 1", "y = 2\n```"], separator="\n")
    labels = asyncio.run(MutationLabels(environment=Judged(lambda _: True)).label(fenced))
    assert "one step a line" in str(labels.reasons[0])


def test_a_model_writes_edits_too() -> None:
    def write(asked: Asked) -> str:
        return "Sure:\n```python\nreturn high + 1\n```" if "becomes wrong" in asked.prompt else "    return low"

    labeler = MutationLabels(environment=Judged(keeps("if x < low:")), per_step=1, refactorings=0, writer=ScriptedJudge(write))
    evidence = [record for records in asyncio.run(labeler.label(lines(PROGRAM))).evidence for record in records if record["operator"] == "model"]
    assert {"intent": "mutation", "operator": "model", "step": "        return high + 1", "passed": True} in [dict(record) for record in evidence]
    assert all(record["step"].strip() in ("return high + 1", "return low") for record in evidence)
    assert labeler.fingerprint != MutationLabels(environment=Judged(keeps()), per_step=1, refactorings=0).fingerprint


def test_parameters_are_checked() -> None:
    with pytest.raises(InputError, match="per_step"):
        MutationLabels(environment=Judged(keeps()), per_step=0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox needs Linux")
def test_complete_tests_make_no_label_noise() -> None:
    """Over every input of a small domain, an edit is labelled wrong exactly when the program it makes differs from the original somewhere."""
    try:
        environment = Code(sandbox=best_sandbox(concurrency=2))
    except NoSandbox as error:
        pytest.skip(str(error))
    program = "def f(a, b):\n    if a < b:\n        a = a + b\n    return a * 2 - b\n"
    original: dict[str, Callable[[int, int], int]] = {}
    exec(program, original)
    domain = [(a, b) for a in range(4) for b in range(4)]
    problem = Problem("Write f.", "".join(f"assert f({a}, {b}) == {original['f'](a, b)}\n" for a, b in domain), environment="code")
    made = asyncio.run(MutationLabels(environment=environment, per_step=4, refactorings=1).examples(lines(program, problem)))
    assert len(made) >= 8
    for example in made:
        changed: dict[str, Callable[[int, int], int]] = {}
        exec(example.trajectory.text, changed)  # our own rules made it from our own program

        def equal(a: int, b: int, changed: dict[str, Callable[[int, int], int]] = changed) -> bool:
            try:
                return changed["f"](a, b) == original["f"](a, b)
            except Exception:
                return False

        assert example.metadata["passed"] == all(equal(a, b) for a, b in domain), example.trajectory.text
    environment.close()
