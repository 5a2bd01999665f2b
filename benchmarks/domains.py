"""Soundness of the exact domains' verifiers on gold text: python benchmarks/domains.py [--data DIR] [--only A,B] [--limit N] [--json].

A row of proofs (prontoqa, deduction), queries or programs: gold steps that are supported, refuted and abstained from; then, in as many solutions, one step,
clause or line corrupted by a typed perturbation: how many of these are refuted, and how many are at least not supported. ProofWriter and FOLIO
have no gold steps but a label of a statement (true, false or unknown): what z3 decides, beside the label. `deduction` is this library's own environment,
with its own typed corruptions.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import importlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stepward.core.errors import InputError
from stepward.core.problem import Problem
from stepward.core.trajectory import Trajectory
from stepward.environments.deduction import Deduction, ErrorType, corrupt
from stepward.environments.deduction.judgement import HARMLESS
from stepward.labeling.perturb.logic import corrupt_logic
from stepward.labeling.perturb.sql import corrupt_sql
from stepward.rewards.logic import Logic
from stepward.rewards.sql import SqlVerifier
from stepward.rewards.verifiers import State, StepVerdict, ToolVerifier

Row = dict[str, Any]
MEANINGS = {"A": "true", "B": "false", "C": "unknown", "True": "true", "False": "false", "Uncertain": "unknown"}


def rows(file: Path, limit: int | None) -> list[Row]:
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream][:limit]


class Tally:
    """Counts of gold and corrupted steps by state."""

    def __init__(self) -> None:
        self.gold: Counter[str] = Counter()
        self.corrupted: Counter[str] = Counter()
        self.kinds: dict[str, Counter[str]] = {}
        self.kept: list[str] = []
        self.started = time.perf_counter()

    def wrong(self, kind: str, verdict: StepVerdict, text: str) -> None:
        self.corrupted[verdict.state.value] += 1
        self.kinds.setdefault(kind, Counter())[verdict.state.value] += 1
        if verdict.state is State.SUPPORTED:
            self.kept.append(f"{kind}: {text}"[:200])

    def row(self, unit: str) -> Row:
        n_gold, n_wrong = self.gold.total(), self.corrupted.total()
        return {
            "unit": unit,
            "gold": n_gold,
            **{f"gold_{state}": self.gold[state] for state in ("supported", "refuted", "abstain")},
            "gold_supported_percent": round(100 * self.gold["supported"] / max(1, n_gold), 2),
            "corrupted": n_wrong,
            "corrupted_refuted": self.corrupted["refuted"],
            "corrupted_refuted_percent": round(100 * self.corrupted["refuted"] / max(1, n_wrong), 2),
            "corrupted_supported": self.corrupted["supported"],
            "corrupted_caught_percent": round(100 * (n_wrong - self.corrupted["supported"]) / max(1, n_wrong), 2),
            "by_kind": {kind: dict(count) for kind, count in sorted(self.kinds.items())},
            "kept": self.kept[:10],
            "seconds": round(time.perf_counter() - self.started, 1),
        }


async def prontoqa(data: Path, limit: int | None, *, name: str) -> Row:
    """Gold proofs step by step and the verdict; one step a proof corrupted."""
    tools, tally = ToolVerifier([Logic()]), Tally()
    for number, row in enumerate(rows(data / "logic" / f"{name}.jsonl.gz", limit)):
        fictional = "context" in row
        problem = Problem(f"{row['context']} {row['question']}" if fictional else f"{row['question']} {row['query']}")
        steps = row["explanation" if fictional else "chain_of_thought"]
        verdict = f"So the statement is {MEANINGS[row['answer']]}."
        for found in await tools.judge(Trajectory.from_texts(problem, [*steps, verdict], finished=True)):
            tally.gold[found.state.value] += 1
        place = random.Random(number).randrange(len(steps))
        changed = corrupt_logic(steps[place], problem.prompt, seed=number)
        if changed is not None:
            wrong = Trajectory.from_texts(problem, [*steps[:place], changed.text])
            tally.wrong(changed.kind, (await tools.judge(wrong))[-1], f"{steps[place]} -> {changed.text}")
    return tally.row("steps")


async def deduction(_: Path, limit: int | None) -> Row:
    """Our own environment, its gold solutions and its own typed corruptions."""
    tools, tally = ToolVerifier([Logic()]), Tally()
    kinds = [kind for kind in ErrorType if kind not in HARMLESS]
    n = 50 if limit is None else min(50, limit)
    for environment in (Deduction.easy(), Deduction.medium(), Deduction.hard()):
        for number, problem in enumerate(environment.problems(7, n)):
            gold = Trajectory.from_texts(problem, problem.reference_steps, finished=True)
            for found in await tools.judge(gold):
                tally.gold[found.state.value] += 1
            for kind in kinds:
                try:
                    wrong = corrupt(gold, kind, seed=number)
                except InputError:
                    continue
                last = (await tools.judge(wrong.trajectory.prefix(wrong.place + 1)))[-1]
                tally.wrong(str(kind), last, wrong.trajectory.steps[wrong.place].text)
    return tally.row("steps")


async def labelled(data: Path, limit: int | None, *, name: str) -> Row:
    """Statements with a label: which verdict on them is supported."""
    tools = ToolVerifier([Logic()])
    table: Counter[tuple[str, str]] = Counter()
    refuted = 0
    started = time.perf_counter()
    for row in rows(data / "logic" / f"{name}.jsonl.gz", limit):
        if name.startswith("folio"):
            prompt, label = "\n".join(row["premises-FOL"]) + "\nTrue or false: " + row["conclusion-FOL"], MEANINGS[row["label"]]
        else:
            prompt, label = f"{row['context']} {row['question']}", MEANINGS[row["answer"]]
        states = {}
        for word in ("true", "false", "unknown"):
            states[word] = (await tools.judge(Trajectory.from_texts(Problem(prompt), [f"The statement is {word}."], finished=True)))[0].state
        supported = [word for word, state in states.items() if state is State.SUPPORTED]
        table[label, supported[0] if len(supported) == 1 else "undecided"] += 1
        refuted += states[label] is State.REFUTED
    n = table.total()
    decided = n - sum(count for (_, found), count in table.items() if found == "undecided")
    agreed = sum(count for (label, found), count in table.items() if label == found)
    return {
        "unit": "statements",
        "statements": n,
        "decided": decided,
        "agreed": agreed,
        "agreed_percent_of_decided": round(100 * agreed / max(1, decided), 2),
        "label_refuted": refuted,
        "label_then_z3": {f"{label} / {found}": count for (label, found), count in sorted(table.items())},
        "seconds": round(time.perf_counter() - started, 1),
    }


async def sql(data: Path, limit: int | None) -> Row:
    """Gold queries, and each of those that run with one clause corrupted."""
    tools, tally = ToolVerifier([SqlVerifier()]), Tally()

    async def judged(row: Row, query: str) -> StepVerdict:
        problem = Problem(row["question"], answer=row["query"], metadata={"database": {"sqlite": str(data / "sql" / f"{row['db_name']}.sqlite")}})
        return (await tools.judge(Trajectory.from_texts(problem, [f"```sql\n{query}\n```"], finished=True)))[0]

    for number, row in enumerate(rows(data / "sql" / "questions.jsonl.gz", limit)):
        query = row["query"].split(";")[0]
        found = await judged(row, query)
        tally.gold[found.state.value] += 1
        changed = corrupt_sql(query, seed=number)
        if found.state is State.SUPPORTED and changed is not None:
            tally.wrong(changed.kind, await judged(row, changed.query), changed.query)
    return tally.row("queries")


async def code(data: Path, limit: int | None, *, name: str) -> Row:
    """Reference programs and their mutants, as benchmarks/code_verifier.py measures them."""
    measure = importlib.import_module("code_verifier").measure
    from stepward.engine.sandbox import best_sandbox
    from stepward.environments.code import read_code_problems

    with best_sandbox() as box:
        found = await measure(box, list(read_code_problems(data / "code" / f"{name}.jsonl.gz"))[:limit], 1)
    gold = Counter({state.split(":")[0]: 0 for state in found["reference"]})
    for state, count in found["reference"].items():
        gold[state.split(":")[0]] += count
    return {
        "unit": "programs",
        "gold": gold.total(),
        **{f"gold_{state}": gold[state] for state in ("supported", "refuted", "abstain")},
        "gold_supported_percent": round(100 * gold["supported"] / max(1, gold.total()), 2),
        "corrupted": found["corrupted"],
        "corrupted_refuted": found["corrupted_refuted"],
        "corrupted_refuted_percent": round(100 * found["corrupted_refuted"] / max(1, found["corrupted"]), 2),
        "corrupted_caught_percent": found["corrupted_refuted_or_fail"],
        "kept": found["survivors"][:10],
        "seconds": found["seconds"],
    }


DOMAINS: dict[str, Callable[[Path, int | None], Any]] = {
    "prontoqa_fictional": lambda data, limit: prontoqa(data, limit, name="prontoqa_fictional"),
    "prontoqa_true": lambda data, limit: prontoqa(data, limit, name="prontoqa_true_345hop"),
    "deduction": deduction,
    "sql": sql,
    "humaneval": lambda data, limit: code(data, limit, name="humaneval"),
    "mbpp": lambda data, limit: code(data, limit, name="mbpp_sanitized"),
    "proofwriter": lambda data, limit: labelled(data, limit, name="proofwriter_dev"),
    "folio": lambda data, limit: labelled(data, limit, name="folio_validation"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--only", default=",".join(DOMAINS), help="domains, with commas between")
    parser.add_argument("--limit", type=int, default=None, help="rows a domain")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    report = {name: asyncio.run(DOMAINS[name](args.data, args.limit)) for name in args.only.split(",")}
    if args.json:
        print(json.dumps(report, indent=1))
        return
    for name, row in report.items():
        if row["unit"] == "statements":
            print(
                f"{name:20s} {row['statements']} statements, {row['decided']} decided, {row['agreed']} as labelled; {row['label_then_z3']}; {row['seconds']} s"
            )
            continue
        print(
            f"{name:20s} gold {row['gold']} {row['unit']}: {row['gold_supported_percent']} % supported, {row['gold_refuted']} refuted, {row['gold_abstain']} "
            f"abstained; corrupted {row['corrupted']}: {row['corrupted_refuted_percent']} % refuted, {row['corrupted_caught_percent']} % not supported; "
            f"{row['seconds']} s"
        )
        for line in row.get("kept", []):
            print(f"    supported though corrupted: {line}")


if __name__ == "__main__":
    main()
