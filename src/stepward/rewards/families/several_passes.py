"""Families that take more than one pass or more than one model a solution: log-ratios of two language models (EurusPRM, ImplicitPRM) and PathFinder-PRM."""

from __future__ import annotations

from stepward.rewards.convention import Convention
from stepward.rewards.families.family import Family

_IMPLICIT_SOURCE = "Free Process Rewards without Process Labels (2024)"
_PATHFINDER_PROMPT = (
    "You are a Math Teacher. Given a question and a student's solution, evaluate the mathematical correctness, logic consistency of the current step and "
    "whether it will lead to the correct final solution\n\n Question: {problem}"
)

EURUS_PRM = Family(
    name="eurus-prm",
    convention=Convention(
        name="eurus-prm", template="chat", step="Step {index}: {step}", marker="\n\n", last="turn-end", tokenisation="joint", head="log-ratio",
        activation="none", beta=0.001, mode="accumulated", threshold=0.0, aggregation="min", max_tokens=4096,
    ),
    source="Process Reinforcement through Implicit Rewards (2025)",
    code="beta x log(p / p_ref) of every token of the answer, summed up to the end of each step; beta 0.001; steps joined by blank lines.",
    architectures=("Qwen2ForCausalLM",),
    published=("PRIME-RL/EurusPRM-Stage1", "PRIME-RL/EurusPRM-Stage2"),
    reader="implicit",
    traps=(
        "The card's positions are lengths of re-tokenised prefixes less two, which for all but the last step lie a token or two inside the next step.",
        "The reference model is Qwen2.5-Math-7B-Instruct; another one gives another score.",
        "The scale depends on beta, and so does any threshold: the authors search theirs on labelled data.",
    ),
)  # fmt: skip

IMPLICIT_PRM = Family(
    name="implicit-prm",
    convention=Convention(**{**vars(EURUS_PRM.convention), "name": "implicit-prm", "max_tokens": 8192}),
    source=_IMPLICIT_SOURCE,
    code=EURUS_PRM.code + " The reference model is Llama-3.1-8B-Instruct.",
    architectures=("LlamaForCausalLM",),
    reader="implicit",
    traps=EURUS_PRM.traps[:1] + EURUS_PRM.traps[2:],
)

PATHFINDER = Family(
    name="pathfinder-prm",
    convention=Convention(
        name="pathfinder-prm", template="chat", prompt=_PATHFINDER_PROMPT, marker="<extra>", tokenisation="joint", read="before-marker", head="tokens",
        tokens=("<+>", "<->"), good=0, aggregation="min", max_tokens=4096,
    ),
    source="Error Typing for Smarter Rewards: Improving Process Reward Models with Error-Aware Hierarchical Supervision (2025)",
    code="Two passes a step: ` Math reasoning: <extra>, Consistency: <extra>` behind the step, both read at the token before <extra>; then with these "
    "replaced by their verdicts, `, Correctness: <extra>`.",
    architectures=("Qwen2ForCausalLM",),
    pieces=("<+>", "<->", "<extra>"),
    distinctive=True,
    published=("declare-lab/PathFinder-PRM-7B",),
    reader="pathfinder",
    traps=(
        "The search script puts the solution into a second user turn; training and evaluation put it into the assistant's.",
        "A step whose first pass finds an error gets -1 there, which is no probability.",
    ),
)  # fmt: skip

FAMILIES = (EURUS_PRM, IMPLICIT_PRM, PATHFINDER)
