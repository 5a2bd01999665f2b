"""References of the families with one user turn a step: one forward for every prefix, read where the assistant's verdict would be written."""

from __future__ import annotations

from collections.abc import Sequence

from tests.rewards.references.checkpoint import Checkpoint

FOVER_FIRST = """** Problem **
{problem}

** Task **
Your task is to evaluate the accuracy of each step in the provided solution to the above question. For each step, respond with "correct" if the reasoning is logically valid and mathematically sound, or if the step is a general statement or transition that does not contain reasoning. Respond with "incorrect" if the step includes any errors or flawed logic.

** Sotluion **
{step}"""  # noqa: E501  the authors' text, spelling included
VISUAL_SYSTEM = """You are an advanced AI assistant, designed to serve as a process supervision model. In this task, I will provide a problem statement followed by the first step of the solution process. For each subsequent turn, I will give you a new step in the solution. Your role is to assess whether the solution process is correct up to the current step.

- In the **first round**, I will input the problem and the first step of the solution process.
- In **each subsequent round**, I will provide the next step in the solution.

For each step, you should:

- Respond with **"+"** if you believe the solution process is correct up to this step.
- Respond with **"-"** if you detect any issues or errors in the process up to this step.

Please note:
- Only respond with **"+"** or **"-"**. Do not provide any additional explanations, comments, or justifications.

Your task is to verify the accuracy and correctness of each step in the given solution process."""  # noqa: E501


def _turns(checkpoint: Checkpoint, turns: Sequence[str], verdict: str, good: int, bad: int, system: str = "") -> list[float]:
    """P(good) at the end of the header that asks for each verdict; `verdict` answers every earlier turn."""
    messages = [("system", system)] if system else []
    scores = []
    for turn in turns:
        messages.append(("user", turn))
        text = checkpoint.tokenizer.render(messages, generation=True)
        messages.append(("assistant", verdict))
        assert checkpoint.tokenizer.render(messages).startswith(text + verdict), "the header is not what stands before the verdict"
        ids = checkpoint.tokenizer.ids(text)
        scores.append(float(checkpoint.logits(ids, [len(ids) - 1])[0, [good, bad]].softmax(-1)[0]))
    return scores


def rlhflow(checkpoint: Checkpoint, problem: str, steps: Sequence[str]) -> list[float]:
    """Problem and first step share the first turn, a space between; "+" answers everything."""
    stripped = [step.strip() for step in steps]
    turns = [f"{problem} {stripped[0]}", *stripped[1:]]
    return _turns(checkpoint, turns, "+", checkpoint.tokenizer.ids("+")[-1], checkpoint.tokenizer.ids("-")[-1])


def fover(checkpoint: Checkpoint, problem: str, steps: Sequence[str]) -> list[float]:
    """The task and the first step share the first turn; the first pieces of "correct" and "incorrect" are compared."""
    turns = [FOVER_FIRST.format(problem=problem, step=steps[0]), *steps[1:]]
    return _turns(checkpoint, turns, "correct", checkpoint.tokenizer.ids("correct")[0], checkpoint.tokenizer.ids("incorrect")[0])


def visual_prm(checkpoint: Checkpoint, problem: str, steps: Sequence[str]) -> list[float]:
    """The text side of InternVL's turns."""
    turns = [f"### Question:\n{problem}\n\n### Solution Process:\n{steps[0]}", *steps[1:]]
    return _turns(checkpoint, turns, "+", checkpoint.tokenizer.id("+"), checkpoint.tokenizer.id("-"), VISUAL_SYSTEM)
