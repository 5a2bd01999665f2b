"""The demo's report: its tables, plots and the solutions to look at."""

from __future__ import annotations

from pathlib import Path

from stepward.cli.demo_pipeline import DemoResult
from stepward.evaluation.report import (
    Plot,
    Provenance,
    Section,
    Table,
    Text,
    ViewedSolution,
    Viewer,
    plot_curves,
    plot_curves_at_equal_compute,
    plot_label_errors,
    plot_reliability,
    plot_scores_by_position,
    write_report,
)

N_VIEWED = 96


def write_demo_report(result: DemoResult, path: Path) -> None:
    """Write the HTML file."""
    n = result.settings.n
    summary = result.summary()
    accuracy = [name for name, value in summary.items() if isinstance(value, dict) and "policy_tokens" in value]
    interval = {name: f"{100 * summary[name]['low']:.1f} to {100 * summary[name]['high']:.1f}" for name in accuracy}
    subset = result.first_errors.subsets["test"].metrics
    sections: list[Section] = [
        Text(
            title="What was done",
            paragraphs=[
                f"The shipped tiny policy wrote {result.settings.per_problem} solutions for each of {result.settings.n_train} training problems of "
                f"grade-school (1 to 4 operations). Every step was labelled by {result.settings.rollouts} completions of the same policy, without humans "
                "and without the oracle. A step classifier was trained on those soft labels, starting from the policy's own weights.",
                f"It then chose among {n} solutions for each of {result.settings.n_test} test problems, of a split that training never draws from. "
                f"Solutions are ranked by the {result.aggregation} of their step scores, an aggregation chosen on {result.settings.n_dev} dev problems. "
                "Truth comes from the environment's oracle, which judges every step exactly.",
                "The tiny policy was taught a misconception: it often adds where it should take away. Votes cannot mend that, a reward model can; with "
                "a policy that errs only by chance the gain over majority vote would be much smaller (docs/methods.md).",
            ],
        ),
        Table(
            title="Accuracy on unseen problems",
            columns=("method", "accuracy %", "95 % interval", "problems", "policy tokens", "reward tokens"),
            rows=[
                [
                    name,
                    round(100 * summary[name]["value"], 1),
                    interval[name],
                    summary[name]["n"],
                    round(summary[name]["policy_tokens"]),
                    round(summary[name]["reward_tokens"]),
                ]
                for name in accuracy
            ],
            caption="Tokens are means a problem. Intervals resample problems (10,000 times). oracle_pass is the ceiling: some solution is right.",
        ),
        Table(
            title="Paired differences",
            columns=("difference", "percentage points", "95 % interval", "above zero"),
            rows=[
                [name, round(100 * estimate.value, 1), f"{100 * estimate.low:.1f} to {100 * estimate.high:.1f}", "yes" if estimate.low > 0 else "no"]
                if estimate.n
                else [name, None, estimate.method, None]
                for name, estimate in result.differences.items()
            ],
            caption="The same problems on both sides. Equal compute counts a reward token like a policy token, since the two models are of one size.",
        ),
        Plot(title="More samples", svg=plot_curves(result.curves), caption="Accuracy against policy tokens a problem, with 95 % bands."),
        Plot(title="At equal compute", svg=plot_curves_at_equal_compute(result.curves), caption="The same, with the reward model's tokens counted too."),
        Table(
            title="Finding the first error",
            columns=("measure", "value"),
            rows=[
                ["error accuracy %", subset.error_accuracy],
                ["correct accuracy %", subset.correct_accuracy],
                ["F1 %", subset.f1],
                ["threshold, tuned on dev" if result.first_errors.tuned_on else "threshold, the model's own", result.first_errors.threshold],
                ["solutions with an error", subset.n_error],
                ["solutions without", subset.n_correct],
                ["unscored", subset.n_unscored],
            ],
            caption="ProcessBench's protocol on the policy's own test solutions, with the oracle's first errors.",
        ),
        Plot(
            title="Scores before, at and after the first error",
            svg=plot_scores_by_position([scores for _, scores, _ in result.examples], [truth.first_error for _, _, truth in result.examples]),
        ),
        Plot(
            title="Calibration",
            svg=plot_reliability(result.calibration),
            caption=f"A step's score is the predicted chance that its solution ends right. Expected calibration error {result.calibration.ece:.3f}.",
        ),
        Table(
            title="Label quality",
            columns=("measure", "value"),
            rows=[
                ["mean signed error against the exact value", result.labels.bias],
                ["mean absolute error against the exact value", result.labels.mean_abs_error],
                ["95 % count intervals that hold the exact value", result.labels.coverage],
                ["variance over the binomial one", result.labels.variance_ratio],
                ["first error named rightly (tiny policy's labels, hard)", result.label_first_error],
            ],
            caption="The first four rows: Monte-Carlo labels of scripted solutions, where the chance of success is known exactly. The last: hard labels say "
            "whether any completion succeeded, which is not the same as whether the step is right, and this row shows by how much.",
        ),
        Plot(title="Label errors", svg=plot_label_errors(result.labels.errors), caption="Monte-Carlo value minus exact value, scripted solutions."),
        Table(title="The tiny policy's first errors", columns=("type", "solutions"), rows=[[kind, count] for kind, count in result.error_types.items()]),
        Viewer(title="Look at solutions", solutions=_viewed(result), caption="Each step's score beside the oracle's truth."),
        Provenance(settings={**result.provenance, "seed": result.settings.seed, "aggregation": result.aggregation}, usage=result.usage),
    ]
    headline = ", ".join(f"{name} {100 * summary[name]['value']:.1f} %" for name in ("pass@1", f"majority@{n}", f"best_of_{n}", f"weighted_{n}"))
    write_report(path, title="stepward demo", sections=sections, summary=headline)


def _viewed(result: DemoResult) -> list[ViewedSolution]:
    """Solutions of the first test problems, two of each: distinct ones, wrong ones among them."""
    viewed: list[ViewedSolution] = []
    per_problem: dict[str, set[str]] = {}
    for trajectory, scores, truth in result.examples:
        seen = per_problem.setdefault(trajectory.problem.key, set())
        if trajectory.key in seen or len(seen) >= 3:
            continue
        seen.add(trajectory.key)
        right = trajectory.outcome is not None and trajectory.outcome.correct
        viewed.append(ViewedSolution(trajectory=trajectory, scores=scores, truth=truth, group="right answer" if right else "wrong answer"))
        if len(viewed) >= N_VIEWED:
            break
    return viewed
