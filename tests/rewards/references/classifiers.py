"""References of the families with a trained head: two or three classes, or one value."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tests.rewards.references.checkpoint import Checkpoint
from tests.rewards.references.text import numbered

QWEN_SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
PQM_PROMPT = (
    "Below is an instruction that describes a task.\nWrite a response that appropriately completes the request.\n\n"
    "### Instruction:\n{}\n\n### Response: Let's think step by step\n"
)


def qwen_math_prm(checkpoint: Checkpoint, problem: str, steps: Sequence[str], *, system: str = QWEN_SYSTEM) -> list[float]:
    """`<extra_0>` after every step of the assistant's turn; Linear, ReLU, Linear to two classes there; P(class 1)."""
    tokenizer = checkpoint.tokenizer
    marker = tokenizer.name("<extra_0>")
    messages = [("system", system)] if system else []
    text = tokenizer.render([*messages, ("user", problem), ("assistant", "".join(step + marker for step in steps))])
    ids = tokenizer.ids(text)
    hidden = checkpoint.hidden(ids)
    scores = []
    for index, token in enumerate(ids):
        if token == tokenizer.id("<extra_0>"):
            logits = checkpoint.linear("score.2", torch.relu(checkpoint.linear("score.0", hidden[index])))
            scores.append(float(logits.softmax(-1)[1]))
    return scores


def reasonflux_7b(checkpoint: Checkpoint, problem: str, steps: Sequence[str]) -> list[float]:
    """As Qwen2.5-Math-PRM, but without a system message of its own."""
    return qwen_math_prm(checkpoint, problem, steps, system="")


def reasonflux_1_5b(checkpoint: Checkpoint, problem: str, steps: Sequence[str]) -> list[float]:
    """An outcome model: one value at the last token of problem + solution, here asked of the solution up to every step."""
    head = torch.load(checkpoint.folder / "reward_head.pt", weights_only=True)
    scores = []
    for k in range(1, len(steps) + 1):
        hidden = checkpoint.hidden(checkpoint.tokenizer.ids(problem + "\n\n".join(steps[:k]), bos=True))[-1]
        scores.append(float(torch.sigmoid(torch.nn.functional.linear(hidden, head["weight"].float(), head["bias"].float()))))
    return scores


def skywork(checkpoint: Checkpoint, problem: str, steps: Sequence[str]) -> list[float]:
    """Problem and newline as one text, each step alone, the last id of a newline after it; sigmoid of a value there."""
    tokenizer = checkpoint.tokenizer
    ids = tokenizer.ids(tokenizer.control("bos_token") + problem + "\n")
    reads = []
    for step in steps:
        ids += tokenizer.ids(step) if step else []
        ids.append(tokenizer.ids("\n")[-1])
        reads.append(len(ids) - 1)
    values = checkpoint.linear("v_head.summary", checkpoint.hidden(ids))[:, 0]
    return [float(torch.sigmoid(values[index])) for index in reads]


def _separate(checkpoint: Checkpoint, problem: str, steps: Sequence[str], separator: str) -> list[torch.Tensor]:
    """TRL's rows: BOS where there is one, prompt, and each step with its separator, all tokenised one by one; class probabilities at the separators."""
    tokenizer = checkpoint.tokenizer
    bos = tokenizer.control("bos_token")
    ids = [*(tokenizer.ids(bos) if bos else []), *tokenizer.ids(problem)]
    reads = []
    for step in steps:
        ids += tokenizer.ids(step) + tokenizer.ids(separator)
        reads.append(len(ids) - 1)
    logits = checkpoint.linear("score", checkpoint.hidden(ids))
    return [logits[index].softmax(-1) for index in reads]


def trl_token_classification(checkpoint: Checkpoint, problem: str, steps: Sequence[str]) -> list[float]:
    """TRL's PRMTrainer with the separator of the published checkpoints; P(class 1)."""
    return [float(probs[1]) for probs in _separate(checkpoint, problem, steps, "\n\n")]


def pure_prm(checkpoint: Checkpoint, problem: str, steps: Sequence[str]) -> list[float]:
    """TRL's rows with TRL's default separator; P(class 1) - P(class 0)."""
    return [float(probs[1] - probs[0]) for probs in _separate(checkpoint, problem, steps, "\n")]


def pqm(checkpoint: Checkpoint, problem: str, steps: Sequence[str]) -> list[float]:
    """One text without BOS, ` [PRM]` after every numbered step, lines between; the raw value at [PRM]."""
    tokenizer = checkpoint.tokenizer
    marker = tokenizer.name("[PRM]")
    text = PQM_PROMPT.replace("{}", problem)
    text += f" {marker}\n".join(numbered(step.strip(), index) for index, step in enumerate(steps, start=1)) + f" {marker}"
    ids = tokenizer.ids(text)
    values = checkpoint.linear("v_head.summary", checkpoint.hidden(ids))[:, 0]
    return [float(values[index]) for index, token in enumerate(ids) if token == tokenizer.id("[PRM]")]


def _reasoneval(checkpoint: Checkpoint, problem: str, steps: Sequence[str]) -> tuple[list[int], list[int]]:
    """Ids without separators (every step is a text of its own, which the removed separators made it), and the last token of each step."""
    tokenizer = checkpoint.tokenizer
    ids = tokenizer.ids(tokenizer.control("bos_token")) + tokenizer.ids(f"Question:\n{problem}\nAnswer:\nLet's think step by step.\n")
    ends = []
    for step in steps:
        ids += tokenizer.ids(step)
        ends.append(len(ids) - 1)
    return ids, ends


def reasoneval_34b(checkpoint: Checkpoint, problem: str, steps: Sequence[str], *, shift: int = 0) -> list[float]:
    """Validity, P(neutral) + P(positive), at the last token of each step."""
    ids, ends = _reasoneval(checkpoint, problem, steps)
    logits = checkpoint.linear("score_head", checkpoint.hidden(ids))
    return [float(logits[end - shift].softmax(-1)[1:].sum()) for end in ends]


def reasoneval_7b(checkpoint: Checkpoint, problem: str, steps: Sequence[str]) -> list[float]:
    """As the 34B, one token earlier: the published script puts BOS in front after it has counted the positions."""
    return reasoneval_34b(checkpoint, problem, steps, shift=1)


def redundancy(checkpoint: Checkpoint, problem: str, steps: Sequence[str], *, shift: int = 0) -> list[float]:
    """ReasonEval's second number: P(neutral)."""
    ids, ends = _reasoneval(checkpoint, problem, steps)
    logits = checkpoint.linear("score_head", checkpoint.hidden(ids))
    return [float(logits[end - shift].softmax(-1)[1]) for end in ends]


def universal_prm(checkpoint: Checkpoint, problem: str, steps: Sequence[str]) -> list[float]:
    """One forward a prefix: chat prompt, then the steps as one text, then EOS; sigmoid of the value at EOS."""
    tokenizer = checkpoint.tokenizer
    question = problem + "\n\n###\n\nThe reference answer is: There is no reference answer for this question."
    prompt = tokenizer.ids(tokenizer.render([("system", "You are a helpful assistant."), ("user", question)], generation=True))
    scores = []
    for k in range(1, len(steps) + 1):
        ids = [*prompt, *tokenizer.ids("\n\n".join(steps[:k]) + "\n\n"), *tokenizer.ids(tokenizer.control("eos_token"))]
        scores.append(float(torch.sigmoid(checkpoint.linear("score", checkpoint.hidden(ids)[-1])[0])))
    return scores
