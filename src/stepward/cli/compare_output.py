"""What `stepward compare` reads and leaves behind: results of other runs, tables, the folder with numbers, plot and report."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stepward.cli.output import finite, print_table
from stepward.cli.search_run import without_tree
from stepward.core import FormatError, InputError, SearchResult, content_hash, from_record
from stepward.data.atomic import replacing
from stepward.data.rows import parse_object
from stepward.data.store import read_records
from stepward.evaluation.compare import COSTS, Comparison
from stepward.evaluation.statistics import Estimate

_N_TREES = 4  # problems whose trees the report shows, with every strategy's
_MOST_NAME = 80


def read_results(file: Path) -> list[SearchResult]:
    """The results of a file, without their trees. Raises: InputError for a file that holds something else."""
    found = []
    for record in read_records(file):
        if not isinstance(record, SearchResult):
            raise InputError(f"{file} holds {type(record).__name__} records; expected search results, as `stepward search --out` writes them")
        found.append(without_tree(record))
    if not found:
        raise InputError(f"{file} holds no search results")
    return found


def results_of(file: Path, keys: Sequence[str], identifiers: Sequence[str]) -> list[SearchResult]:
    """The results of these problems, whole. Of a plain file only the lines that hold one of the problems' `identifiers` are decoded, if that finds them."""
    found: dict[str, SearchResult] = {}
    if file.suffix == ".jsonl":
        needles = [json.dumps(identifier).encode() for identifier in identifiers]
        with suppress(FormatError), file.open("rb") as stream:
            records = (from_record(parse_object(line)) for line in stream if any(needle in line for needle in needles))
            found = {record.tree.problem.key: record for record in records}
    if not set(keys) <= found.keys():
        found = {record.tree.problem.key: record for record in read_records(file)}
    return [found[key] for key in keys]


def aligned(made: Mapping[str, list[SearchResult]]) -> dict[str, list[SearchResult]]:
    """All in the order of the first one's problems, where they are of the same ones; else as they are, for the comparison to refuse."""
    first = [result.tree.problem.key for result in next(iter(made.values()))]
    found = {}
    for name, results in made.items():
        by_key = {result.tree.problem.key: result for result in results}
        same = len(by_key) == len(results) and by_key.keys() == set(first) and len(set(first)) == len(first)
        found[name] = [by_key[key] for key in first] if same else results
    return found


def file_name(name: str) -> str:
    """A strategy's name as that of a file; different names stay different."""
    plain = re.sub(r"[^A-Za-z0-9=.+_-]+", "_", name)
    return plain if plain == name.replace(":", "_") and len(plain) <= _MOST_NAME else f"{plain[:_MOST_NAME]}-{content_hash(name)[:8]}"


def write(
    out: Path,
    comparison: Comparison,
    made: Mapping[str, list[SearchResult]],
    files: Mapping[str, Path],
    summary: dict[str, Any],
    *,
    settings: dict[str, Any],
) -> None:
    """comparison.json, comparison.png and report.html; each file appears whole. `files`: where each strategy's results, `made`, are with their trees."""
    from stepward.evaluation.report import Provenance, SearchTrees, Section, comparison_sections, plot_strategies_png, write_report

    out.mkdir(parents=True, exist_ok=True)
    kept = {name: value for name, value in summary.items() if name not in ("paid", "out")}  # what a rerun gives again
    with replacing(out / "comparison.json") as stream:
        stream.write((json.dumps(finite(kept), ensure_ascii=False, allow_nan=False, indent=1) + "\n").encode())
    with replacing(out / "comparison.png") as stream:
        stream.write(plot_strategies_png(comparison))
    sections: list[Section] = comparison_sections(comparison)
    places = telling(comparison)
    keys = [comparison.problems[place] for place in places]
    by_strategy = [results_of(file, keys, [made[name][place].tree.problem.id for place in places]) for name, file in files.items()]
    for place in range(len(keys)):
        graded = (made[name][places[place]].chosen for name in files)  # results of other runs may have been graded since
        trees = [replace(results[place], chosen=chosen) for results, chosen in zip(by_strategy, graded, strict=True)]
        caption = "In the order of the table: " + ", ".join(files) + "."
        sections.append(SearchTrees(title=f"Trees of problem {trees[0].tree.problem.id[:12]}", results=trees, caption=caption))
    sections.append(Provenance(settings={name: value for name, value in settings.items() if value is not None}))
    write_report(out / "report.html", title="Search strategies compared", sections=sections)


def telling(comparison: Comparison) -> list[int]:
    """The problems on which the strategies differ most, at most a few; the first ones where they never differ."""
    correct = np.stack([trial.correct for trial in comparison.trials], axis=1)
    known = ~np.isnan(correct)
    counts = known.sum(axis=1)
    means = np.where(known, correct, 0.0).sum(axis=1) / np.maximum(counts, 1)
    return [int(place) for place in np.argsort(-means * (1.0 - means), kind="stable")[:_N_TREES]]


def show(comparison: Comparison) -> None:
    """The tables for people."""
    rows = [[row.name, _percent(row.accuracy), _amount(row.cost), row.n_unknown, row.words, _share(row.hull_share)] for row in comparison.rows]
    columns = ["strategy", "accuracy % [95 %]", COSTS[comparison.x], "unknown", "standing", "on the hull in"]
    print_table(f"{len(comparison.problems):,} problems", columns, rows)
    if comparison.nothing_known is not None:
        print(comparison.nothing_known)
    if comparison.pairs:
        pairs = [[pair.first, pair.second, _points(pair.difference), pair.difference.n, pair.test, pair.p, pair.p_holm] for pair in comparison.pairs]
        title = f"paired differences, p-values corrected for {len(pairs)} (Holm)"
        print_table(title, ["first", "second", "points [95 %]", "n", "test", "p", "p, corrected"], pairs)
    failures: Sequence[Sequence[Any]] = [[trial.name, what, count] for trial in comparison.trials for what, count in trial.failures.items()]
    if failures:
        print_table("failures", ["strategy", "what", "times"], failures)


def _percent(estimate: Estimate) -> str:
    """In percent, with the interval."""
    if np.isnan(estimate.value):
        return "unknown"
    return f"{100 * estimate.value:.1f}" + ("" if np.isnan(estimate.low) else f" [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]")


def _points(difference: Estimate) -> str:
    """A paired difference; of one problem it has no interval, and says so."""
    return _percent(difference) if np.isnan(difference.value) or not np.isnan(difference.low) else f"{_percent(difference)} (1 problem: no interval)"


def _amount(estimate: Estimate) -> str:
    return f"{estimate.value:,.4g}" if estimate.value >= 1e6 else f"{estimate.value:,.0f}"


def _share(share: float) -> str:
    return "" if np.isnan(share) else f"{share:.0%}"
