"""PRM800K: human ratings of step candidates (Let's Verify Step by Step, 2023).

Row: {labeler, timestamp, generation, is_quality_control_question, is_initial_screening_question, question, label}, where label.steps
lists for every step its rated `completions`, the labeler's own `human_completion` and which one was chosen to go on from.
Labels are *local*: +1 good, -1 bad, 0 (not wrong, no progress) as `neutral` says. Steps after the first -1 are unlabelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from stepward.core import Example, FormatError, InputError, Problem, StepLabels, Trajectory, canonical_json, content_hash
from stepward.core.labels import NO_ERROR
from stepward.core.record import require, thaw
from stepward.data.hard import AFTER_ERROR, Neutral, check_neutral, hard_rating, is_hard
from stepward.data.rows import OnError, PathLike, Row, read_rows, write_rows
from stepward.data.set_aside import SetAside

Paths = Literal["chosen", "all"]
NAME, SOURCE = "prm800k", "PRM800K"
BY_HUMAN = "written by the labeler"
UNRATED = "not rated"
NEUTRAL = "rated neutral"
_ANSWER = "# Answer"  # begins the last part of a complete solution in this data set


def read(
    path: PathLike, *, paths: Paths = "all", neutral: Neutral = "positive", on_error: OnError = "raise", set_aside: SetAside | None = None
) -> Iterator[Example]:
    """The examples of a PRM800K file; quality-control and screening rows are left out.

    `paths`: "chosen" gives each row's chosen path; "all" then also every other rated candidate, with the chosen steps before it.
    """
    return read_rows(path, lambda row: from_row(row, paths=paths, neutral=neutral), on_error=on_error, set_aside=set_aside)


def write(examples: Iterable[Example], path: PathLike) -> int:
    """Write PRM800K rows; how many. An alternative is written within the row of its chosen path, which must come before it.

    Raises: InputError for an alternative whose chosen path did not come before it.
    """
    return write_rows(_rows(examples), path)


def _rows(examples: Iterable[Example]) -> Iterator[dict[str, Any]]:
    current = ""
    for example in examples:
        main = example.metadata.get(NAME, {}).get("alternative_to")
        if main is None:
            current = example.id
            yield to_row(example)
        elif main != current:
            raise InputError(f"example {example.id!r} is an alternative to {main!r}, which must be written just before it; or write 'normalised'")


def from_row(row: Row, *, paths: Paths = "all", neutral: Neutral = "positive") -> list[Example]:
    """The examples of one row, the chosen path first; it keeps the row in metadata["prm800k"]. None for quality-control and screening rows.

    The chosen path follows `chosen_completion`, or the human completion; where neither exists the first candidate ends it (the
    solution's own step in phase 2).

    Raises: FormatError naming the field.
    """
    check_neutral(neutral)
    if paths not in ("chosen", "all"):
        raise InputError(f"paths must be 'chosen' or 'all', got {paths!r}")
    if require(row, "is_quality_control_question", bool) or require(row, "is_initial_screening_question", bool):
        return []
    question = require(row, "question", dict)
    problem = Problem(_inside(question, "problem", str, "question"), _inside(question, "ground_truth_answer", (str, type(None)), "question", default=None))
    label = require(row, "label", dict)
    finish = _inside(label, "finish_reason", (str, type(None)), "label", default=None)
    identity = content_hash("prm800k", canonical_json(row))

    path: list[_Candidate] = []
    alternatives: list[tuple[str, list[_Candidate]]] = []
    for index, step in enumerate(_inside(label, "steps", list, "label")):
        place = f"label.steps[{index}]"
        candidates, chosen = _candidates(step, place)
        taken = chosen if chosen is not None else next(iter(candidates), None)
        for number, candidate in enumerate(candidates):
            if candidate is not taken and candidate.rating is not None:
                alternatives.append((f"{index}.{number}", [*path, candidate]))
        if taken is None:
            break
        path.append(taken)
        if chosen is None:
            break
    main = _example(problem, path, neutral, identity, finish == "solution", {"row": row})
    if paths == "chosen":
        return [main]
    return [main, *(_example(problem, steps, neutral, f"{identity}/{name}", False, {"alternative_to": identity}) for name, steps in alternatives)]


class _Candidate:
    """One text for a step, with its rating; by_human when the labeler wrote it."""

    def __init__(self, completion: Any, place: str, *, by_human: bool = False) -> None:
        if not isinstance(completion, dict):
            raise FormatError(f"expected an object, got {type(completion).__name__}", field=place)
        self.text: str = _inside(completion, "text", str, place)
        self.rating: int | None = _inside(completion, "rating", (int, type(None)), place, default=None)
        self.by_human = by_human
        if self.rating not in (-1, 0, 1, None):
            raise FormatError(f"must be -1, 0, 1 or null, got {self.rating!r}", field=f"{place}.rating")


def _candidates(step: Any, place: str) -> tuple[list[_Candidate], _Candidate | None]:
    if not isinstance(step, dict):
        raise FormatError(f"expected an object, got {type(step).__name__}", field=place)
    completions = _inside(step, "completions", (list, type(None)), place) or []
    candidates = [_Candidate(completion, f"{place}.completions[{number}]") for number, completion in enumerate(completions)]
    chosen = _inside(step, "chosen_completion", (int, type(None)), place, default=None)
    human = _inside(step, "human_completion", (dict, type(None)), place, default=None)
    if chosen is not None:
        if not 0 <= chosen < len(candidates):
            raise FormatError(f"must be an index into {len(candidates)} completions, got {chosen}", field=f"{place}.chosen_completion")
        return candidates, candidates[chosen]
    return candidates, None if human is None else _Candidate(human, f"{place}.human_completion", by_human=True)


def _inside(row: Row, field: str, kinds: type | tuple[type, ...], place: str, **default: Any) -> Any:
    """`require` for a nested field, named by its full place; with a default the field may be absent."""
    try:
        return require({field: default["default"], **row} if default else row, field, kinds)
    except FormatError as error:
        raise FormatError(error.reason, field=f"{place}.{field}") from error


def _example(problem: Problem, path: Sequence[_Candidate], neutral: Neutral, identity: str, finished: bool, metadata: dict[str, Any]) -> Example:
    hard: list[bool | None] = []
    reasons: list[str | None] = []
    first_error: int | None = NO_ERROR
    after_minus = False
    for index, candidate in enumerate(path):
        good = None if after_minus or candidate.by_human else hard_rating(candidate.rating, neutral)
        hard.append(good)
        if good is None:
            reasons.append(AFTER_ERROR if after_minus else BY_HUMAN if candidate.by_human else UNRATED if candidate.rating is None else NEUTRAL)
        else:
            reasons.append(None)
        if first_error == NO_ERROR:
            if good is False:
                first_error = index
            elif reasons[-1] == UNRATED:
                first_error = None
        after_minus = after_minus or (not candidate.by_human and candidate.rating == -1)
    values = [float("nan") if good is None else float(good) for good in hard]
    labels = StepLabels(
        values=values,  # type: ignore[arg-type]  # becomes an array
        semantics="local",
        hard=tuple(hard),
        first_error=first_error,
        reasons=tuple(reasons),
        source={"labeler": "human", "neutral": neutral},
    )
    ended = finished or bool(path and _ANSWER in path[-1].text)
    trajectory = Trajectory.from_texts(problem, [candidate.text for candidate in path], separator="\n", finished=ended)
    return Example(trajectory, labels, id=identity, source=SOURCE, metadata={NAME: metadata})


def to_row(example: Example) -> dict[str, Any]:
    """The row of a chosen path. An example read from PRM800K gives its own row; another one gets one rated completion a step.

    Raises: InputError for labels that are not hard and local, or a path that was changed since it was read.
    """
    labels, trajectory = example.labels, example.trajectory
    original = example.metadata.get(NAME, {}).get("row")
    if original is not None:
        row: dict[str, Any] = thaw(original)
        source = {} if labels is None else labels.source
        if labels is None or from_row(row, paths="chosen", neutral=source.get("neutral", "positive"))[0] != example:
            raise InputError(f"example {example.id!r} was changed since it was read; drop its metadata {NAME!r} to write it anew")
        return row
    if labels is None or labels.semantics != "local" or not is_hard(labels):
        raise InputError(f"example {example.id!r}: PRM800K needs hard local labels; write 'stepwise' for others")
    return {
        "labeler": "",
        "timestamp": "",
        "generation": None,
        "is_quality_control_question": False,
        "is_initial_screening_question": False,
        "question": {"problem": trajectory.problem.prompt, "ground_truth_answer": trajectory.problem.answer},
        "label": {
            "steps": [
                {
                    "completions": [{"text": step.text, "rating": None if good is None else 1 if good else -1, "flagged": False}],
                    "human_completion": None,
                    "chosen_completion": 0,
                }
                for step, good in zip(trajectory.steps, labels.hard, strict=True)
            ],
            "total_time": 0,
            "finish_reason": "found_error" if labels.first_error not in (None, NO_ERROR) else "solution" if trajectory.finished else "give_up",
        },
    }
