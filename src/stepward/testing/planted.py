"""Planted trees: a toy world that shows its whole tree in the problem, a policy that walks it by a known law, and reward models that know exact values.

For tests and benchmarks of searches: every value, optimum and chance can be computed here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np

from stepward.core import (
    DEFAULT_SAMPLING,
    Granularity,
    InputError,
    Outcome,
    Problem,
    RequestFailed,
    Sampling,
    Scale,
    Step,
    StepScores,
    TokenLogprobs,
    Trajectory,
    Until,
    Usage,
    canonical_json,
    charge,
    content_hash,
)
from stepward.engine.noise import uniforms

SEPARATOR = "\n"
_ASKS = "Choose a branch at every fork of "
Leaf = float | Mapping[str, Any]  # a reward in [0, 1], or {"reward": r, "answer": "a"}
Fork = Sequence[Any]  # of forks and leaves, a branch each
_Path = tuple[int, ...]


@dataclass(frozen=True)
class PlantedTree:
    """The environment. A step takes a branch ("take 2"); a solution ends at a leaf and is graded by the leaf's reward, in [0, 1].

    The answer of a leaf is its path ("0.2.1") unless the tree names one. A step that takes no branch of its fork leads nowhere: reward 0.
    `interactive`: the environment tells after each step how many branches follow, and ends the episode at a leaf, as an agent's world does.
    """

    interactive: bool = False

    @property
    def fingerprint(self) -> str:
        return f"planted-tree/1{'/interactive' if self.interactive else ''}"

    def problem(self, tree: Fork, *, name: str = "") -> Problem:
        """The problem of this tree, nested lists down to rewards: `[[0.1, 1.0], 0.5]` has three leaves. Its reference answer is that of the first best leaf."""
        prompt = f"{_ASKS}{json.dumps(tree)}{name and f' ({name})'}"
        best = max(_leaves(_parse(prompt)), key=lambda path: _reward(_at(_parse(prompt), path)))
        return Problem(prompt, answer=_answer(_at(_parse(prompt), best), best))

    def random(self, seed: int, *, depth: int = 3, branching: int = 3, right: float | None = None) -> Problem:
        """A full tree with one leaf of reward 1 and others between 0 and 0.9; or, where `right` is given, with rewards 1 of this chance and else 0."""
        n_leaves = branching**depth
        noise = uniforms(seed, "planted tree", 0, 0, n_leaves + 1)
        rewards = [round(0.9 * float(u), 4) for u in noise[:-1]] if right is None else [float(u < right) for u in noise[:-1]]
        if right is None:
            rewards[int(noise[-1] * n_leaves)] = 1.0
        level: list[Any] = rewards
        for _ in range(depth - 1):
            level = [level[start : start + branching] for start in range(0, len(level), branching)]
        return self.problem(level, name=f"planted {seed}")

    def leaves(self, problem: Problem) -> dict[str, float]:
        """Reward of every leaf, by its path as text, from left to right."""
        tree = _parse(problem.prompt)
        return {_text(path): _reward(_at(tree, path)) for path in _leaves(tree)}

    def best(self, prefix: Trajectory) -> float:
        """The largest reward below a prefix; 0 off the tree."""
        tree, path = _parse(prefix.problem.prompt), _path(prefix)
        place = None if path is None else _at(tree, path)
        return 0.0 if place is None else max(_reward(_at(place, below)) for below in _leaves(place))

    def walk(self, problem: Problem, choices: Sequence[int]) -> Trajectory:
        """The trajectory that takes these branches, as a policy of one word a step would write it; finished at a leaf."""
        tree, trajectory = _parse(problem.prompt), Trajectory(problem)
        for depth, choice in enumerate(choices, 1):
            ends = _is_leaf(_at(tree, tuple(choices[:depth])))
            told = _told(_at(tree, tuple(choices[:depth]))) if self.interactive else None
            trajectory = trajectory.extend(Step(f"take {choice}", "" if ends else SEPARATOR, observation=told, n_tokens=2), finished=ends)
        return trajectory

    async def observe(self, trajectory: Trajectory) -> Trajectory:
        if not self.interactive or not trajectory.steps:
            return trajectory
        path = _path(trajectory)
        told = _told(None if path is None else _at(_parse(trajectory.problem.prompt), path))
        return replace(trajectory, steps=(*trajectory.steps[:-1], replace(trajectory.steps[-1], observation=told)))

    def is_finished(self, trajectory: Trajectory) -> bool:
        path = _path(trajectory)
        place = None if path is None else _at(_parse(trajectory.problem.prompt), path)
        return place is None or _is_leaf(place)

    def answer(self, trajectory: Trajectory) -> str | None:
        path = _path(trajectory)
        place = None if path is None else _at(_parse(trajectory.problem.prompt), path)
        return None if path is None or place is None or not _is_leaf(place) else _answer(place, path)

    async def grade(self, trajectory: Trajectory) -> Outcome:
        answer = self.answer(trajectory)
        if answer is not None:
            return Outcome(_reward(_at(_parse(trajectory.problem.prompt), _path(trajectory) or ())), answer)
        return Outcome.unscored("cut off before a leaf") if trajectory.truncated or not trajectory.ended else Outcome(0.0)


@dataclass(frozen=True, kw_only=True)
class PlantedPolicy:
    """Walks a planted tree. At a fork of b branches, P(i) is proportional to exp(skew u_i), u_i a fixed uniform number of (law, fork, i); skew 0 is uniform.

    draws: "random" draws from the law (sharpened by the temperature; 0 takes the likeliest, the first of equals); "in turn" takes branch d mod b as draw d
    of a fork, so that b draws are all branches, and walks to all leaves in as many draws as there are leaves (of a full tree).
    A step has `n_words` tokens, of which the last carries all of its log-probability. Step j of draw d depends on (seed, prefix key, d, j) only.
    """

    skew: float = 0.0
    law: int = 0
    draws: Literal["random", "in turn"] = "random"
    n_words: int = 2
    interactive: bool = False  # the environment ends episodes

    def __post_init__(self) -> None:
        if self.n_words < 2:
            raise InputError(f"PlantedPolicy.n_words must be at least 2, got {self.n_words}")

    @property
    def fingerprint(self) -> str:
        return f"planted-policy/{content_hash(canonical_json(dict(vars(self))))[:16]}"

    def chances(self, prefix: Trajectory) -> tuple[float, ...]:
        """P(branch) at an open prefix, at temperature 1."""
        path = _path(prefix)
        place = None if path is None else _at(_parse(prefix.problem.prompt), path)
        if path is None or place is None or _is_leaf(place):
            raise InputError(f"there is no fork after {prefix.text!r}")
        return self._law(path, len(place))

    def value(self, prefix: Trajectory) -> float:
        """V: the expected reward of a walk from here at temperature 1; 0 off the tree; NaN for one cut off before a leaf."""
        path = _path(prefix)
        place = None if path is None else _at(_parse(prefix.problem.prompt), path)
        if place is None or path is None:
            return 0.0
        if prefix.truncated and not _is_leaf(place):
            return math.nan
        return self._value(path, place)

    async def sample(
        self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        """`n` continuations. Raises: InputError for a prefix that has ended or left the tree."""
        if prefix.ended:
            raise InputError("cannot continue a trajectory that has ended; use prefix(k) to go back to an open one")
        self.chances(prefix)
        made = [self._continue(prefix, until, sampling, draw + index) for index in range(n)]
        charge(Usage(policy_tokens=sum(_n_tokens(end) - _n_tokens(prefix) for end in made), policy_prefill=_n_tokens(prefix), calls=1))
        return made

    async def logprobs(self, trajectory: Trajectory) -> TokenLogprobs:
        """ln P of every branch that was taken, on its step's last token; the words before it are certain."""
        charge(Usage(policy_prefill=_n_tokens(trajectory), calls=1))
        steps = []
        for index, step in enumerate(trajectory.steps):
            chances, taken = self.chances(trajectory.prefix(index)), _taken(step)
            if taken is None or taken >= len(chances):
                raise InputError(f"step {index} takes no branch: {step.text!r}")
            steps.append((*[0.0] * ((step.n_tokens or len(step.text.split())) - 1), math.log(chances[taken])))
        return TokenLogprobs(tuple(steps))

    def _continue(self, prefix: Trajectory, until: Until, sampling: Sampling, draw: int) -> Trajectory:
        tree, trajectory, place_in_turn = _parse(prefix.problem.prompt), prefix, draw
        for position in range(sampling.max_steps):
            path = _path(trajectory) or ()
            fork = _at(tree, path)
            if len(trajectory) >= sampling.max_steps:
                return replace(trajectory, truncated=True)
            chosen = place_in_turn % len(fork) if self.draws == "in turn" else self._drawn(prefix, path, len(fork), sampling, draw, position)
            place_in_turn //= len(fork)
            ends = _is_leaf(_at(fork, (chosen,)))
            room = min(sampling.max_step_tokens, sampling.max_tokens - _n_tokens(trajectory))
            text = " ".join([*["then"] * (self.n_words - 2), "take", str(chosen)])
            if room < self.n_words:
                return trajectory.extend(Step(" ".join(text.split()[:room]), n_tokens=room), truncated=True) if room else replace(trajectory, truncated=True)
            step = Step(text, "" if ends else SEPARATOR, n_tokens=self.n_words, logprob=math.log(self._law(path, len(fork))[chosen]))
            full = not ends and len(trajectory) + 1 >= sampling.max_steps
            trajectory = trajectory.extend(step, finished=ends and not self.interactive, truncated=full)
            if trajectory.ended or until is Until.STEP or ends:
                break
        return trajectory

    def _drawn(self, prefix: Trajectory, path: _Path, n: int, sampling: Sampling, draw: int, position: int) -> int:
        law = np.array(self._law(path, n))
        if sampling.temperature == 0.0:
            return int(law.argmax())
        sharp = (law / law.max()) ** (1.0 / sampling.temperature)
        (noise,) = uniforms(sampling.seed, prefix.key, draw, position, 1)
        return min(int(np.searchsorted(np.cumsum(sharp / sharp.sum()), noise, side="right")), n - 1)

    def _law(self, path: _Path, n: int) -> tuple[float, ...]:
        weights = np.exp(self.skew * uniforms(self.law, f"fork {_text(path)}", 0, 0, n))
        return tuple(float(weight) for weight in weights / weights.sum())

    def _value(self, path: _Path, place: Any) -> float:
        if _is_leaf(place):
            return _reward(place)
        return sum(chance * self._value((*path, i), place[i]) for i, chance in enumerate(self._law(path, len(place))))


@dataclass(frozen=True, kw_only=True)
class PlantedModel:
    """Step scores that know the tree: "value" is V under `policy`, "best" the largest reward below. Plus `shift`, and a fixed error of scale `noise` a prefix.

    `fail_every`: the request fails for one in so many trajectories (0: never). A request costs the words of the solution in reward tokens.
    """

    policy: PlantedPolicy = PlantedPolicy()
    knows: Literal["value", "best"] = "value"
    shift: float = 0.0
    noise: float = 0.0
    fail_every: int = 0

    granularity: ClassVar[Granularity] = "step"
    scale: ClassVar[Scale] = "logit"  # shifted scores need not be probabilities

    @property
    def fingerprint(self) -> str:
        return f"planted-model/{content_hash(canonical_json([self.policy.fingerprint, self.knows, self.shift, self.noise, self.fail_every]))[:16]}"

    def price(self, trajectory: Trajectory) -> Usage:
        return Usage(reward_tokens=_n_tokens(trajectory), calls=1)

    async def score(self, trajectory: Trajectory) -> StepScores:
        """Shape [S]. Raises: RequestFailed as `fail_every` says."""
        if self.fail_every and int(trajectory.key[:8], 16) % self.fail_every == 0:
            raise RequestFailed("the planted model does not answer")
        charge(self.price(trajectory))
        values = [self._exact(prefix) + self.shift + self._error(prefix) for prefix in trajectory.prefixes()]
        reasons = tuple("cut off before a leaf" if math.isnan(value) else None for value in values)
        return StepScores(np.array(values, dtype=np.float64), reasons, self.scale)

    def _exact(self, prefix: Trajectory) -> float:
        return self.policy.value(prefix) if self.knows == "value" else PlantedTree().best(prefix)

    def _error(self, prefix: Trajectory) -> float:
        return self.noise * (2.0 * float(uniforms(0, f"error {prefix.key}", 0, 0, 1)[0]) - 1.0) if self.noise else 0.0


@lru_cache(maxsize=4096)
def _parse(prompt: str) -> Any:
    """The tree in a prompt. Raises: InputError for a problem that shows none."""
    try:
        tree, _ = json.JSONDecoder().raw_decode(prompt.removeprefix(_ASKS))
    except json.JSONDecodeError:
        tree = None
    if not isinstance(tree, list) or not prompt.startswith(_ASKS):
        raise InputError(f"not a problem of a planted tree: {prompt[:80]!r}; make one with PlantedTree().problem or .random")
    return tree


def _taken(step: Step) -> int | None:
    words = step.text.split()
    return int(words[-1]) if len(words) >= 2 and words[-2] == "take" and words[-1].isdecimal() else None


def _path(trajectory: Trajectory) -> _Path | None:
    """The branches taken; None where a step takes none."""
    taken = [_taken(step) for step in trajectory.steps]
    return None if None in taken else tuple(choice for choice in taken if choice is not None)


def _at(tree: Any, path: _Path) -> Any:
    """The fork or leaf at a path; None off the tree."""
    for choice in path:
        if tree is None or _is_leaf(tree) or choice >= len(tree):
            return None
        tree = tree[choice]
    return tree


def _leaves(tree: Any, path: _Path = ()) -> list[_Path]:
    return [path] if _is_leaf(tree) else [leaf for i, branch in enumerate(tree) for leaf in _leaves(branch, (*path, i))]


def _is_leaf(place: Any) -> bool:
    return not isinstance(place, list)


def _reward(leaf: Any) -> float:
    return float(leaf["reward"] if isinstance(leaf, Mapping) else leaf)


def _answer(leaf: Any, path: _Path) -> str:
    return str(leaf["answer"]) if isinstance(leaf, Mapping) and "answer" in leaf else _text(path)


def _text(path: _Path) -> str:
    return ".".join(map(str, path))


def _told(place: Any) -> str:
    return "nothing is there" if place is None else "the end" if _is_leaf(place) else f"{len(place)} branches follow"


def _n_tokens(trajectory: Trajectory) -> int:
    return sum(step.n_tokens if step.n_tokens is not None else len(step.text.split()) for step in trajectory.steps)
