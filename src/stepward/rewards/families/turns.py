"""Families that hold a conversation, one user turn a step, and read the verdict token that would come next: RLHFlow, FoVer, VisualPRM."""

from __future__ import annotations

from stepward.rewards.convention import Convention
from stepward.rewards.families.family import Family

_RLHFLOW_SOURCE = "An Implementation of Generative PRM (2024)"
_RLHFLOW_CODE = (
    "user: `question step 1`, assistant: `+`, user: `step 2`, ...; softmax over the logits of '+' and '-' at the last token of the header before each "
    "verdict; earlier verdicts are always '+'; best of N by the mean."
)
_RLHFLOW_TRAPS = (
    "The published script reads three tokens before the end of the rendered chat, which holds for one template only.",
    "Verdicts found by the id of '+' are also found in the mathematics.",
    "ProcessBench's script writes a blank line between question and first step and stops at the first '-'.",
)
_FOVER_FIRST = (
    "** Problem **\n{problem}\n\n** Task **\nYour task is to evaluate the accuracy of each step in the provided solution to the above question. For each "
    'step, respond with "correct" if the reasoning is logically valid and mathematically sound, or if the step is a general statement or transition that '
    'does not contain reasoning. Respond with "incorrect" if the step includes any errors or flawed logic.\n\n** Sotluion **\n{step}'
)
_VISUAL_SYSTEM = (
    "You are an advanced AI assistant, designed to serve as a process supervision model. In this task, I will provide a problem statement followed by the "
    "first step of the solution process. For each subsequent turn, I will give you a new step in the solution. Your role is to assess whether the solution "
    "process is correct up to the current step.\n\n"
    "- In the **first round**, I will input the problem and the first step of the solution process.\n"
    "- In **each subsequent round**, I will provide the next step in the solution.\n\n"
    "For each step, you should:\n\n"
    '- Respond with **"+"** if you believe the solution process is correct up to this step.\n'
    '- Respond with **"-"** if you detect any issues or errors in the process up to this step.\n\n'
    "Please note:\n"
    '- Only respond with **"+"** or **"-"**. Do not provide any additional explanations, comments, or justifications.\n\n'
    "Your task is to verify the accuracy and correctness of each step in the given solution process."
)

RLHFLOW_MISTRAL = Family(
    name="rlhflow-mistral",
    convention=Convention(
        name="rlhflow-mistral", template="turns", first_turn="{problem} {step}", verdict="+", strip="steps", tokenisation="joint", read="header-end",
        head="tokens", tokens=("+", "-"), good=0, aggregation="mean", max_tokens=8192,
    ),
    source=_RLHFLOW_SOURCE,
    code=_RLHFLOW_CODE,
    architectures=("LlamaForCausalLM",),
    pieces=("+", "-", "<|start_header_id|>", "<|end_header_id|>"),
    published=("RLHFlow/Llama3.1-8B-PRM-Mistral-Data",),
    traps=_RLHFLOW_TRAPS,
)  # fmt: skip

RLHFLOW_DEEPSEEK = Family(
    name="rlhflow-deepseek",
    convention=Convention(**{**vars(RLHFLOW_MISTRAL.convention), "name": "rlhflow-deepseek"}),
    source=_RLHFLOW_SOURCE,
    code=_RLHFLOW_CODE + " Its steps are paragraphs, those of the Mistral data lines.",
    architectures=("LlamaForCausalLM",),
    pieces=RLHFLOW_MISTRAL.pieces,
    published=("RLHFlow/Llama3.1-8B-PRM-Deepseek-Data",),
    traps=_RLHFLOW_TRAPS,
)

FOVER = Family(
    name="fover",
    convention=Convention(
        name="fover", template="turns", first_turn=_FOVER_FIRST, verdict="correct", tokenisation="joint", read="header-end", head="tokens",
        tokens=("correct", "incorrect"), token_form="first-of-text", good=0, aggregation="min", max_tokens=8192,
    ),
    source="Generalizable Process Reward Models via Formally Verified Training Data (2025)",
    code="A task description with problem and first step, then a step a turn; softmax over the first tokens of 'correct' and 'incorrect' at the end of the "
    "assistant's header; earlier verdicts are always 'correct'.",
    architectures=("LlamaForCausalLM", "Qwen2ForCausalLM"),
    published=("ryokamoi/Llama-3.1-8B-FoVer-PRM", "ryokamoi/Qwen-2.5-7B-FoVer-PRM"),
    traps=("`** Sotluion **` is how the training data spell it.", "The header is found by three token ids of two known templates."),
)  # fmt: skip

VISUAL_PRM = Family(
    name="visual-prm",
    convention=Convention(
        name="visual-prm", template="turns", system=_VISUAL_SYSTEM, first_turn="### Question:\n{problem}\n\n### Solution Process:\n{step}", verdict="+",
        tokenisation="joint", read="header-end", head="tokens", tokens=("+", "-"), good=0, aggregation="mean", max_tokens=8192,
    ),
    source="VisualPRM: An Effective Process Reward Model for Multimodal Reasoning (2025)",
    code="A step a turn, earlier verdicts always '+'; softmax over '+' and '-' where the verdict would come; at most 12 steps, the mean of them.",
    architectures=("InternVLChatModel",),
    published=("OpenGVLab/VisualPRM-8B",),
    traps=(
        "Only the text format is here: the vision model is not loaded, and without its image it is asked something that it was not trained for.",
        "The published repository is remote code and is not loaded; its language model has to be saved as a folder of its own.",
    ),
)  # fmt: skip

FAMILIES = (RLHFLOW_MISTRAL, RLHFLOW_DEEPSEEK, FOVER, VISUAL_PRM)
