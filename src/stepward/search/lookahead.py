"""Look-ahead: judging a candidate by where a few more steps lead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stepward.core import InputError, Node, Sampling, Scale, Trajectory
from stepward.labeling.completer import apart
from stepward.search.aside import aside
from stepward.search.beam import StepBeam
from stepward.search.evaluator import Evaluator, set_value
from stepward.search.watching import announce
from stepward.search.workbench import Stopped, Workbench


@dataclass(frozen=True, kw_only=True)
class Lookahead:
    """The value of a candidate after up to `steps` more steps, written at `temperature` and then thrown away.

    With values v_0 (the candidate's own), v_1, ..., v_m along the m <= steps further steps: u_m = v_m and u_i = v_i + alpha (gamma u_{i+1} - v_i); the
    candidate's value is u_0. alpha = 1 is the value at the end of the look-ahead (times gamma^m), for which only the end is judged; alpha = 0 or steps = 0 is
    the plain value, for which nothing is written. A candidate that has ended is judged as it is.

    The steps are metered and counted like all others, on a tree of their own (`aside`); equal candidates share one look-ahead. They have another seed than
    the search's own draws, so that a policy that samples despite temperature 0 does not show the very steps that the search draws next. A candidate whose
    look-ahead fails is unscored with the reason.
    Cost of a candidate: `steps` more steps of the policy; 1 score (alpha = 1) or steps + 1 scores.

    Raises: InputError for negative steps, alpha or gamma outside [0, 1].
    """

    evaluator: Evaluator
    steps: int = 1
    alpha: float = 1.0
    gamma: float = 1.0
    temperature: float = 0.0

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise InputError(f"Lookahead.steps must be at least 0, got {self.steps}")
        for name in ("alpha", "gamma"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"Lookahead.{name} must lie in [0, 1], got {getattr(self, name)!r}")
        Sampling(temperature=self.temperature)

    @property
    def scale(self) -> Scale:
        return self.evaluator.scale

    async def evaluate(self, bench: Workbench, nodes: Sequence[Node]) -> None:
        if not self.steps or not self.alpha:
            await self.evaluator.evaluate(bench, nodes)
            return
        with aside(bench) as scratch:
            paths = await self._roll(scratch, nodes)
            seen = {node.index: node for path in paths for node in self._judged(path) if self._missing(path) is None}
            try:
                await self.evaluator.evaluate(scratch, list(seen.values()))
            finally:
                for node, path in zip(nodes, paths, strict=True):
                    self._take(node, path)
        announce(bench.tree)

    async def _roll(self, scratch: Workbench, nodes: Sequence[Node]) -> list[list[Node]]:
        """Each node's way ahead on the scratch, itself first; shorter where it ends, fails, or the budget does."""
        starts = {_same(node.trajectory): node.trajectory for node in nodes}
        paths = {key: [scratch.add(scratch.root, trajectory)] for key, trajectory in starts.items()}
        sampling = replace(apart(scratch.sampling), temperature=self.temperature)
        for _ in range(self.steps):
            open_ends = {path[-1].index: path for path in paths.values() if not (path[-1].ended or path[-1].closed)}
            if not open_ends:
                break
            try:
                grown = await scratch.expand([path[-1] for path in open_ends.values()], sampling=sampling)
            except Stopped:  # all failed, and the nodes say why, or the budget is spent; whatever got to its end can still be judged
                break
            for child in grown:
                if child.parent is not None:
                    open_ends[child.parent.index].append(child)
        return [paths[_same(node.trajectory)] for node in nodes]

    def _judged(self, path: Sequence[Node]) -> Sequence[Node]:
        """Those on the way whose values count."""
        return path if self.alpha < 1.0 else path[-1:]

    def _missing(self, path: Sequence[Node]) -> str | None:
        """Why the way does not lead far enough; None where it does."""
        end = path[-1]
        if end.ended or len(path) > self.steps:
            return None
        return f"look-ahead failed: {end.dropped}" if end.dropped else "the budget did not reach for its look-ahead"

    def _take(self, node: Node, path: Sequence[Node]) -> None:
        """The candidate's value from those along its way ahead."""
        missing = self._missing(path) or next((seen.reason for seen in self._judged(path) if seen.reason is not None), "the look-ahead was not judged")
        set_value(node, temporal_difference([seen.value for seen in path], alpha=self.alpha, gamma=self.gamma), missing)
        if path[0].scores is not None:
            node.scores = path[0].scores


def _same(trajectory: Trajectory) -> tuple[str, bool, bool]:
    """Equal for candidates that share a look-ahead."""
    return trajectory.key, trajectory.finished, trajectory.truncated


def temporal_difference(values: Sequence[float], *, alpha: float, gamma: float = 1.0) -> float:
    """u_0 of u_m = v_m, u_i = v_i + alpha (gamma u_{i+1} - v_i), for values v_0..v_m, at least one. alpha 1 is gamma^m v_m whatever the others are.

    (ReARTeR: Retrieval-Augmented Reasoning with Trustworthy Process Rewarding, 2025.)
    """
    found = values[-1]
    for value in reversed(values[:-1]):
        found = gamma * found if alpha == 1.0 else value + alpha * (gamma * found - value)
    return found


@dataclass(frozen=True, kw_only=True)
class LookaheadBeam(StepBeam):
    """A step beam that judges every candidate by where `lookahead` more greedy steps lead; these steps are metered, but are no candidates.

    alpha < 1 mixes the values on the way: u_t = v_t + alpha (gamma u_{t+1} - v_t), backwards from the last (see `Lookahead`). lookahead = 0 is the plain
    beam; a lookahead that reaches the end scores outcomes. Cost for T steps of l tokens: width x expansions x T x l x (1 + lookahead) policy tokens; the reward
    model reads the same factor more per level. (Snell et al., Scaling LLM Test-Time Compute Optimally, 2024; alpha: ReARTeR, 2025.)
    Differences: search-and-learn writes the look-ahead but scores the text without it; here it is scored. ReARTeR publishes no alpha, nor code for it: 1 is
    look-ahead search; its explanation model for low values is a refinement, not part of this beam.
    """

    lookahead: int = 1
    alpha: float = 1.0
    gamma: float = 1.0
    temperature: float = 0.0

    name = "lookahead"

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.evaluator

    @property
    def evaluator(self) -> Evaluator:
        return Lookahead(evaluator=super().evaluator, steps=self.lookahead, alpha=self.alpha, gamma=self.gamma, temperature=self.temperature)
