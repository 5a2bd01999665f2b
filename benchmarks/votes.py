"""Voting on recorded samples of real models: what stopping rules save, and what each rule chooses. No model is run.

Needs the folder of public dumps (STEPWARD_DATA or ../shared/data): final answers and token counts of 11 models on AIME 2024, 80 to 160 samples a problem; and 8
solutions each of 100 MATH problems with an outcome reward model's scores.

    python benchmarks/votes.py --json
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stepward.evaluation.statistics import mean_estimate
from stepward.search.choose import argmax, frequency_reward_vote, hybrid_vote, majority_vote, weighted_vote
from stepward.search.consensus import BetaMajority, Certain, VoteStop, Window, votes_needed

RULES: dict[str, VoteStop | None] = {
    "all votes": None,
    "certain": Certain(1),  # of as many as there are
    "beta 0.95": BetaMajority(0.95),
    "beta 0.99": BetaMajority(0.99),
    "window of 5": Window(5),
    "window of 8": Window(8),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("STEPWARD_DATA", str(Path(__file__).resolve().parents[2] / "shared" / "data")))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = Path(options.data) / "candidates"
    if not folder.is_dir():
        raise SystemExit(f"no dumps at {folder}; give --data or set STEPWARD_DATA")
    report = {
        "benchmark": "votes",
        "stopping": stopping(rows(folder / "votes_aime2024.jsonl.gz")),
        "choosing": choosing(rows(folder / "math_100x8_qwen_rm.jsonl.gz")),
    }
    if options.json:
        print(json.dumps(report))
        return
    for name, found in report["stopping"].items():
        print(f"{name:14s} accuracy {100 * found['accuracy']['value']:5.1f}  same answer {100 * found['same']:5.1f} %  tokens {100 * found['tokens']:5.1f} %")
    for name, found in report["choosing"].items():
        print(f"{name:28s} {100 * found['value']:5.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]")


def rows(file: Path) -> list[dict[str, Any]]:
    with gzip.open(file, "rt") as stream:
        return [json.loads(line) for line in stream]


def stopping(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy, share of majorities that all votes confirm, and share of all tokens, by rule."""
    every = sum(sum(row["tokens"]) for row in found)
    report = {}
    for name, rule in RULES.items():
        drawn = [_needed(row["answers"], rule) for row in found]
        early = [_answer(row["answers"][:n]) for row, n in zip(found, drawn, strict=True)]
        report[name] = {
            "accuracy": mean_estimate(
                [float(answer == row["gold"]) for answer, row in zip(early, found, strict=True)], [row["problem"] for row in found]
            ).to_json(),
            "same": float(np.mean([answer == _answer(row["answers"]) for answer, row in zip(early, found, strict=True)])),
            "tokens": sum(sum(row["tokens"][:n]) for row, n in zip(found, drawn, strict=True)) / every,
        }
    return report


def _needed(answers: Sequence[str | None], rule: VoteStop | None) -> int:
    if rule is None:
        return len(answers)
    return votes_needed(answers, Certain(len(answers)) if isinstance(rule, Certain) else rule)


def _answer(answers: Sequence[str | None]) -> str | None:
    chosen = majority_vote(answers)
    return None if chosen is None else answers[chosen]


def choosing(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Accuracy of each way to choose among 8."""
    rules = {
        "majority": lambda answers, _: majority_vote(answers),
        "best": lambda _, weights: argmax(weights),
        "weighted": weighted_vote,
        "hybrid": hybrid_vote,
        "frequency and reward": frequency_reward_vote,
    }
    report = {
        "mean of all": mean_estimate([float(np.mean(row["score"])) for row in found]).to_json(),
        "any of 8": mean_estimate([float(any(row["score"])) for row in found]).to_json(),
    }
    for name, rule in rules.items():
        chosen = [rule(row["pred"], [score for (score,) in row["pred_score"]]) for row in found]
        report[name] = mean_estimate([float(row["score"][index]) if index is not None else 0.0 for row, index in zip(found, chosen, strict=True)]).to_json()
    return report


if __name__ == "__main__":
    main()
