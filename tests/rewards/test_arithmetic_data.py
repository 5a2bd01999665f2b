"""tools:arithmetic on public data: no right solution is refuted, the few false equalities of GSM8K's reference solutions are known by name."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from stepward.core.problem import Problem
from stepward.core.trajectory import Trajectory
from stepward.rewards.arithmetic import ArithmeticVerifier, State, check, extract, verify
from stepward.rewards.arithmetic.token import Kind

# Every equality that is refuted in the reference solutions of GSM8K's training set, with the problem's row; each is false as written.
FALSE_AS_WRITTEN = {
    (167, "192*100=$1920"),
    (168, "6*2.5 = $<<6*3=18.00>>18.00"),
    (224, "4080 + 4080 / 2 = 4000 + 2040"),
    (224, "4000 + 2040 = <<4080+4080/2=6120>>6120"),
    (502, "3/1=1"),
    (1817, "1550 cubic inches / 50 cubic inches/pump = 29"),
    (3002, "8*3 = <<80*3=240>>240"),
    (3334, "4200+$3000 = $8600"),
    (3409, "10 x .5 = 10"),
    (4691, "2*8 = 24"),
    (4973, "200*.55=100"),
    (5350, "13 marbles + 4 marbles + 16 marbles = 45"),
    (5781, "7+9+1+2 = $19.50"),
    (6001, "99.1 plus 98.2 plus 98.7 plus 99.3 plus 99.8 plus 99 plus 98.9 equals 692"),
    (6157, "70 + 40 = 100"),
    (6256, "10 x 1,248 = 11,480"),
    (6700, "2 / 12 = .125"),
    (6713, "3 x (8/16) = 6"),
    (6760, "4+4+6 = 18"),
    (6812, "50-8 = <<52-8=44>>44"),
    (6842, "500/ 2/5 = 200"),
    (7178, "1152/ 1,536 = .5"),
    (7444, "14*20=140"),
}


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    path = folder / f"{name}.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize("subset", ["gsm8k", "math"])
def test_right_solutions_of_processbench_are_not_refuted(shared_data: Path, subset: str) -> None:
    verifier = ArithmeticVerifier()
    right = hit = found = early = with_equals = decided = 0
    for row in rows(shared_data, f"steps/processbench_{subset}_dev"):
        scores = asyncio.run(verifier.score(Trajectory.from_texts(Problem(row["problem"]), row["steps"])))
        first, truth = scores.first_error(), row["first_error"]
        right += truth == -1
        hit += first == truth == -1
        found += first == truth != -1
        early += truth != -1 and first is not None and 0 <= first < truth
        for step, reason in zip(row["steps"], scores.reasons, strict=True):
            with_equals += "=" in step
            decided += "=" in step and reason is None
    assert hit >= 0.99 * right, f"{right - hit} of {right} right solutions refuted"
    assert found > 0
    assert early <= 2
    if subset == "gsm8k":
        assert decided >= 0.65 * with_equals, f"decided {decided} of {with_equals} steps with an equals sign"


def test_refuted_claims_of_gsm8k_are_exactly_the_known_false_ones(shared_data: Path) -> None:
    refuted = set()
    for index, row in enumerate(rows(shared_data, "problems/gsm8k_train")):
        for verdict in verify(row["answer"]).verdicts:
            if verdict.state is State.REFUTED:
                refuted.add((index, verdict.claim.text))
    assert refuted == FALSE_AS_WRITTEN


def test_a_wrong_whole_number_on_the_right_is_refuted(shared_data: Path) -> None:
    rng = random.Random(0)
    everything, whole = [], []  # noticed or not
    for row in rows(shared_data, "problems/gsm8k_train")[::12]:
        for step in row["answer"].split("\n"):
            for verdict in verify(step).verdicts:
                number = verdict.claim.right[-1]
                if verdict.state is not State.SUPPORTED or len(verdict.claim.right) != 1 or number.kind is not Kind.NUMBER or "." in number.text:
                    continue
                wrong = int(number.text) + rng.choice([-1, 1]) * rng.randint(1, 9)
                altered = step[: number.start] + str(wrong) + step[number.end :]
                noticed = any(check(claim).state is State.REFUTED for claim in extract(altered) if claim.span[0] == verdict.claim.span[0])
                everything.append(noticed)
                if all("." not in token.text and token.kind is not Kind.PERCENT for token in verdict.claim.left):
                    whole.append(noticed)
    assert len(everything) > 1500
    assert sum(everything) >= 0.95 * len(everything)
    assert sum(whole) >= 0.98 * len(whole)


@pytest.mark.parametrize("name", ["math500", "olympiadbench"])
def test_reference_solutions_of_competition_mathematics_are_not_refuted(shared_data: Path, name: str) -> None:
    for row in rows(shared_data, f"problems/{name}"):
        for text in row["solution"] if isinstance(row["solution"], list) else [row["solution"]]:
            result = verify(text)
            assert result.state is not State.REFUTED, result.rationale
