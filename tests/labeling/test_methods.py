"""Every labeling method can be found by name, says what it does and where it comes from, and takes its parameters as text."""

from __future__ import annotations

import re
from typing import Any

import pytest
from rich.console import Console

from stepward.cli.method_help import show_method
from stepward.core import InputError, Sampling
from stepward.engine.loop import run_sync
from stepward.environments.episode import solve
from stepward.environments.grade_school import GradeSchool
from stepward.labeling.adaptive.labeler import Adaptive
from stepward.labeling.load import METHODS, load_labeler, method_named
from stepward.labeling.monte_carlo import MonteCarlo
from stepward.policies.scripted import ScriptedSolver

WORLD, SOLVER = GradeSchool.easy(), ScriptedSolver()
NEEDS_MORE: dict[str, dict[str, Any]] = {"solvable-outcome": {"n_options": 4}, "uncertainty-driven": {"search": "bisect", "value": "share"}}
OWN = {
    "oracle",
    "oracle-local",
    "exact-value",
    "tools",
    "adaptive",
    "adaptive-value",
    "judge",
    "distilled",
}  # no one paper


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_a_page_with_its_source_and_every_parameter(name: str) -> None:
    method = METHODS[name]
    console = Console(record=True, width=150, file=open("/dev/null", "w"))  # noqa: SIM115
    show_method(method, console)
    console.file.close()
    page = console.export_text()
    assert f"stepward label --method {name}" in page
    assert name in OWN or re.search(r"20[12]\d", page), "the paper's year"
    for parameter in method.parameters:
        assert parameter.name in page
        assert parameter.kind in " ".join(page.split()) or not parameter.text
    assert method.about


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if "judge" not in method.needs])
def test_a_method_labels_every_step_and_says_which_it_was(name: str) -> None:
    for problem in WORLD.problems(3, 3):
        (solution,) = run_sync(solve(SOLVER, WORLD, problem, 1))
        labeler = load_labeler(name, environment=WORLD, policy=SOLVER, tools="arithmetic", **NEEDS_MORE.get(name, {}))
        labels = run_sync(labeler.label(solution))
        assert len(labels) == len(solution)
        assert labels.semantics == getattr(labeler, "semantics", labels.semantics)
        assert load_labeler(name, environment=WORLD, policy=SOLVER, tools="arithmetic", **NEEDS_MORE.get(name, {})).fingerprint == labeler.fingerprint


def test_settings_are_read_from_text_by_their_types() -> None:
    made = load_labeler("monte-carlo", environment=WORLD, policy=SOLVER, n="16", threshold="0.25", estimate="hard", batch="none")
    assert isinstance(made, MonteCarlo)
    assert (made.n, made.threshold, made.estimate, made.batch) == (16, 0.25, "hard", None)
    values = load_labeler("adaptive-value", environment=WORLD, policy=SOLVER, sampling=Sampling(seed=3), threshold="1e-1")
    with pytest.raises(InputError, match="'adaptive-value' has no parameter 'error'"):
        load_labeler("adaptive-value", environment=WORLD, policy=SOLVER, error="0.1")  # it would change nothing
    assert isinstance(values, Adaptive)
    assert (values.target, values.threshold, values.completer.sampling.seed) == ("value", 0.1, 3)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("monte-carlo", {"n": "many"}, "monte-carlo: n must be a whole number, got 'many'"),
        ("monte-carlo", {"estimate": "firm"}, "estimate must be soft or hard, got 'firm'"),
        ("monte-carlo", {"depth": "3"}, "'monte-carlo' has no parameter 'depth'; it has: n, threshold"),
        ("monte-carlo", {"n": 0}, "n must be at least 1"),
        ("solvable-outcome", {}, "needs the parameter 'n_options'"),
        ("math-shepherd-hard", {"batch": "4"}, "has no parameter 'batch'"),
        ("spare", {}, "needs a judge"),
        ("guess", {}, "unknown labeling method 'guess'; choose one of monte-carlo"),
    ],
)
def test_what_cannot_be_done_is_said_with_the_remedy(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        load_labeler(name, environment=WORLD, policy=SOLVER, **settings)
    with pytest.raises(InputError, match=r"needs a policy \(--policy\)"):
        load_labeler("monte-carlo", environment=WORLD)
    assert method_named("monte-carlo").needs == ("policy",)
