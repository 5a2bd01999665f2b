"""Families with a classifier or value head on the hidden states: Qwen2.5-Math-PRM, Skywork, token classifiers, PQM, ReasonEval, ReasonFlux, Universal-PRM."""

from __future__ import annotations

from stepward.rewards.convention import Aspect, Convention
from stepward.rewards.families.family import Family

_QWEN_SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
_PQM_PROMPT = (
    "Below is an instruction that describes a task.\nWrite a response that appropriately completes the request.\n\n"
    "### Instruction:\n{problem}\n\n### Response: Let's think step by step\n"
)
_REASONEVAL = Convention(
    name="reasoneval-34b", prompt="Question:\n{problem}\nAnswer:\nLet's think step by step.\n", marker="", read="step-end", head="three-class", good=(1, 2),
    aspects=(Aspect("redundancy", (1,), 0.15),), aggregation="min", max_tokens=4096,
)  # fmt: skip
_REASONEVAL_SOURCE = "Evaluating Mathematical Reasoning Beyond Accuracy (2024)"
_REASONFLUX_SOURCE = "ReasonFlux-PRM: Trajectory-Aware PRMs for Long Chain-of-Thought Reasoning in LLMs (2025)"

QWEN_MATH_PRM = Family(
    name="qwen2.5-math-prm",
    convention=Convention(
        name="qwen2.5-math-prm", template="chat", system=_QWEN_SYSTEM, marker="<extra_0>", tokenisation="joint", good=1, aggregation="product", max_tokens=4096,
    ),
    source="The Lessons of Developing Process Reward Models in Mathematical Reasoning (2025)",
    code="Joins the steps with <extra_0> in one assistant turn and takes softmax(score(h))[1] at each <extra_0>.",
    architectures=("Qwen2ForProcessRewardModel",),
    head_weights=("score.0.weight", "score.0.bias", "score.2.weight", "score.2.bias"),
    pieces=("<extra_0>",),
    distinctive=True,
    published=(
        "Qwen/Qwen2.5-Math-PRM-7B", "Qwen/Qwen2.5-Math-PRM-72B", "Qwen/Qwen2.5-Math-7B-PRM800K",
    ),
    traps=(
        "The card's helper keeps rows by `probability != 0`: one that underflows shifts every later step.",
        "Its remote code breaks with newer transformers; a two-class layer in its place would silently be random.",
        "Copies of the prompt say `in \\boxed{}` instead of `within \\boxed{}`.",
    ),
)  # fmt: skip

REASONFLUX_7B = Family(
    name="reasonflux-prm-7b",
    convention=Convention(
        name="reasonflux-prm-7b", template="chat", marker="<extra_0>", tokenisation="joint", good=1, aggregation="mean", max_tokens=32768,
    ),
    source=_REASONFLUX_SOURCE,
    code="Like Qwen2.5-Math-PRM, without a system line of its own: the chat template's default one is written.",
    architectures=("Qwen2ForProcessRewardModel",),
    head_weights=("score.0.weight", "score.0.bias", "score.2.weight", "score.2.bias"),
    pieces=("<extra_0>",),
    published=("Gen-Verse/ReasonFlux-PRM-7B",),
    traps=(
        "Loaded as a plain language model, its output has the size of the vocabulary and the two classes are lost.",
        "A copy on disk cannot be told from Qwen2.5-Math-PRM, whose system line then stands in for the template's own: name the convention.",
    ),
)  # fmt: skip

REASONFLUX_1_5B = Family(
    name="reasonflux-prm-1.5b",
    convention=Convention(
        name="reasonflux-prm-1.5b", prompt="{problem}", marker="", between="\n\n", tokenisation="joint", read="prefix-end", head="value", activation="sigmoid",
        aggregation="last", max_tokens=8192,
    ),
    source=_REASONFLUX_SOURCE,
    code="Scores a whole text, problem and answer written together, with sigmoid(reward_head(h)) at its last token; the head is a file of its own.",
    architectures=("Qwen2ForCausalLM",),
    head_weights=("reward_head.weight", "reward_head.bias"),
    distinctive=True,
    published=("Gen-Verse/ReasonFlux-PRM-1.5B",),
    traps=("The head is in reward_head.pt, outside the model's own weight files.",),
)  # fmt: skip

SKYWORK = Family(
    name="skywork-o1-open-prm",
    convention=Convention(
        name="skywork-o1-open-prm", prompt="{problem}\n", marker="\n", head="value", activation="sigmoid", aggregation="mean", max_tokens=4096,
    ),
    source="Skywork-o1 Open Series (2024)",
    code="Encodes BOS + problem + newline, then each step and a newline one by one; sigmoid(v_head(h)) at each newline that ends a step.",
    architectures=("Qwen2ForPrmModel",),
    head_weights=("v_head.summary.weight", "v_head.summary.bias"),
    distinctive=True,
    published=("Skywork/Skywork-o1-Open-PRM-Qwen-2.5-1.5B", "Skywork/Skywork-o1-Open-PRM-Qwen-2.5-7B"),
    traps=(
        "The authors split at every newline, so a step with line breaks inside becomes several; here a step is what the trajectory says.",
        "Read with another step mark, or thresholded on differences of scores, it is another model.",
    ),
)  # fmt: skip

TRL = Family(
    name="trl-token-classification",
    convention=Convention(name="trl-token-classification", prompt="{problem}", marker="\n\n", good=1, aggregation="min", max_tokens=4096),
    source="TRL: Transformer Reinforcement Learning, PRMTrainer (2024)",
    code="[BOS] + ids(prompt) + ids(step) + ids(separator) for each step, every piece tokenised by itself; softmax(logits)[1] at the separator's last token.",
    architectures=("Qwen2ForTokenClassification", "LlamaForTokenClassification", "MistralForTokenClassification", "Qwen3ForTokenClassification"),
    n_labels=2,
    published=("HuggingFaceH4/Qwen2.5-Math-1.5B-Instruct-PRM-0.2", "HuggingFaceH4/Qwen2.5-Math-7B-Instruct-PRM-0.2"),
    traps=(
        "The trainer's default separator is one newline, the published models were trained with two.",
        "Tokenised as one text, a separator melts into the punctuation before it, which costs several points of F1.",
        "Examples that put a separator between prompt and first step show the model what training never did.",
    ),
)

PURE = Family(
    name="pure-prm",
    convention=Convention(
        name="pure-prm", prompt="{problem}", marker="\n", good=1, activation="margin", threshold=0.0, aggregation="min", max_tokens=4096,
    ),
    source="Stop Summation: Min-Form Credit Assignment Is All Process Reward Model Needs for Reasoning (2025)",
    code="As TRL token classification, with the reward p(good) - p(bad) in [-1, 1].",
    architectures=("Qwen2ForTokenClassification",),
    n_labels=2,
    published=("jinachris/PURE-PRM-7B", "jinachris/Qwen2.5-Math-7B-PRM800K"),
    traps=(
        "A threshold of 0.5 on this scale asks for a probability of 0.75.",
        "Steps of a solution are paragraphs, but the mark that is read behind each is a single newline.",
    ),
)  # fmt: skip

PQM = Family(
    name="pqm",
    convention=Convention(
        name="pqm", prompt=_PQM_PROMPT, step="Step {index}: {step}", marker=" [PRM]", between="\n", strip="steps", tokenisation="joint", bos=0, head="value",
        activation="none", threshold=0.0, aggregation="min", max_tokens=4096,
    ),
    source="Process Reward Model with Q-Value Rankings (2024)",
    code="Alpaca-like prompt, `Step i: ... [PRM]` a line, no BOS; the raw value head at each [PRM]; best of N by the minimum.",
    architectures=("LlamaForCausalLM", "Qwen2ForCausalLM"),
    head_weights=("v_head.summary.weight", "v_head.summary.bias"),
    pieces=("[PRM]",),
    distinctive=True,
    published=("Windy0822/PQM-zeta-2",),
    traps=(
        "Values are unbounded and trained so that wrong < 0 < right: 0.5 is no threshold.",
        "Training and evaluation scripts hold different prompts; this is the evaluation's.",
    ),
)  # fmt: skip

REASONEVAL_34B = Family(
    name="reasoneval-34b",
    convention=_REASONEVAL,
    source=_REASONEVAL_SOURCE,
    code="Steps follow each other without white space, each tokenised by itself; softmax over (negative, neutral, positive) at the last token of a step.",
    architectures=("ReasonEval_34B", "LlamaForCausalLM"),
    head_weights=("score_head.weight",),
    distinctive=True,
    published=("GAIR/ReasonEval-34B",),
    traps=("Validity is p(neutral) + p(positive), redundancy p(neutral): a neutral step is right and superfluous.",),
)

REASONEVAL_7B = Family(
    name="reasoneval-7b",
    convention=Convention(**{**vars(_REASONEVAL), "name": "reasoneval-7b", "read": "before-step-end"}),
    source=_REASONEVAL_SOURCE,
    code="As the 34B model, but its position arithmetic forgets the BOS that it puts back: it reads the token before a step's last one.",
    architectures=("ReasonEval_7B", "MistralForCausalLM"),
    head_weights=("score_head.weight",),
    distinctive=True,
    published=("GAIR/ReasonEval-7B",),
    traps=("The published numbers were read one token before the last; reading the last token gives others.",),
)

UNIVERSAL = Family(
    name="universal-prm",
    convention=Convention(
        name="universal-prm", template="chat", system="You are a helpful assistant.",
        prompt="{problem}\n\n###\n\nThe reference answer is: There is no reference answer for this question.", marker="\n\n", opening="generation",
        tokenisation="joint", read="eos", head="value", activation="sigmoid", aggregation="last", max_tokens=32768,
    ),
    source="AURORA: Automated Training Framework of Universal Process Reward Models via Ensemble Prompting and Reverse Verification (2025)",
    code="One pass a prefix: steps joined and ended by blank lines, then the end-of-text token; sigmoid of the model's one output. The question carries a "
    "reference answer, or the sentence that there is none.",
    architectures=("Qwen2ForSequenceClassification", "Qwen2ForRewardModel"),
    published=("infly/Universal-PRM-7B",),
    traps=("The names of its head's weights are not published outside its remote code; the head is looked for among the usual names.",),
)  # fmt: skip

FAMILIES = (QWEN_MATH_PRM, REASONFLUX_7B, REASONFLUX_1_5B, SKYWORK, TRL, PURE, PQM, REASONEVAL_34B, REASONEVAL_7B, UNIVERSAL)
