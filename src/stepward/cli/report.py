"""stepward report"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from stepward.cli.inputs import looked_at
from stepward.cli.options import JsonOption, LimitOption, OptionalEnvironment, OptionalModel, SkipBadRows
from stepward.cli.output import print_json, remarks
from stepward.cli.session import session
from stepward.core import Example, InputError, SearchResult, StepLabels, StepScores, Trajectory
from stepward.evaluation.report import Cell, SearchTrees, Section, Table, ViewedSolution, Viewer, write_report
from stepward.evaluation.report.tree import chosen_node


def report(
    data: Annotated[list[Path], typer.Option("--data", metavar="FILE", help="Trajectories, examples or search results to look at. Repeatable.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The HTML file.")] = Path("report.html"),
    model: OptionalModel = None,
    environment: OptionalEnvironment = None,
    title: Annotated[str, typer.Option("--title", help="Heading of the page.")] = "stepward report",
    limit: LimitOption = 200,
    skip_bad_rows: SkipBadRows = False,
    json: JsonOption = False,
) -> None:
    """Make one self-contained HTML file to look at solutions: each step coloured by score beside the truth.

    --model scores the solutions; --environment adds an oracle's truth; without it the labels in the file are shown. Of search results, as `stepward search`
    writes them, it shows the chosen solutions and every tree: scores, visits, the chosen path, and why branches were dropped.

    Example: stepward report --data labels.jsonl --model prm:prm --environment grade-school:easy --out report.html
    """
    found = looked_at(data, limit=limit, skip_bad_rows=skip_bad_rows)
    results = [one for one in found if isinstance(one, SearchResult)]
    examples = [one for one in found if isinstance(one, Example)] + [Example(one.chosen, source="chosen") for one in results if one.chosen is not None]
    if not found:
        raise InputError("the files hold no solutions")
    scores = _scored(examples, model, quiet=json)
    if model is None and results:
        own = [_own_scores(one) for one in results if one.chosen is not None]
        scores = [*scores[: len(examples) - len(own)], *own]
    truths = _truths(examples, environment)
    solutions = [
        ViewedSolution(trajectory=example.trajectory, scores=given, truth=truth, group=example.source, note="")
        for example, given, truth in zip(examples, scores, truths, strict=True)
    ]
    n_steps = sum(len(example.trajectory) for example in examples)
    rows: list[list[Cell]] = [["solutions", len(examples)], ["steps", n_steps], ["model", model or "none"], ["truth", environment or "labels in the file"]]
    sections: list[Section] = [Table(title="What is shown", columns=("", "value"), rows=rows)]
    if results:
        cut_off = sum(one.chosen is not None and one.chosen.truncated for one in results)
        rows[3:3] = [
            ["searches", len(results)],
            ["of them chose nothing", sum(one.chosen is None for one in results)],
            ["of them chose what was cut off", cut_off],
        ]
        caption = "Open along the chosen path; click a node for what hangs below it. Dropped branches say why."
        sections.append(SearchTrees(title="Search trees", results=results, caption=caption))
    if examples:
        sections.append(Viewer(title="Chosen solutions" if len(results) == len(found) else "Solutions", solutions=solutions))
    out.parent.mkdir(parents=True, exist_ok=True)
    write_report(out, title=title, sections=sections)
    if json:
        print_json({"out": str(out), "n_solutions": len(examples), "n_steps": n_steps, "n_searches": len(results)})
    else:
        remarks.print(f"wrote {out}: open it in a browser", markup=False)


def _own_scores(result: SearchResult) -> StepScores | None:
    """The scores by which the search judged its choice, where they are one a step."""
    node = chosen_node(result)
    scores = None if node is None else node.scores
    return scores if scores is not None and result.chosen is not None and len(scores) == len(result.chosen) else None


def _scored(examples: Sequence[Example], model: str | None, *, quiet: bool) -> list[StepScores | None]:
    if model is None:
        return [None] * len(examples)
    with session(None, quiet=quiet) as work:
        scorer = work.model(model)

        def unscored(trajectory: Trajectory, reason: str) -> StepScores:
            return StepScores.unscored(len(trajectory), reason, scale=scorer.scale)

        scores, _, _ = work.each("score", [example.trajectory for example in examples], scorer.score, unscored, concurrency=256)
    return list(scores)


def _truths(examples: Sequence[Example], environment: str | None) -> list[StepLabels | None]:
    if environment is None:
        return [example.labels for example in examples]
    from stepward.engine.loop import run_sync
    from stepward.environments.load import load_environment
    from stepward.labeling.load import load_labeler

    oracle = load_labeler("oracle", environment=load_environment(environment))

    async def all_labels() -> list[StepLabels | None]:
        return [await oracle.label(example.trajectory) for example in examples]

    return run_sync(all_labels())
