"""tools:code: what a step says of its code is decided by running it; what cannot be told is abstained from."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

import pytest

from stepward.core import Problem, Trajectory
from stepward.engine.sandbox import Limits, NoSandbox, Sandbox, best_sandbox
from stepward.environments.code import code_problem
from stepward.rewards.code import CodeVerifier, SandboxedPython
from stepward.rewards.code.claims import read_blocks
from stepward.rewards.code.verifier import agrees
from stepward.rewards.generative import load_judge
from stepward.rewards.generative.genprm import GenPRM
from stepward.rewards.generative.scripted import Asked, ScriptedJudge
from stepward.rewards.verifiers import State, StepContext, StepVerdict, combine, load_verifier

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox needs Linux")


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    try:
        sandbox = best_sandbox(concurrency=2)
    except NoSandbox as error:
        pytest.skip(str(error))
    with sandbox:
        yield sandbox


def judge(box: Sandbox, *steps: str, problem: Problem | str = "Write a program.") -> StepVerdict:
    """The verdict on the last step."""
    trajectory = Trajectory.from_texts(problem, list(steps))
    verifier = CodeVerifier(sandbox=box, limits=Limits(wall_s=20.0, cpu_s=1.0, memory_mb=256))
    return combine(asyncio.run(verifier.verify(StepContext(trajectory, len(steps) - 1))))


def python(code: str) -> str:
    return f"So:\n```python\n{code}\n```\n"


DEFINED = python("def double(x):\n    return 2 * x")


@pytest.mark.parametrize(
    ("steps", "state", "kind"),
    [
        ((python("assert sum([1, 2]) == 3"),), State.SUPPORTED, None),
        ((python("assert sum([1, 2]) == 4"),), State.REFUTED, "assertion"),
        ((DEFINED, python("assert double(4) == 8")), State.SUPPORTED, None),
        ((DEFINED, python("assert double(4) == 9")), State.REFUTED, "assertion"),
        ((python("print(6 * 7)") + "\nOutput:\n```\n42\n```",), State.SUPPORTED, None),
        ((python("print(6 * 7)") + "\nOutput:\n```\n43\n```",), State.REFUTED, "output"),
        ((python("print(6 * 7)") + "Output: 42",), State.SUPPORTED, None),
        ((python("print(6 * 7)") + "Output: `41`",), State.REFUTED, "output"),
        ((python("x = 3 ** 2  # x = 9"),), State.SUPPORTED, None),
        ((python("x = 3 ** 2  # x = 6"),), State.REFUTED, "output"),
        ((python("sorted('ba')  # -> ['a', 'b']"),), State.SUPPORTED, None),
        ((python("sorted('ba')  # -> ['b', 'a']"),), State.REFUTED, "output"),
        ((python("2 / 3  # => 0.67"),), State.SUPPORTED, None),
        ((python("2 / 3  # => 0.66"),), State.SUPPORTED, None),
        ((python("2 / 3  # => 0.68"),), State.REFUTED, "output"),
        ((python(">>> len('abc')\n3\n>>> 'a' * 2\n'aa'"),), State.SUPPORTED, None),
        ((python(">>> len('abc')\n4"),), State.REFUTED, "output"),
        ((python("def f(:\n    return 1"),), State.REFUTED, "syntax"),
        ((python("x = 1"),), State.ABSTAIN, None),
        ((python("f(2)  # -> a list of the first two"),), State.ABSTAIN, None),
        ((python("return 5"),), State.ABSTAIN, None),
        ((python("    x = 1\n  y = 2"),), State.ABSTAIN, None),
        ((python("print 'x'"),), State.ABSTAIN, None),
        (("```\nfor x in y do\n```",), State.ABSTAIN, None),
        ((python("import no_such_module"),), State.ABSTAIN, None),
        ((python("x = int(input())\nassert x == 1"),), State.ABSTAIN, None),
        ((python("while True: pass"),), State.ABSTAIN, None),
        ((python("import os; os._exit(0)"),), State.ABSTAIN, None),
        ((python("x = bytearray(1 << 40)\nassert not x"),), State.ABSTAIN, None),
        ((python("import random\nassert random.random() == 2"),), State.REFUTED, "assertion"),
        ((python("import time, os\nassert os.urandom(8)[0] == 256, time.time()"),), State.ABSTAIN, None),
        ((python("undefined_name + 1"),), State.ABSTAIN, None),
        ((python("assert 1 == 2  # fails, as it should"),), State.ABSTAIN, None),
        (("No code here: 2 + 2 = 5.",), State.ABSTAIN, None),
        ((python("1 / 0"), python("assert False")), State.ABSTAIN, None),
    ],
)  # fmt: skip
def test_claims_about_code(box: Sandbox, steps: tuple[str, ...], state: State, kind: str | None) -> None:
    verdict = judge(box, *steps)
    assert verdict.state is state, verdict
    assert verdict.kind == kind


def test_errors_at_run_time_are_doubts_and_no_vetoes(box: Sandbox) -> None:
    verdict = judge(box, python("undefined_name + 1"))
    assert [found.kind for found in verdict.doubts] == ["name"]
    spoken = judge(box, python("print(table)"), problem="The table is given.")
    assert spoken.doubts == ()


def test_a_verdict_says_where_and_what(box: Sandbox) -> None:
    text = python("x = 3 ** 2  # x = 6")
    (found,) = judge(box, text).deciding
    assert text[found.span[0] : found.span[1]] == "6" == found.text
    assert dict(found.evidence) == {"stated": "6", "found": "9"}
    assert judge(box, python("assert 2 > 3")).deciding[0].text == "assert 2 > 3"


def test_numbers_agree_to_the_digits_stated() -> None:
    assert agrees("0.667", "0.6666666")
    assert agrees("0.666", "0.6666666")
    assert not agrees("0.668", "0.6666666")
    assert not agrees("1.0", "True")
    assert agrees("[1,2]", "[1, 2]")
    assert agrees("a  b \n c", "a b\nc\n")
    assert not agrees("(1, 2)", "[1, 2]")


def test_blocks_of_output_are_no_code() -> None:
    (block,) = read_blocks("```python\nprint(1)\n```\nIt prints:\n```\n1\n```\n")
    assert [stated.value for stated in block.stated] == ["1\n"]
    assert read_blocks("```bash\nls\n```") == []
    assert len(read_blocks(python("x = 1") + python("y = 2"))) == 2


ADD = {
    "task_id": 1,
    "prompt": "Add two numbers.",
    "code": "def add(a, b):\n    return a + b\n",
    "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"],
}


def test_a_finished_program_is_tested(box: Sandbox) -> None:
    problem = code_problem(ADD)
    assert judge(box, ADD["code"], problem=problem).state is State.SUPPORTED  # type: ignore[arg-type]
    wrong = judge(box, "def add(a, b):\n    return a - b\n", problem=problem)
    assert (wrong.state, wrong.kind) == (State.REFUTED, "tests")
    assert dict(wrong.deciding[0].evidence) == {"test": "assert add(1, 2) == 3", "call": "add(1, 2)", "returned": "-1"}
    in_parts = judge(box, "def add(a, b):", "    return a - b", problem=problem)
    assert in_parts.state is State.ABSTAIN, "one outcome does not say which of several steps is wrong"
    assert [found.kind for found in in_parts.doubts] == ["tests"]
    open_end = Trajectory.from_texts(problem, ["def add(a, b):\n    return a - b\n"], finished=False)
    assert not CodeVerifier(sandbox=box).reads(StepContext(open_end, 0))


def test_without_a_sandbox_code_is_abstained_from_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Sandbox:
        raise NoSandbox("no sandbox works here; Remedies: ...")

    monkeypatch.setattr("stepward.rewards.code.verifier.best_sandbox", refuse)
    verdict = combine(asyncio.run(CodeVerifier().verify(StepContext(Trajectory.from_texts("p", [python("assert 1")]), 0))))
    assert verdict.state is State.ABSTAIN
    assert "Remedies" in verdict.reason


def test_the_verifier_has_its_name() -> None:
    verifier = load_verifier("code")
    assert (verifier.name, verifier.fingerprint) == ("code", "code/2")


def test_judges_code_runs_in_the_sandbox_with_what_ran_before(box: Sandbox) -> None:
    executor = SandboxedPython(box)
    assert asyncio.run(executor.run("print(x + 1)", before=["x = 41", "print('not shown')"])) == "42\n"
    assert asyncio.run(executor.run("print('so far')\n1 / 0")) == "so far\nZeroDivisionError: division by zero\n"
    assert asyncio.run(executor.run("def f(:")) == "SyntaxError: invalid syntax\n"
    assert asyncio.run(executor.run("import os; os._exit(0)")).startswith("Error: the code ended its own process")
    assert len(asyncio.run(executor.run("print('x' * 10000)"))) == 2003


def test_genprm_shows_the_judge_what_its_code_printed(box: Sandbox) -> None:
    """The judge believes what the code says: 17 * 3 is 51."""

    def write(asked: Asked) -> str:
        turn = asked.written[asked.written.rfind("<analyze>") :]
        if "<verify>" not in turn:
            return "Let me compute it.\n</analyze>"
        if "[Code Output]" not in turn:
            return "print(17 * 3)\n```\n"
        verdict = "Yes" if "51" in turn.partition("[Code Output]")[2] else "No"
        return f"</verify>\n<output>\n**Judgement**: $\\boxed{{{verdict}}}$\n</output>\n"

    found = asyncio.run(GenPRM(ScriptedJudge(write), executor=SandboxedPython(box)).score(Trajectory.from_texts("17 * 3?", ["It is 51."])))
    assert found.values.tolist() == [1.0]
    assert "51" in str(found.rationales[0])
    by_name = load_judge("genprm", ScriptedJudge(write), executor="sandbox")
    assert "[not executed]" not in str(asyncio.run(by_name.score(Trajectory.from_texts("17 * 3?", ["It is 51."]))).rationales[0])
