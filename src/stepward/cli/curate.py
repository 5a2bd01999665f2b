"""stepward curate"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, cast

import typer

from stepward.cli.inputs import check_out, examples_from
from stepward.cli.options import JsonOption, LimitOption, SeedOption, SkipBadRows
from stepward.cli.output import print_json, print_table, remarks
from stepward.core import Example, FormatError, InputError
from stepward.data.atomic import replacing
from stepward.data.curate import Filtered, balance, data_card, decontaminate, drop_duplicates, keep_confident, split_by_problem
from stepward.data.curate.balance import By
from stepward.data.curate.confidence import Level
from stepward.data.load import check_format, read_examples, write_examples
from stepward.data.problems import read_problems


def curate(
    data: Annotated[list[Path], typer.Option("--data", metavar="FILE", help="Labelled examples, in any known format; may be given several times.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where they go; with --split a part's name is put in: labels.jsonl, labels.dev.jsonl.")],
    min_confidence: Annotated[float | None, typer.Option("--min-confidence", help="Leave out labels that their labeler is less sure of than this.")] = None,
    confidence_level: Annotated[str, typer.Option("--confidence-level", help="step: unlabel the step; trajectory: drop the solution.")] = "step",
    unknown_confidence: Annotated[str, typer.Option("--unknown-confidence", help="keep or drop labels that do not state it.")] = "keep",
    dedupe: Annotated[bool, typer.Option("--dedupe/--no-dedupe", help="One example of equal solutions.")] = True,
    against: Annotated[list[Path] | None, typer.Option("--against", metavar="FILE", help="Evaluation sets: drop what overlaps with their problems.")] = None,
    ngram: Annotated[int, typer.Option("--ngram", min=1, help="Words in an n-gram of the overlap test.")] = 8,
    overlap: Annotated[float, typer.Option("--overlap", help="Share of a problem's n-grams in one evaluation problem from which it is dropped.")] = 0.5,
    balance_by: Annotated[
        str | None, typer.Option("--balance", metavar="KIND", help="has_error, first_error, outcome, error_type, last_step or length: as many of each.")
    ] = None,
    balance_ratio: Annotated[float, typer.Option("--balance-ratio", help="At most this many times as many as of the rarest kind.")] = 1.0,
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME=SHARE,...", help="Parts that share no problem, e.g. train=0.8,dev=0.1,test=0.1.")
    ] = None,
    format: Annotated[str, typer.Option("--format", help="Format of --out: records or a public format; see `stepward label`.")] = "records",
    card: Annotated[bool, typer.Option("--card/--no-card", help="Write a data card beside the output (.card.md).")] = True,
    title: Annotated[str, typer.Option("--title", help="Title of the data card.")] = "Step labels",
    seed: SeedOption = 0,
    limit: LimitOption = None,
    skip_bad_rows: SkipBadRows = False,
    json: JsonOption = False,
) -> None:
    """Make a training set of labelled solutions: filter, balance, split by problem, and say what was done.

    Order: confidence, duplicates, contamination, balance, split. Every filter counts what it drops; the data card holds the counts, what labels mean,
    where they come from and what they cost.

    Example: stepward curate --data labels.jsonl --min-confidence 0.9 --against test.jsonl --split train=0.9,dev=0.1 --out set.jsonl
    """
    check_format(format)
    if format == "records":
        check_out(out)
    shares = _shares(split)
    examples = examples_from(data, limit=limit, skip_bad_rows=skip_bad_rows)
    done: list[Filtered] = []

    def apply(filtered: Filtered) -> None:
        done.append(filtered)

    def kept() -> list[Example]:
        return done[-1].kept if done else examples

    if min_confidence is not None:
        if unknown_confidence not in ("keep", "drop"):
            raise InputError(f"--unknown-confidence must be keep or drop, got {unknown_confidence!r}")
        apply(keep_confident(kept(), min_confidence, level=cast(Level, confidence_level), unknown="drop" if unknown_confidence == "drop" else "keep"))
    if dedupe:
        apply(drop_duplicates(kept()))
    if against:
        apply(decontaminate(kept(), list(_problems(against)), n=ngram, threshold=overlap))
    if balance_by is not None:
        apply(balance(kept(), cast(By, balance_by), ratio=balance_ratio, seed=seed))
    if not kept():
        raise InputError(f"nothing is left of {len(examples)} examples: {'; '.join(str(one.to_record()) for one in done)}")
    parts = {"all": kept()} if shares is None else split_by_problem(kept(), shares, seed=seed)
    files = {name: out if shares is None else _part(out, name) for name in parts}
    for name, part in parts.items():
        write_examples(part, files[name], format)
    if card:
        command = shlex.join(["stepward", *sys.argv[1:]])
        text = data_card(parts, title=title, made_by=command, filters=done)
        with replacing(out.with_name(f"{_stem(out)}.card.md")) as stream:
            stream.write(text.encode("utf-8", "replace"))
    summary = {
        "n_read": len(examples),
        "n_kept": len(kept()),
        "filters": [one.to_record() for one in done],
        "files": {name: str(file) for name, file in files.items()},
        "n_examples": {name: len(part) for name, part in parts.items()},
    }
    if json:
        print_json(summary)
        return
    rows: list[list[object]] = [["read", len(examples), ""]]
    rows += [[one.name, len(one.kept), ", ".join(f"{name} {count:,}" for name, count in one.counts.items())] for one in done]
    rows += [[f"wrote {files[name]}", len(part), ""] for name, part in parts.items()]
    print_table("curated", ["", "examples", "what happened"], rows)
    if card:
        remarks.print(f"data card: {out.with_name(f'{_stem(out)}.card.md')}", markup=False)


def _problems(files: Sequence[Path]) -> Iterator[str]:
    """The problems' texts of evaluation sets: files of examples, or of problems alone."""
    for file in files:
        if not file.is_file():
            raise InputError(f"no such file: {file}")
        try:
            found = [example.trajectory.problem.prompt for example in read_examples(file)]
        except FormatError:
            found = [problem.prompt for problem in read_problems(file)]
        yield from found


def _shares(split: str | None) -> dict[str, float] | None:
    if split is None:
        return None
    shares: dict[str, float] = {}
    for part in split.split(","):
        name, equals, share = part.partition("=")
        try:
            if not equals or not name.strip() or name.strip() in shares:
                raise ValueError
            shares[name.strip()] = float(share)
        except ValueError:
            raise InputError(f"--split must be NAME=SHARE,NAME=SHARE with different names, got {split!r}") from None
    return shares


def _stem(out: Path) -> str:
    return out.name.removesuffix(".gz").rsplit(".", 1)[0]


def _part(out: Path, name: str) -> Path:
    """labels.jsonl.gz -> labels.dev.jsonl.gz"""
    stem = _stem(out)
    return out.with_name(f"{stem}.{name}{out.name[len(stem) :]}")
