"""References of the families that need more than one forward for a position: two models (log-ratio) or two passes (PathFinder)."""

from __future__ import annotations

from collections.abc import Sequence

from tests.rewards.references.checkpoint import Checkpoint
from tests.rewards.references.text import numbered

PATHFINDER_TASK = (
    "You are a Math Teacher. Given a question and a student's solution, evaluate the mathematical correctness, logic consistency of the current step "
    "and whether it will lead to the correct final solution"
)


def implicit_prm(checkpoint: Checkpoint, problem: str, steps: Sequence[str], *, beta: float = 0.001, finished: bool = True) -> list[float]:
    """beta x the sum of log p - log p_ref over the solution's tokens up to the end of each step, the blank line behind it included.

    The last step of a finished solution has the token that ends the turn behind it instead; an open solution is the beginning of a longer one. The authors'
    script for Qwen models reads one token further.
    """
    tokenizer = checkpoint.tokenizer
    texts = [numbered(step, index) for index, step in enumerate(steps, start=1)]
    header = tokenizer.render([("user", problem)], generation=True)
    whole = tokenizer.render([("user", problem), ("assistant", "\n\n".join([*texts, *([] if finished else ["and so on"])]))])
    assert whole.startswith(header)
    ends, at = [], len(header)
    for text in texts[:-1] if finished else texts:
        at = whole.index(text + "\n\n", at) + len(text) + 2
        ends.append(at)
    if finished:
        ends.append(whole.index("\ue001", at) + 1)  # behind the control token that ends the turn
    ids, reads = tokenizer.ids_and_reads(whole[: ends[-1]], [len(header), *ends])
    assert checkpoint.reference is not None
    policy, other = (model.logits(ids).double().log_softmax(-1) for model in (checkpoint, checkpoint.reference))
    ratios = [0.0, *(float(policy[t - 1, ids[t]] - other[t - 1, ids[t]]) for t in range(1, len(ids)))]
    return [beta * sum(ratios[reads[0] + 1 : read + 1]) for read in reads[1:]]


def pathfinder_prm(checkpoint: Checkpoint, problem: str, steps: Sequence[str]) -> list[float]:
    """P(<+>) before each <extra>: of the third verdict where the first two are <+>, otherwise the smaller of these two, where the authors write -1."""
    tokenizer = checkpoint.tokenizer
    extra, plus = tokenizer.name("<extra>"), tokenizer.name("<+>")
    pair, mark = [tokenizer.id("<+>"), tokenizer.id("<->")], tokenizer.id("<extra>")
    user = ("user", f"{PATHFINDER_TASK}\n\n Question: {problem}")
    scores = []
    for k, step in enumerate(steps):
        said = "\n\n".join([*steps[:k], f"Current Step: {step}"])
        ids = tokenizer.ids(tokenizer.render([user, ("assistant", f"{said} Math reasoning: {extra}, Consistency: {extra}")]))
        logits = checkpoint.logits(ids, [index - 1 for index, token in enumerate(ids) if token == mark])
        maths, consistency = logits[:, pair].softmax(-1)[:, 0].tolist()
        if min(maths, consistency) < 0.5:
            scores.append(min(maths, consistency))
            continue
        ids = tokenizer.ids(tokenizer.render([user, ("assistant", f"{said} Math reasoning: {plus}, Consistency: {plus}, Correctness: {extra}")]))
        scores += checkpoint.logits(ids, [ids.index(mark) - 1])[:, pair].softmax(-1)[:, 0].tolist()
    return scores
