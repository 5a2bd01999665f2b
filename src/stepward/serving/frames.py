"""Frames: the marks that chat templates put around turns, for clients that send rendered conversations instead of problems and steps."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Frame:
    """`user` and `assistant` open a turn, `end` closes one; `opens` is how the first mark of a conversation begins, a system's included."""

    opens: str
    user: str
    assistant: str
    end: str


FRAMES = {
    "chatml": Frame("<|im_start|>", "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>"),
    "llama3": Frame("<|start_header_id|>", "<|start_header_id|>user<|end_header_id|>\n\n", "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"),
    "deepseek": Frame("<｜", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
    "mistral": Frame("[INST]", "[INST]", "[/INST]", "</s>"),
}
END_MARKS = (*(frame.end for frame in FRAMES.values()), "<|endoftext|>", "<|end_of_text|>")
_FIRST_STEP = re.compile(r"(?<!\S)Step 1:")


def find_frame(text: str, name: str = "auto") -> Frame | None:
    """The named frame; with "auto" the one that the text comes to first, of those whose user mark occurs in it; None for "plain" or when there is none."""
    if name == "auto":
        return min((frame for frame in FRAMES.values() if frame.user in text), key=lambda frame: text.find(frame.opens), default=None)
    return FRAMES.get(name)


def problem_of(prompt: str, frame: Frame | None) -> str:
    """What the last user turn of a rendered prompt says; the whole prompt without a frame, or where the frame does not occur. White space around is dropped."""
    if frame is None or frame.user not in prompt:
        return prompt.strip()
    turn = prompt.rpartition(frame.user)[2]
    cuts = [at for at in (turn.find(frame.end), turn.find(frame.assistant)) if at >= 0]
    return turn[: min(cuts, default=len(turn))].strip()


def without_end_marks(text: str) -> str:
    """The text without the end-of-turn marks and the white space behind it."""
    end, found = len(text), False
    while True:
        while end and text[end - 1].isspace():
            end -= 1
        mark = next((mark for mark in END_MARKS if text.endswith(mark, 0, end)), None)
        if mark is None:
            return text[:end] if found else text
        end, found = end - len(mark), True


def split_conversation(text: str) -> tuple[str, str] | None:
    """(problem, solution) of a rendered conversation; None where they cannot be told apart.

    In a known chat template: the first user turn, and all that follows the first mark that opens an assistant's turn, whatever the solution itself says. In
    plain text, the solution begins at "Step 1:", and marks of templates behind that are words of the solution.
    """
    frame, numbered = find_frame(text), _FIRST_STEP.search(text)
    if numbered is not None and (frame is None or numbered.start() < text.find(frame.opens)):
        return text[: numbered.start()].strip(), without_end_marks(text[numbered.start() :])
    if frame is None:
        return None
    turn = text.partition(frame.user)[2]
    problem, found, solution = turn.partition(frame.assistant)
    return (problem.partition(frame.end)[0].strip(), without_end_marks(solution)) if found else None
