"""What the tests of judges share: solutions whose steps say whether they are right, and scripted judges that believe them, or err with a known chance."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Sequence

from stepward.core import RewardModel, StepScores, Trajectory
from stepward.rewards.generative import JUDGES, load_judge
from stepward.rewards.generative.scripted import Asked, ScriptedJudge, TellingJudge, Writer

RUBRIC = [{"name": "right", "text": "It is right.", "weight": 3}, {"name": "short", "text": "It is short."}]
PER_STEP = ("genprm", "r-prm", "stepwiser", "rubric", "principle")
_STEP = re.compile(r"\b(good|bad)(?:-\w+)?\b")
_JUDGED = {
    "r-prm": ("\nNow Step: ", "\nPlease carefully"),
    "stepwiser": ("\nNew Reasoning Chunk: ", "\n\nOutput format:"),
    "rubric": ("[To Be Judged]\n\n", "[Rubric]\n\n"),
    "principle": ("[The Begin of Response 1]", "[The End of Response 1]"),
    "thinkprm": ("[Solution]", "Review and critique"),
    "critic": ("[Solution]", "Your task is"),
    "one-pass": ("[Solution]", "Everything inside"),
    "fover-gen": ("[Solution]", "Your task is"),
}


def solution(*texts: str, problem: str = "What is 1 + 1?") -> Trajectory:
    return Trajectory.from_texts(problem, list(texts))


def believed(kind: str, asked: Asked) -> list[bool]:
    """What the steps that are to be judged say of themselves."""
    if kind == "genprm":
        shown = (asked.prompt + asked.written).split("[Next Paragraph]")[-1].split("[Critique]")[0]
    else:
        begin, end = _JUDGED[kind]
        shown = asked.prompt.split(begin)[-1].split(end)[0]
    return [match.group(1) == "good" for match in _STEP.finditer(shown)]


def truthful(kind: str, *, error: float = 0.0) -> Writer:
    """A judge of this kind that says what the steps say of themselves, each verdict flipped with probability `error`."""

    def write(asked: Asked) -> str:
        verdicts = [truth ^ (asked.chance(f"flip {index}") < error) for index, truth in enumerate(believed(kind, asked))]
        return FORMATS[kind](asked, verdicts)

    return write


def _lines(verdicts: Sequence[bool], noun: str, good: str, bad: str) -> str:
    return "\n\n".join(f"{noun} {number}: looked at. \\boxed{{{good if verdict else bad}}}" for number, verdict in enumerate(verdicts, 1))


def _genprm(asked: Asked, verdicts: Sequence[bool]) -> str:
    """Analysis, code, then the judgement; what follows the code is an output that it makes up."""
    turn = asked.written[asked.written.rfind("<analyze>") :]
    verdict = "Yes" if verdicts and verdicts[-1] else "No"
    if turn.endswith("\\boxed"):
        return "{" + verdict + "}$\n</output>\n"
    if "[Code Output]" in turn:
        return f"The output agrees.\n</verify>\n<output>\n**Judgement**: $\\boxed{{{verdict}}}$\n</output>\n"
    if "<verify>" in turn:
        return "print(1 + 1)\n```\n[Code Output]\n\n```\nINVENTED\n```\n</verify>\n"
    return "It seems so.\n</analyze>\nMore than was asked for.\n\nAnd more."


FORMATS: dict[str, Callable[[Asked, Sequence[bool]], str]] = {
    "thinkprm": lambda _, v: _lines(v, "Step", "correct", "incorrect") + f"\n\nIs the solution correct? {'Yes' if all(v) else 'No'}",
    "one-pass": lambda _, v: _lines(v, "Step", "correct", "incorrect"),
    "fover-gen": lambda _, v: " ".join(f"** Step {n} ** fine <step_{n}>{'correct' if ok else 'incorrect'}</step_{n}>" for n, ok in enumerate(v, 1)),
    "critic": lambda _, v: f"I read it.\n\nThe index is \\boxed{{{list(v).index(False) if not all(v) else -1}}}",
    "r-prm": lambda _, v: f"Analysis:\n\nVerification: Is the step correct (Yes/No)? {'Yes' if v and v[-1] else 'No'}",
    "stepwiser": lambda _, v: f"1. Analysis: x\n2. Final Judgment: \\boxed{{{'Positive' if v and v[-1] else 'Negative'}}}",
    "rubric": lambda _, v: _lines([bool(v and v[-1]), True], "Criterion", "Yes", "No"),
    "principle": lambda _, v: f"Specific Criteria: none.\nAnalysis: x\nScores: \\boxed{{{10 if v and v[-1] else 1}}}",
    "genprm": _genprm,
}


def judge(kind: str, writer: Writer | None = None, **options: object) -> RewardModel:
    """A judge of this kind on a scripted policy, truthful unless told otherwise."""
    extra = {"rubric": RUBRIC} if kind == "rubric" else {}
    return load_judge(kind, ScriptedJudge(writer or truthful(kind)), **{**extra, **options})


def telling(writer: Writer, share: Callable[[Asked], float], mass: float = 1.0) -> TellingJudge:
    """A judge that tells odds: the first word has probability share * mass, the second the rest of the mass."""

    def tell(asked: Asked, choices: Sequence[str]) -> list[float]:
        p = share(asked)
        return [math.log(mass * p), math.log(mass * (1.0 - p))][: len(choices)]

    return TellingJudge(writer, tell)


def score(model: RewardModel, trajectory: Trajectory) -> StepScores:
    return asyncio.run(model.score(trajectory))


ALL = tuple(JUDGES)
