"""Hypothesis strategies for the nouns of `stepward.core`."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

from stepward.core import NO_ERROR, Count, Example, Outcome, Problem, SearchResult, Step, StepLabels, StepScores, Trajectory, Tree, Usage

texts = st.text(max_size=12)  # without lone surrogates
wild_texts = st.one_of(texts, st.sampled_from(["\ud800", "a\udfffb", "\x00", "\r\n", "\u2028", "ки", "𝔘"]))
reasons = st.text(min_size=1, max_size=8)
floats = st.floats(allow_nan=False, allow_infinity=False)
probabilities = st.floats(0.0, 1.0)
scalars = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | floats | wild_texts
json_values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(wild_texts, inner, max_size=3), max_leaves=6)
metadata = st.dictionaries(texts, json_values, max_size=3)
usages = st.builds(Usage, policy_tokens=st.integers(0, 10**12), reward_tokens=st.integers(0, 9), calls=st.integers(0, 9), flops=st.integers(0, 10**20))
steps = st.builds(
    Step,
    text=wild_texts,
    separator=st.sampled_from(["", "\n", "\n\n", " \r\n"]),
    action=json_values,
    observation=st.none() | wild_texts,
    agent=texts,
    n_tokens=st.none() | st.integers(0, 10**6),
    logprob=st.none() | st.floats(-1e6, 0.0),
)
problems = st.builds(
    Problem,
    prompt=wild_texts,
    answer=st.none() | wild_texts,
    reference_steps=st.lists(texts, max_size=2).map(tuple),
    environment=texts,
    images=st.lists(texts, max_size=2).map(tuple),
    metadata=metadata,
    id=st.sampled_from(["", "p-1"]),
)
outcomes = st.builds(Outcome, value=probabilities, answer=st.none() | texts) | st.builds(Outcome.unscored, reasons, answer=st.none() | texts)


@st.composite
def trajectories(draw: st.DrawFn, max_size: int = 4) -> Trajectory:
    ended = draw(st.sampled_from(["open", "finished", "truncated"]))
    return Trajectory(
        draw(problems),
        tuple(draw(st.lists(steps, max_size=max_size))),
        finished=ended == "finished",
        truncated=ended == "truncated",
        outcome=draw(st.none() | outcomes),
    )


@st.composite
def step_scores(draw: st.DrawFn, n_steps: int | None = None) -> StepScores:
    scale = draw(st.sampled_from(["probability", "logit"]))
    known = probabilities if scale == "probability" else floats
    size = draw(st.integers(0, 4)) if n_steps is None else n_steps
    values = draw(st.lists(known | st.just(math.nan), min_size=size, max_size=size))
    given = tuple(draw(reasons) if math.isnan(value) else None for value in values)
    return StepScores(values, given, scale, draw(floats), source=draw(metadata), usage=draw(usages))  # type: ignore[arg-type]


@st.composite
def step_labels(draw: st.DrawFn, n_steps: int | None = None) -> StepLabels:
    size = draw(st.integers(0, 4)) if n_steps is None else n_steps
    values = draw(st.lists(probabilities | st.just(math.nan), min_size=size, max_size=size))
    optional: Any = st.none() | texts
    return StepLabels(
        values,  # type: ignore[arg-type]
        draw(st.sampled_from(["value", "local", "prefix"])),
        tuple(draw(st.none() | st.booleans()) for _ in values),
        draw(st.none() | st.integers(NO_ERROR, size - 1)),
        tuple(draw(reasons) if math.isnan(value) else None for value in values),
        tuple(draw(optional) for _ in values),
        tuple(draw(optional) for _ in values),
        tuple(draw(st.none() | st.integers(0, 9).map(lambda n: Count(n // 2, n, 1))) for _ in values),
        source=draw(metadata),
        usage=draw(usages),
    )


@st.composite
def examples(draw: st.DrawFn) -> Example:
    trajectory = draw(trajectories())
    labels = draw(st.none() | step_labels(len(trajectory)))
    return Example(trajectory, labels, id=draw(texts), source=draw(texts), metadata=draw(metadata))


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    start = Trajectory(draw(problems))
    tree = Tree(start)
    for _ in range(draw(st.integers(0, 4))):
        parents = [node for node in tree if not node.ended]
        if not parents:
            break
        parent = parents[draw(st.integers(0, len(parents) - 1))]
        node = tree.add(parent, parent.trajectory.extend(draw(steps), finished=draw(st.booleans())))
        node.value, node.reason = draw(st.sampled_from([(0.25, None), (math.nan, "failed")]))
        node.scores = draw(st.none() | step_scores(len(node.trajectory)))
        node.closed = draw(st.booleans())
        if not math.isnan(node.value):
            node.backup(node.value)
    return tree


@st.composite
def search_results(draw: st.DrawFn) -> SearchResult:
    tree = draw(trees())
    ends = tree.ends
    chosen = ends[0].trajectory if ends else None
    return SearchResult(chosen, tree, draw(usages), None if chosen else "nothing finished", draw(metadata))


records: Any = st.one_of(problems, steps, outcomes, trajectories(), step_scores(), step_labels(), examples(), trees(), search_results())
