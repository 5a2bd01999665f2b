"""stepward check"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from stepward.cli.inputs import examples_from
from stepward.cli.options import EnvironmentOption, JsonOption, ModelName, OptionalModel, OptionalPolicy, SeedOption
from stepward.cli.output import print_json, print_table
from stepward.core import InputError, Sampling, StepwardError, Trajectory
from stepward.environments.load import ProblemSource, load_environment, make_problems
from stepward.policies.load import load_policy
from stepward.rewards.load import load_reward_model


def check(
    policy: OptionalPolicy = None,
    model: OptionalModel = None,
    environment: EnvironmentOption = "grade-school:easy",
    data: Annotated[list[Path] | None, typer.Option("--data", metavar="FILE", help="Files to read whole: is every row well-formed? Repeatable.")] = None,
    reproducible: Annotated[bool, typer.Option("--reproducible/--not-reproducible", help="Does the policy draw the same samples for the same seed?")] = True,
    causal: Annotated[bool, typer.Option("--causal/--not-causal", help="Is a step's score independent of later steps?")] = True,
    model_name: ModelName = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Check that a policy, a model, an environment or data files keep their promises.

    Runs the public conformance suites (stepward.testing): number of scores equals number of steps, results do not depend on order or
    company, later steps do not change earlier scores, empty and strange inputs, cut-off is not wrong. Exit code 1 when a check fails.

    Example: stepward check --model prm:my-model
    """
    from stepward.testing import check_environment, check_policy, check_reward_model

    world = load_environment(environment)
    problems = make_problems(world, seed=seed, n=4, split="dev") if isinstance(world, ProblemSource) else []
    suites: dict[str, Callable[[], list[str]]] = {}
    if policy is not None:
        if not problems:
            raise InputError(f"environment {environment!r} makes no problems of its own to check a policy on; use --environment grade-school:easy")
        writer = load_policy(policy, model_name=model_name)
        suites[f"policy {policy}"] = lambda: check_policy(writer, problems, sampling=Sampling(seed=seed), reproducible=reproducible)
    if model is not None:
        scorer = load_reward_model(model)
        gold = [Trajectory.from_texts(problem, problem.reference_steps, separator="\n") for problem in problems]
        suites[f"model {model}"] = lambda: check_reward_model(scorer, gold, causal=causal)
    for path in data or []:
        suites[f"file {path}"] = lambda path=path: [f"{len(examples_from([path])):,} rows are well-formed"]  # type: ignore[misc]
    if not suites:
        if not problems:
            raise InputError("nothing to check: give --policy, --model, --data, or an --environment that makes its own problems")
        suites[f"environment {environment}"] = lambda: check_environment(world, problems)
    rows, results = [], {}
    for name, suite in suites.items():
        try:
            passed, failure = suite(), None
        except (AssertionError, StepwardError) as error:
            passed, failure = [], str(error)
        results[name] = {"passed": passed, "failure": failure}
        rows.append([name, "passed" if failure is None else "FAILED", ", ".join(passed) if failure is None else failure])
    if json:
        print_json(results)
    else:
        print_table("checks", ["subject", "result", "what"], rows)
    if any(result["failure"] is not None for result in results.values()):
        raise typer.Exit(1)
