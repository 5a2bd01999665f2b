"""CodeVerifier: code steps decided by execution. Blocks by their own assertions and stated outputs; a finished program by the problem's tests."""

from __future__ import annotations

import ast
import re
import threading
import warnings
from collections.abc import Mapping, Sequence

from stepward.core.errors import RequestFailed
from stepward.engine.sandbox import Limits, NoSandbox, Sandbox, best_sandbox
from stepward.environments.code.program import fenced_python, program_of
from stepward.environments.code.suite import Suite
from stepward.rewards.code.claims import CodeBlock, Stated, read_blocks
from stepward.rewards.code.session import LIMITS, Block, Error, run_blocks
from stepward.rewards.verifiers.verdict import State, Verdict
from stepward.rewards.verifiers.verifier import StepContext

VERSION = 2  # 2: the tester imports nothing from the folder of the program
_FRAGMENTS = ("unexpected indent", "expected an indented block", "outside function", "outside loop", "not properly in loop", "Missing parentheses")
_EXPECTED_TO_FAIL = re.compile(r"\b(?:fails?|wrong|raises?|error|buggy|incorrect)\b", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?\d+\.(\d+)")


class CodeVerifier:
    """Three kinds of claims. *assertion*: a step's own assertions, run after the blocks of earlier steps. *output*: what a step says that its code prints or
    comes to (a block of output, `# -> value`, an interactive session). *tests*: the program of a finished solution against the tests of its problem.

    SUPPORTED: an assertion was reached and held, the output is as stated (numbers to the digits shown), all tests pass. REFUTED, each only when two runs
    agree: a false assertion, another output under every reading, code labelled Python that is none (*syntax*), a failing test. An error at run time is an
    inexact refutation: the block may be meant as an illustration; so is a failing test where the program was written over several steps, since it does not
    say which is wrong. Time and memory limits, missing modules, fragments and input from the keyboard abstain. Code that merely runs supports nothing.

    Code runs in the sandbox only; without one every claim is abstained from, with the remedy as the reason.
    """

    name = "code"

    def __init__(self, *, sandbox: Sandbox | None = None, limits: Limits = LIMITS) -> None:
        self._sandbox, self._limits = sandbox, limits
        self._lock = threading.Lock()

    @property
    def fingerprint(self) -> str:
        """Name, version and the limits where they are not the usual ones."""
        return f"{self.name}/{VERSION}" + ("" if self._limits == LIMITS else f"({self._limits.cpu_s:g}s,{self._limits.memory_mb}MB)")

    def reads(self, context: StepContext) -> bool:
        """The step has a fenced block, or ends a solution whose problem has tests."""
        return "```" in context.text or "~~~" in context.text or _has_tests(context)

    async def verify(self, context: StepContext) -> list[Verdict]:
        """A verdict a claim; see the class. Never raises on any text."""
        try:
            found = await self._blocks(context)
            if _has_tests(context):
                found.append(await self._tests(context))
        except (NoSandbox, RequestFailed) as error:
            return [self._verdict(State.ABSTAIN, "code", context.text[:80], (0, len(context.text)), str(error))]
        return found

    async def _tests(self, context: StepContext) -> Verdict:
        trajectory = context.trajectory
        problem = trajectory.problem
        suite = Suite(tests=problem.answer or "", prompt=problem.prompt)
        result = await suite.settle(self._box(), program_of(problem.prompt, trajectory.text))
        quote, span = context.text[:80], (0, len(context.text))
        if result.state == "passed":
            return self._verdict(State.SUPPORTED, "tests", quote, span, "all tests pass")
        if result.state != "failed":
            return self._verdict(State.ABSTAIN, "tests", quote, span, result.reason)
        alone = not any(fenced_python(step.text) if fenced_python(trajectory.text) else step.text.strip() for step in context.before)
        return self._verdict(State.REFUTED, "tests", quote, span, f"a test fails: {result.reason}", exact=alone, evidence=result.evidence)

    async def _blocks(self, context: StepContext) -> list[Verdict]:
        """Verdicts on the step's own blocks."""
        mine = read_blocks(context.text)
        if not mine:
            return []
        earlier = [block.code for step in context.before for block in read_blocks(step.text)]
        codes = [*earlier, *(block.code for block in mine)]
        ran = await run_blocks(self._box(), codes, echo=len(codes), limits=self._limits)
        if isinstance(ran, str):
            return [self._verdict(State.ABSTAIN, "code", mine[-1].code[:80], mine[-1].span, ran)]
        known = context.problem + "".join(step.text for step in context.before)
        verdicts = [verdict for block, result in zip(mine, ran[len(earlier) :], strict=True) for verdict in self._judge(block, result, known, context.text)]
        if any(verdict.state is State.REFUTED for verdict in verdicts):
            reason = ""
            if any(block.error is not None for block in ran[: len(earlier)]):
                reason = "a block of an earlier step did not run to its end"
            elif await run_blocks(self._box(), codes, echo=len(codes), limits=self._limits) != ran:
                reason = "two runs of the code disagree"
            if reason:
                return [self._verdict(State.ABSTAIN, "code", mine[0].code[:80], mine[0].span, reason)]
        return verdicts

    def _judge(self, block: CodeBlock, result: Block, known: str, text: str) -> list[Verdict]:
        quote = block.code.strip()[:80]
        verdicts = [self._compare(stated, result) for stated in block.stated if result.error is None or result.error.stage == "run"]
        if result.asserts and result.error is None:
            verdicts.append(self._verdict(State.SUPPORTED, "assertion", quote, block.span, f"{result.asserts} assertions hold"))
        if result.error is not None:
            verdicts.append(self._failure(block, result.error, known, text))
        return verdicts or [self._verdict(State.ABSTAIN, "code", quote, block.span, "the code runs and claims nothing that can be checked")]

    def _failure(self, block: CodeBlock, error: Error, known: str, text: str) -> Verdict:
        lines = block.code.split("\n")
        quote = lines[error.line - 1].strip() if 0 < error.line <= len(lines) else block.code.strip()[:80]
        said = f"{error.type}: {error.text}" if error.text else error.type
        around = " ".join(lines[max(0, error.line - 2) : error.line]) + text.replace(block.code, "")
        state, kind, exact, reason = State.REFUTED, "exception", False, said
        if error.stage in ("parse", "compile"):
            kind, exact = "syntax", True
            if not block.labelled or error.stage == "compile" or any(sign in error.text for sign in _FRAGMENTS):
                state, reason = State.ABSTAIN, f"a fragment, or no Python: {said}"
        elif error.type in ("ModuleNotFoundError", "ImportError", "EOFError", "FileNotFoundError", "PermissionError", "SystemExit", "MemoryError", "OSError"):
            state, reason = State.ABSTAIN, f"needs what the sandbox does not have: {said}"
        elif error.asserted and error.type == "AssertionError":
            kind, exact = "assertion", True
        elif error.type == "NameError":
            kind = "name"
            if re.search(rf"\b{re.escape(error.name)}\b", known):
                state, reason = State.ABSTAIN, f"{error.name} is spoken of before, but not as code"
        if state is State.REFUTED and kind != "syntax" and (_EXPECTED_TO_FAIL.search(around) or error.type in around):
            state, reason = State.ABSTAIN, f"{said}; the step may mean it to fail"
        return self._verdict(state, kind, quote, block.span, reason, exact=exact, evidence={"error": said, "line": error.line})

    def _compare(self, stated: Stated, result: Block) -> Verdict:
        """The stated value against every reading of what the code did."""
        readings = _readings(stated, result)
        evidence = {"stated": stated.value[:200], "found": readings[0][:200] if readings else ""}
        if not readings:
            state, reason = State.ABSTAIN, "the line was not reached, or has no value"
        elif any(agrees(stated.value, reading) for reading in readings):
            state, reason = State.SUPPORTED, "as stated"
        elif stated.vague or result.error is not None or not _comparable(stated, readings):
            state, reason = State.ABSTAIN, "what is stated is not exact enough to be compared"
        else:
            state, reason = State.REFUTED, "the code gives something else"
        return self._verdict(state, "output", stated.value[:80], stated.span, reason, evidence=evidence)

    def _box(self) -> Sandbox:
        with self._lock:
            if self._sandbox is None:
                self._sandbox = best_sandbox()
            return self._sandbox

    def _verdict(
        self, state: State, kind: str, text: str, span: tuple[int, int], reason: str, *, exact: bool = True, evidence: Mapping[str, object] | None = None
    ) -> Verdict:
        return Verdict(state=state, verifier=self.name, kind=kind, text=text, span=span, reason=reason, exact=exact, evidence=evidence or {})


def _has_tests(context: StepContext) -> bool:
    problem = context.trajectory.problem
    return problem.environment == "code" and bool(problem.answer) and context.is_last


def _readings(stated: Stated, result: Block) -> list[str]:
    """What the statement could mean: the output or the value of its line; for a block, all output, its end, or the last value."""
    if stated.line:
        lines = [line for line in result.lines if line.line <= stated.line <= line.end]
        if not lines or (stated.name is not None and lines[-1].name != stated.name):
            return []
        return [text for text in (lines[-1].printed, lines[-1].value, lines[-1].shown) if text]
    last = result.lines[-1] if result.lines else None
    values = [text for text in (last.value, last.shown) if text] if last else []
    printed = result.printed.rstrip("\n").split("\n")
    wanted = len(stated.value.strip("\n").split("\n"))
    return [text for text in (result.printed, "\n".join(printed[-wanted:]), *values, result.printed + "\n".join(values[:1])) if text.strip()]


def agrees(stated: str, found: str) -> bool:
    """Equal line by line, spaces aside; or equal as Python values; or a number that rounds, or was cut, to the digits stated."""
    if _words(stated) == _words(found):
        return True
    value, truth = _literal(stated), _literal(found)
    if value is not None and truth is not None and value == truth and type(value) is type(truth):
        return True
    return _to_digits(stated.strip(), truth)


def _to_digits(stated: str, truth: object) -> bool:
    match = _NUMBER.fullmatch(stated)
    if not match or not isinstance(truth, int | float) or isinstance(truth, bool):
        return False
    unit = 10.0 ** -len(match[1])
    return abs(float(stated) - truth) < unit * (1.0 if abs(float(stated)) <= abs(truth) else 0.5 + 1e-9)


def _comparable(stated: Stated, readings: Sequence[str]) -> bool:
    """Whether what is stated is a value and not prose: a Python literal, or a whole block of output."""
    return stated.line == 0 or (_literal(stated.value) is not None and any(_literal(reading) is not None for reading in readings))


def _words(text: str) -> list[list[str]]:
    return [line.split() for line in text.strip().split("\n")]


def _literal(text: str) -> object:
    """The Python literal that a text spells; None where it spells none (or None itself)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value: object = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            return None
    return value
