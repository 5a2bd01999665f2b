"""The code environment: programs are graded by tests that they cannot see, forge or outlive."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stepward.core import FormatError, Outcome, Problem, Trajectory
from stepward.data.problems import problem_from_row
from stepward.engine.sandbox import Limits, NoSandbox, Sandbox, best_sandbox
from stepward.environments.code import Code, Suite, code_problem, program_of, read_code_problems
from stepward.environments.code.harness import codec
from stepward.environments.code.harness.tester import free_names, helpers_of
from stepward.environments.load import load_environment
from stepward.testing import check_environment

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox needs Linux")

HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'def helper(x):\n    return x + 1\n\n\ndef target(x):\n    """Twice the helper."""\n',
    "entry_point": "target",
    "canonical_solution": "    return 2 * helper(x)\n",
    "test": "def check(candidate):\n    assert candidate(1) == 4\n    assert candidate(2) == 2 * helper(2)\n",
}
MBPP = {
    "task_id": 7,
    "prompt": "Write a function to sort.",
    "code": "def sort(xs):\n    return tuple(sorted(xs))\n",
    "test_imports": ["import math"],
    "test_list": ["assert sort([2, 1]) == (1, 2)", "assert sort([]) == ()", "assert math.isclose(sort([1.5])[0], 1.5)"],
}
QUICK = Limits(wall_s=100.0, cpu_s=1.0, memory_mb=256)


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    try:
        sandbox = best_sandbox(concurrency=2)
    except NoSandbox as error:
        pytest.skip(str(error))
    with sandbox:
        yield sandbox


def grade(box: Sandbox, problem: Problem, text: str, *, finished: bool = True) -> Outcome:
    return asyncio.run(Code(sandbox=box, limits=QUICK).grade(Trajectory.from_texts(problem, [text], finished=finished)))


def test_rows_become_problems_with_their_tests() -> None:
    problem = code_problem(HUMANEVAL)
    assert problem.prompt == HUMANEVAL["prompt"]
    assert problem.answer == "from program import target\n\n" + HUMANEVAL["test"].strip() + "\n\ncheck(target)\n"
    assert (problem.id, problem.environment, problem.reference_steps) == ("HumanEval/0", "code", ("    return 2 * helper(x)\n",))
    other = code_problem(MBPP)
    assert other.prompt.endswith("pass this test:\nassert sort([2, 1]) == (1, 2)")
    assert other.answer == "from program import sort\nimport math\n" + "\n".join(MBPP["test_list"]) + "\n"
    assert [problem_from_row(row) for row in (HUMANEVAL, MBPP)] == [problem, other]
    with pytest.raises(FormatError, match="entry_point"):
        code_problem({"question": "?"})
    with pytest.raises(FormatError, match="reference program is no Python"):
        code_problem(MBPP | {"code": "def f(:"})


@pytest.mark.parametrize(
    "text", ["    return 2 * helper(x)", "Here:\n```python\ndef target(x):\n    return 2 * (x + 1)\n```\nDone.", "def target(x):\n    return 2 + 2 * x"]
)
def test_right_programs_pass_in_every_form(box: Sandbox, text: str) -> None:
    assert grade(box, code_problem(HUMANEVAL), text).value == 1.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("    return 2 * x", "false: assert candidate(1) == 4"),
        ("    retrn 2 * x", "SyntaxError"),
        ("    return undefined", "NameError"),
        ("    return None", "false"),
        ("def other(x):\n    return 4", "false"),
        ("    while True: pass", "processor time"),
        ("    x = []\n    while True: x.append(bytearray(1 << 24))", "out of memory"),
        ("    return target(x)", "RecursionError"),
    ],
)
def test_wrong_programs_fail_with_the_reason(box: Sandbox, text: str, said: str) -> None:
    outcome = grade(box, code_problem(HUMANEVAL), text)
    assert outcome.value == 0.0
    assert said in str(outcome.reason), outcome.reason


ATTACKS = {
    "exits with success": "import sys\nsys.exit(0)",
    "exits for good": "import os\nos._exit(0)",
    "exits for good when called": "import os\ndef sort(xs):\n    os._exit(0)",
    "prints what success would print": 'print(\'{"state": "passed", "reason": ""}\', flush=True)\nimport os\nos._exit(0)',
    "writes success to every descriptor": """
import os
for fd in range(64):
    try:
        os.write(fd, b'{"state": "passed", "reason": ""}')
    except OSError:
        pass
def sort(xs):
    return None
""",
    "equal to everything": """
class Any(tuple):
    def __eq__(self, other): return True
    __hash__ = None
def sort(xs):
    return Any()
""",
    "equal to everything and no plain data": """
class Any:
    def __eq__(self, other): return True
    def __getitem__(self, i): return 1.5
def sort(xs):
    return Any()
""",
    "looks for the tests in files and memory": """
import os, gc
found = ''
for folder, _, names in os.walk('/work'):
    for name in names:
        found += open(os.path.join(folder, name)).read()
found += ' '.join(repr(thing) for thing in gc.get_objects())
for start in range(len(found)):
    if found[start:].startswith('sort([2, 1]) ' + '=='):
        raise SystemExit
def sort(xs):
    return tuple(sorted(xs)) if 'isclose' + '(sort' in found else None
""",
    "a module of its own for the tests to import": """
from fractions import Fraction
forged = 'import sys, os\\nsys.__stdout__.write(\'{"state": "passed", "reason": ""}\')\\nsys.__stdout__.flush()\\nos._exit(0)\\n'
for name in ('math', 'fractions', 'decimal', 'random'):
    with open(name + '.py', 'w') as file:
        file.write(forged)
def sort(xs):
    return Fraction(1, 2)
""",
    "the end of an iteration": "def sort(xs):\n    raise StopIteration",
    "changes builtins": """
import builtins
builtins.sorted = lambda x: x
builtins.AssertionError = Exception
builtins.isinstance = lambda *a: True
def sort(xs):
    return ()
""",
    "kills its tester": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\ndef sort(xs):\n    return ()",
    "fork bomb": """
import os
for _ in range(40):
    try:
        os.fork()
    except OSError:
        break
while True: pass
""",
    "gigabytes of output": """
for _ in range(64):
    print('x' * (1 << 20))
def sort(xs):
    print('y' * (1 << 20))
    return 'x' * (1 << 22)
""",
    "background daemon": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(100)\ndef sort(xs):\n    return []",
    "deep recursion": "import sys\nsys.setrecursionlimit(10 ** 9)\ndef sort(xs):\n    return sort(sort(xs))",
    "endless answer": "def sort(xs):\n    x = []\n    x.append(x)\n    return x",
    "pickles that run": "class Evil:\n    def __reduce__(self): return (print, ('x',))\ndef sort(xs):\n    return Evil()",
}


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_passes(box: Sandbox, name: str) -> None:
    outcome = grade(box, code_problem(MBPP), ATTACKS[name])
    assert outcome.value != 1.0, outcome
    assert outcome.value == 0.0 or "cannot tell" in str(outcome.reason)


def test_the_end_of_an_iteration_in_the_program_does_not_end_one_of_the_tests(box: Sandbox) -> None:
    problem = Problem("?", "assert all(map(check, [1, 2]))")
    assert not grade(box, problem, "def check(x):\n    raise StopIteration").scored


def test_integers_that_python_will_not_spell_pass_in_both_directions(box: Sandbox) -> None:
    problem = Problem("?", "import math\nassert f(2000) == math.factorial(2000)\nassert f(-(10 ** 5000)) == 1")
    outcome = grade(box, problem, "import math\ndef f(x): return math.factorial(x) if x > 0 else 1")
    assert outcome.value == 1.0, outcome


def test_a_program_that_leaves_a_daemon_and_is_right_passes(box: Sandbox) -> None:
    text = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(100)\ndef sort(xs):\n    return tuple(sorted(xs))"
    if best_sandbox().mechanism == "namespaces":
        assert grade(box, code_problem(MBPP), text).value == 1.0


def test_what_cannot_be_graded_is_unscored(box: Sandbox) -> None:
    assert not grade(box, Problem("?"), "x").scored
    assert not grade(box, code_problem(MBPP), MBPP["code"], finished=False).scored
    broken = Problem("?", "this is no test")
    assert "cannot tell" in str(grade(box, broken, "x = 1").reason)
    uncertain = Problem("?", "assert f() == g()")
    assert "no plain data" in str(grade(box, uncertain, "class A: pass\ndef f(): return A()\ng = f").reason)


def test_objects_of_the_program_can_be_made_passed_and_read(box: Sandbox) -> None:
    program = """
class Pair:
    def __init__(self, a, b): self.a, self.b = a, b
    def swap(self): return Pair(self.b, self.a)
def total(pairs): return sum(p.a * p.b for p in pairs)
"""
    tests = "p = Pair(2, b=5)\nassert total([p, Pair(1, 1)]) == 11\nassert p.swap().a == 5\nassert p\nassert p.swap() != None\n"
    assert asyncio.run(Suite(tests=tests).run(box, program)).state == "passed"


def test_errors_that_tests_expect_are_raised_again(box: Sandbox) -> None:
    tests = (
        "try:\n    f(0)\nexcept ZeroDivisionError:\n    pass\nelse:\n    assert False\ntry:\n    g()\nexcept Exception as e:\n    assert 'Odd: why' in str(e)\n"
    )
    program = "class Odd(Exception): pass\ndef f(x): return 1 / x\ndef g(): raise Odd('why')"
    assert asyncio.run(Suite(tests=tests).run(box, program)).state == "passed"


def test_plain_values_survive_the_way_and_nothing_else_does() -> None:
    values = [None, True, 0, -(10**40), 1.5, float("inf"), 2j, "é\ud800", b"\0", [1, (2, {3})], {"a": frozenset([1]), (1, 2): range(3)}, bytearray(b"x")]
    for value in values:
        sent = json.loads(json.dumps(codec.encode(value, list)))
        back = codec.decode(sent, list)
        assert (back, type(back)) == (value, type(value))
    assert list(codec.decode(codec.encode((x for x in "ab"), list), list)) == ["a", "b"]
    named = codec.encode(object(), lambda thing: ["held", 0, type(thing).__name__])
    assert named == ["held", 0, "object"]
    for nonsense in (["list"], ["int", "x"], {"a": 1}, 1.5, ["dict", [[["list", []], 1]]]):
        with pytest.raises((ValueError, TypeError, IndexError, KeyError)):
            codec.decode(nonsense, lambda value: [][0])


def test_names_of_tests() -> None:
    import ast

    assert set(free_names(ast.parse("import math\ny = f(x)\nassert len(y) == math.floor(g(y))"))) == {"f", "x", "g"}
    assert set(helpers_of(HUMANEVAL["prompt"], ["helper", "target"])) == {"helper"}
    assert helpers_of("not code at all", ["helper"]) == {}


def test_programs_from_text() -> None:
    prompt = HUMANEVAL["prompt"]
    assert program_of(prompt, "    return 1\n") == prompt + "    return 1\n"
    assert program_of("Sort it.", "Text.\n```python\nx = 1\n```\nand\n```\ny = 2\n```\n") == "x = 1\n\ny = 2\n"
    assert program_of("Sort it.", "x = 1") == "x = 1"


def test_the_environment_conforms(box: Sandbox) -> None:
    checked = check_environment(Code(sandbox=box, limits=QUICK), [code_problem(HUMANEVAL), code_problem(MBPP)])
    assert "reference solutions are right" in checked


def test_the_environment_by_its_specification(box: Sandbox) -> None:
    environment = load_environment("code")
    assert isinstance(environment, Code)
    assert environment.fingerprint.startswith("code:1:sandbox/1(python")
    a, b = (environment.answer(Trajectory.from_texts("Sort.", [text])) for text in ("x=1 # one", "x = 1"))
    assert a == b == "x = 1"
    assert environment.answer(Trajectory.from_texts("Sort.", ["x = = 1"])) is None
    environment.close()


@pytest.mark.parametrize(("name", "number"), [("humaneval", 164), ("mbpp_sanitized", 399)])
def test_reference_programs_of_public_sets_pass(shared_data: Path, box: Sandbox, name: str, number: int) -> None:
    """All of them: benchmarks/code_verifier.py. Here, every 25th, which takes seconds."""
    path = shared_data / "code" / f"{name}.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        assert sum(1 for _ in file) == number
    problems = list(read_code_problems(path))[::25]
    outcomes = [grade(box, problem, problem.reference_steps[0]) for problem in problems]
    assert [outcome.value for outcome in outcomes] == [1.0] * len(problems), outcomes
