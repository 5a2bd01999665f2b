"""Where a solution states its final answer, as a span of one step's text. What the answer means is `environments.answers`' matter."""

from __future__ import annotations

from stepward.core import Trajectory
from stepward.data.boxed import BOX, closing_brace, last_boxed
from stepward.environments.answers import extract_answer


def answer_place(trajectory: Trajectory) -> tuple[int, int, int] | None:
    """(step, start, end): the answer is `steps[step].text[start:end]`, in the last step that states one; None when no step does.

    A space directly before the answer belongs to the span, because tokenizers write it together with the word that follows.
    """
    for index in range(len(trajectory) - 1, -1, -1):
        span = answer_span(trajectory.steps[index].text)
        if span is not None:
            return index, *span
    return None


def answer_span(text: str) -> tuple[int, int] | None:
    r"""(start, end) of the answer stated in a text: the inside of its last `\boxed{...}`, else the last place of what `extract_answer` finds."""
    boxed = last_boxed(text)
    answer = boxed if boxed is not None else extract_answer(text)
    if not answer:
        return None
    start = text.rfind(answer)
    if boxed is not None:
        start = next(at for match in reversed(list(BOX.finditer(text))) if (at := _inside(text, match.end(), boxed)) >= 0)
    if start < 0:
        return None
    end = start + len(answer)
    return (start - 1 if start > 0 and text[start - 1] == " " else start), end


def _inside(text: str, start: int, content: str) -> int:
    """Where the content stands in the box whose braces (or, without braces, whose token) begin at `start`; -1 when it is another box's."""
    if text.startswith("{", start):
        close = closing_brace(text, start)
        return -1 if close is None or text[start + 1 : close].strip() != content else text.find(content, start, close)
    return start if text.startswith(content, start) else -1
