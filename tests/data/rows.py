"""Hand-made rows of the public formats, as their publishers write them."""

from __future__ import annotations

from typing import Any

PROCESSBENCH: list[dict[str, Any]] = [
    {"id": "gsm8k-0", "generator": "Model-A", "problem": "2 + 2 * 3?", "steps": ["2 + 2 = 4.", "4 * 3 = 12."], "final_answer_correct": False, "label": 0},
    {"id": "gsm8k-1", "generator": "Model-A", "problem": "1 + 1?", "steps": ["1 + 1 = 2.", "So \\boxed{2}."], "final_answer_correct": True, "label": -1},
    {"id": "math-7", "generator": "Model-B", "problem": "x?", "steps": ["a", "b", "c"], "final_answer_correct": True, "label": 2},
]

PRMBENCH: list[dict[str, Any]] = [
    {
        "original_question": "What is 2 + 3?", "modified_question": "What is 2 + 3, if 3 is 4?", "original_process": ["1. 2 + 3 = 5."],
        "modified_process": ["1. Take 2.", "2. Take 3.", "3. 2 + 3 = 6.", "4. Fine."], "modified_steps": [2, 3], "error_steps": [2, 3],
        "reason": "Steps 2 and 3 are wrong.", "idx": "t-1", "question": "What is 2 + 3?", "classification": "counterfactual",
    },
    {
        "original_question": "q", "modified_question": "q", "original_process": ["a"], "modified_process": ["a", "b"], "modified_steps": [],
        "error_steps": [], "reason": "", "idx": "t-2", "question": "q", "classification": "multi_solutions",
    },
]  # fmt: skip


def completion(text: str, rating: int | None, **more: Any) -> dict[str, Any]:
    return {"text": text, "rating": rating, "flagged": False} | more


def step(*completions: dict[str, Any], human: dict[str, Any] | None = None, chosen: int | None = 0) -> dict[str, Any]:
    return {"completions": list(completions), "human_completion": human, "chosen_completion": chosen}


def prm800k(*steps: dict[str, Any], finish: str = "solution", **more: Any) -> dict[str, Any]:
    return {
        "labeler": "labeler-1", "timestamp": "2024-01-02T03:04:05", "generation": None, "is_quality_control_question": False,
        "is_initial_screening_question": False,
        "question": {"problem": "How many?", "ground_truth_answer": "4", "pre_generated_steps": None},
        "label": {"steps": list(steps), "total_time": 1000, "finish_reason": finish},
    } | more  # fmt: skip


PRM800K: list[dict[str, Any]] = [
    prm800k(
        step(completion("First.", 1)),
        step(completion("Neutral.", 0), completion("Wrong.", -1), completion("Unseen.", None)),
        step(completion("Bad 1.", -1), completion("Bad 2.", -1), human=completion("Mine.", None, source="human"), chosen=None),
        step(completion("So four.\n\n# Answer\n\n4", 1)),
    ),
    prm800k(step(completion("Right.", 1)), step(completion("Wrong.", -1), completion("Better.", 1), chosen=None), finish="found_error"),
    prm800k(step(completion("?", -1)), is_quality_control_question=True),
    prm800k(step(completion("?", -1)), is_initial_screening_question=True),
    prm800k(step(completion("Odd.", -1)), step(completion("After.", 1)), finish="give_up"),
]

MATH_SHEPHERD: list[dict[str, Any]] = [
    {
        "input": "Ducks lay 16 eggs. How many in 2 days? Step 1: 16 eggs a day. ки\nStep 2: 16 * 2 = 33. ки\nStep 3: The answer is: 33 ки",
        "label": "Ducks lay 16 eggs. How many in 2 days? Step 1: 16 eggs a day. +\nStep 2: 16 * 2 = 33. -\nStep 3: The answer is: 33 -",
        "task": "GSM8K",
    },
    {"input": "Sum?\nStep 1: a  ки \n Step 2: b\nc ки\n", "label": "Sum?\nStep 1: a  + \n Step 2: b\nc +\n", "task": "MATH"},
]

STEPWISE: list[dict[str, Any]] = [
    {"prompt": "p", "completions": ["a", "b"], "labels": [True, False]},
    {"prompt": "p", "completions": ["a", "b", "c"], "labels": [0.9, 0.25, 1.0]},
    {"prompt": "p", "completions": ["a", "b", "c"], "labels": [1, None, 0]},
    {"prompt": "p", "completions": [], "labels": []},
    {"prompt": "p", "completions": ["a"], "labels": [0.999999], "id": "s-5", "semantics": "value", "source_file": "x"},
]


def normalised(**more: Any) -> dict[str, Any]:
    return {
        "id": "n-0", "source": "Set/part", "problem": "p?", "steps": ["a", "b", "c", "d"], "first_error": 2, "step_labels": None, "label_kind": "human",
        "answer": "4", "final_correct": False, "meta": {"generator": "Model-A"},
    } | more  # fmt: skip


NORMALISED: list[dict[str, Any]] = [
    normalised(),
    normalised(first_error=-1, final_correct=True, answer=None),
    normalised(first_error=None, final_correct=None, answer={"target": ["x"]}, meta={}),
    normalised(step_labels=[1, 1, 0, 1]),
    normalised(step_labels=[1, 0, -1, None], meta={"is_solution": False}),
    normalised(first_error=-1, step_labels=[1, 0, None, 1]),
    normalised(first_error=None, step_labels=[1, None, -1, 0]),
    normalised(steps=[], first_error=-1),
    normalised(step_labels=[1, 1, -1, -1], semantics="value"),
]
