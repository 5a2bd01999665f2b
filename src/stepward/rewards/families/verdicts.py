"""Families that put a mark after each step of a text and read the language model's verdict tokens there: Math-Shepherd, ER-PRM, math-psa, VersaPRM, Med-PRM."""

from __future__ import annotations

from stepward.rewards.convention import Convention
from stepward.rewards.families.family import Family

_MED_SYSTEM = (
    "You are an evaluator assessing the logicality and validity of the reasoning in each step of the given explanation. "
    "In order to support the evaluation, the question and the explanation are provided. "
    "If the reasoning contains errors, output - after that step. If the reasoning in a step is logical and valid, output + after that step."
)
_ER_SOURCE = "Entropy-Regularized Process Reward Model (2024)"
_ER_CODE = "As Math-Shepherd without the line break after each mark; softmax over the last pieces of ' +' and ' -' at the mark; best of N by the minimum."

MATH_SHEPHERD = Family(
    name="math-shepherd",
    convention=Convention(
        name="math-shepherd", prompt="{problem} ", step="Step {index}: {step}", marker=" ки", between="\n", strip="steps", tokenisation="joint", head="tokens",
        tokens=("▁+", "▁-"), good=0, aggregation="min", max_tokens=4096,
    ),
    source="Math-Shepherd: Verify and Reinforce LLMs Step-by-step without Human Annotations (2023)",
    code="Plain text `question Step 1: ... ки`, a line a step; softmax over the logits of '+' and '-' at the mark itself.",
    architectures=("MistralForCausalLM",),
    pieces=("▁+", "▁-", "▁ки"),
    published=("peiyi9979/math-shepherd-mistral-7b-prm",),
    traps=(
        "The probability is that of '+' among '+' and '-', not among the whole vocabulary.",
        "Solutions were trained to end in `The answer is: X`, with the colon.",
        "Marks found by searching ids: a mark inside the problem or a step adds a score and shifts the rest.",
    ),
)  # fmt: skip

ER_PRM_MISTRAL = Family(
    name="er-prm-mistral",
    convention=Convention(
        name="er-prm-mistral", prompt="{problem} ", step="Step {index}: {step}", marker=" ки", strip="steps", tokenisation="joint", head="tokens",
        tokens=("▁+", "▁-"), good=0, aggregation="min", max_tokens=4096,
    ),
    source=_ER_SOURCE,
    code=_ER_CODE,
    architectures=("MistralForCausalLM",),
    pieces=("▁+", "▁-", "▁ки"),
)  # fmt: skip

ER_PRM_LLAMA = Family(
    name="er-prm-llama",
    convention=Convention(**{**vars(ER_PRM_MISTRAL.convention), "name": "er-prm-llama", "tokens": ("Ġ+", "Ġ-")}),
    source=_ER_SOURCE,
    code=_ER_CODE,
    architectures=("LlamaForCausalLM",),
    pieces=("Ġ+", "Ġ-"),
)

MATH_PSA = Family(
    name="math-psa",
    convention=Convention(
        name="math-psa", prompt="{problem} ", step="Step {index}: {step}", marker=" \n\n\n\n\n", between=" ", strip="steps", tokenisation="joint",
        head="tokens", tokens=("Ġ+", "Ġ-"), good=0, aggregation="min", max_tokens=2048,
    ),
    source="OpenR: An Open Source Framework for Advanced Reasoning with Large Language Models (2024)",
    code="`question step \\n\\n\\n\\n\\n step ...`, the mark being one token; softmax over the logits of ' +' and ' -' at the mark.",
    architectures=("Qwen2ForCausalLM",),
    pieces=("Ġ+", "Ġ-"),
    published=("openreasoner/Math-psa",),
    traps=(
        "Published as a LoRA adapter: it is merged when it is loaded.",
        "Trained with the usual shift, from the position before the mark and with the marks masked out, but read at the mark.",
    ),
)  # fmt: skip

VERSA_PRM = Family(
    name="versa-prm",
    convention=Convention(
        name="versa-prm", prompt="{problem} \n\n", marker=" \n\n\n\n", strip="all", tokenisation="joint", head="tokens", tokens=("+", "-"), good=0,
        aggregation="min", max_tokens=4096,
    ),
    source="VersaPRM: Multi-Domain Process Reward Model via Synthetic Reasoning Data (2025)",
    code="`question \\n\\n` and `step \\n\\n\\n\\n`, the mark being one token; softmax over the logits of '-' and '+' at the mark.",
    architectures=("LlamaForCausalLM",),
    pieces=("+", "-"),
    published=(
        "UW-Madison-Lee-Lab/VersaPRM", "UW-Madison-Lee-Lab/VersaPRM-Aug", "UW-Madison-Lee-Lab/VersaPRM-Base-8B", "UW-Madison-Lee-Lab/VersaPRM-Base-3B",
        "UW-Madison-Lee-Lab/VersaPRM-Math-Subset", "UW-Madison-Lee-Lab/VersaPRM-Small-Subset", "UW-Madison-Lee-Lab/Llama-PRM800K",
    ),
    traps=("The order of the two tokens is bad, good in its code: index 1 is the score there.",),
)  # fmt: skip

MED_PRM = Family(
    name="med-prm",
    convention=Convention(
        name="med-prm", template="chat", system=_MED_SYSTEM, prompt="Question: {problem}\n\nExplanation: {solution}", marker=" ки",
        between=" ", strip="steps", one_line=True, tokenisation="joint", bos=2, head="tokens", tokens=("Ġ+", "Ġ-"), good=0, aggregation="min", max_tokens=4096,
    ),
    source="Med-PRM: Medical Reasoning Models with Stepwise, Guideline-verified Process Rewards (2025)",
    code="The solution, a mark after each step, stands in the user's turn; softmax over ' +' and ' -' at each mark; best of N by the minimum.",
    architectures=("LlamaForCausalLM",),
    pieces=(" ки", "Ġ+", "Ġ-"),
    distinctive=True,
    published=("dmis-lab/llama-3.1-medprm-reward-v1.0",),
    traps=(
        "The rendered chat is tokenised with special tokens added once more, in training and in scoring: the ids begin with two BOS.",
        "Options and retrieved documents belong to the question; write them into the problem.",
        "Its steps begin with `Step 1:` and so on, which their own text must have.",
    ),
)  # fmt: skip

FAMILIES = (MATH_SHEPHERD, ER_PRM_MISTRAL, ER_PRM_LLAMA, MATH_PSA, VERSA_PRM, MED_PRM)
