"""Frames: the marks that chat templates put around turns, for clients that send rendered conversations instead of problems and steps."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Frame:
    """`user` and `assistant` open a turn, `end` closes one."""

    user: str
    assistant: str
    end: str


FRAMES = {
    "chatml": Frame("<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>"),
    "llama3": Frame("<|start_header_id|>user<|end_header_id|>\n\n", "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"),
    "deepseek": Frame("<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
    "mistral": Frame("[INST]", "[/INST]", "</s>"),
}
END_MARKS = (*(frame.end for frame in FRAMES.values()), "<|endoftext|>", "<|end_of_text|>")
_FIRST_STEP = re.compile(r"(?<!\S)Step 1:")


def find_frame(text: str, name: str = "auto") -> Frame | None:
    """The named frame; with "auto" the one whose user mark occurs in the text; None for "plain" or when there is none."""
    if name == "auto":
        return next((frame for frame in FRAMES.values() if frame.user in text), None)
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
    kept = text.rstrip()
    while (mark := next((mark for mark in END_MARKS if kept.endswith(mark)), None)) is not None:
        kept = kept.removesuffix(mark).rstrip()
    return kept if kept != text.rstrip() else text


def split_conversation(text: str) -> tuple[str, str] | None:
    """(problem, solution) of a rendered conversation; None where they cannot be told apart.

    In a known chat template: the first user turn, and all that follows the first mark that opens an assistant's turn, whatever the solution itself says. In
    plain text, the solution begins at "Step 1:".
    """
    frame = find_frame(text)
    if frame is None:
        numbered = _FIRST_STEP.search(text)
        return None if numbered is None else (text[: numbered.start()].strip(), text[numbered.start() :])
    turn = text.partition(frame.user)[2]
    problem, found, solution = turn.partition(frame.assistant)
    return (problem.partition(frame.end)[0].strip(), without_end_marks(solution)) if found else None
