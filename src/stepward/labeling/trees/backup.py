"""Backups: what the ends of a tree say about its inner nodes. Pure functions from a root to {node index: value}; NaN or absence means unknown.

No sampling and no selection here. `reward` reads an end (a node without children), NaN where it is unknown; unknown ends are left out of every rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from stepward.core import InputError, Node
from stepward.labeling.trees.rollout_tree import outcome_reward

Reward = Callable[[Node], float]
Values = dict[int, float]


def descending(root: Node) -> Iterator[Node]:
    """Every node below and at the root, parents before children, in the order of the children."""
    stack = [root]
    while stack:
        node = stack.pop()
        yield node
        stack += reversed(node.children)


def ascending(root: Node) -> list[Node]:
    """The same nodes, children before parents."""
    return list(descending(root))[::-1]


def leaf_mean(root: Node, *, reward: Reward = outcome_reward, weight: Callable[[Node], float] = lambda _: 1.0) -> Values:
    """v(s) = sum of w r over the ends below s / sum of w: the share of right leaves for w = 1 and r in {0, 1}.

    In a tree of a fixed number of fresh draws a node it is an unbiased estimate of V(s). Where equal ends were merged, `weight` is how often each came.
    """
    sums: dict[int, tuple[float, float]] = {}
    for node in ascending(root):
        if node.children:
            total, mass = (sum(sums[child.index][part] for child in node.children) for part in (0, 1))
        else:
            r, w = reward(node), weight(node)
            total, mass = (0.0, 0.0) if math.isnan(r) else (w * r, w)
        sums[node.index] = (total, mass)
    return {index: total / mass if mass else math.nan for index, (total, mass) in sums.items()}


def leaf_any(root: Node, *, reward: Reward = outcome_reward) -> Values:
    """1 where some end below is right (r = 1), 0 where none is, NaN where none is known."""
    return {index: value if math.isnan(value) else float(value >= 1.0) for index, value in leaf_max(root, reward=reward, discount=1.0).items()}


def leaf_max(root: Node, *, reward: Reward = outcome_reward, discount: float = 0.9) -> Values:
    """Q(end) = r; Q(s) = discount * max over children of Q (QLASS, 2025, vanilla). At discount 1 the best end below.

    Optimistic: the maximum over sampled actions lies above the policy's own value, the more so the more were sampled.
    """
    _check_unit("discount", discount)
    found: Values = {}
    for node in ascending(root):
        below = [found[child.index] for child in node.children if not math.isnan(found[child.index])]
        found[node.index] = (discount * max(below) if below else math.nan) if node.children else reward(node)
    return found


def pseudo_depth(root: Node, *, height: int, reward: Reward = outcome_reward, discount: float = 0.9) -> Values:
    """QLASS's second rule (2025): ends do not lose by coming early.

    An inner node's own reward is the mean of the ends below; an end at depth d below the root counts as if it went on to depth `height` - 1:
    Q(end) = r * sum over i < max(1, height - d) of discount^i, Q(s) = mean(s) + discount * max over children of Q. Depth counts edges.
    """
    _check_unit("discount", discount)
    means = leaf_mean(root, reward=reward)
    depths = {node.index: node.depth - root.depth for node in descending(root)}
    found: Values = {}
    for node in ascending(root):
        if node.children:
            below = [found[child.index] for child in node.children if not math.isnan(found[child.index])]
            found[node.index] = means[node.index] + discount * max(below) if below else math.nan
        else:
            found[node.index] = reward(node) * sum(discount**i for i in range(max(1, height - depths[node.index])))
    return found


def min_max(values: Mapping[int, float]) -> Values:
    """(v - min) / (max - min) over the known values: their order is kept, the scale is this tree's own. All NaN where they are all equal."""
    known = [value for value in values.values() if not math.isnan(value)]
    low, span = (min(known), max(known) - min(known)) if known else (0.0, 0.0)
    return {index: (value - low) / span if span > 0.0 else math.nan for index, value in values.items()}


def soft(root: Node, eta: float, *, reward: Reward = outcome_reward, weight: Callable[[Node], float] = lambda _: 1.0) -> Values:
    """v(s) = (1/eta) ln mean over ends below of exp(eta r): the KL-regularised value of Entropy-Regularized Process Reward Model (2024).

    eta -> 0 is `leaf_mean`, eta -> infinity the best end, eta -> -infinity the worst.
    """
    if eta == 0.0 or not math.isfinite(eta):
        raise InputError(f"soft: eta must be finite and not 0, got {eta!r}; the limit 0 is leaf_mean")
    logs: dict[int, tuple[float, float]] = {}  # log of sum w exp(eta r), log of sum w
    for node in ascending(root):
        if node.children:
            total, mass = (float(np.logaddexp.reduce([logs[child.index][part] for child in node.children])) for part in (0, 1))
        else:
            r, w = reward(node), weight(node)
            mass = -math.inf if math.isnan(r) or w <= 0.0 else math.log(w)
            total = mass if mass == -math.inf else mass + eta * r
        logs[node.index] = (total, mass)
    return {index: (total - mass) / eta if mass > -math.inf else math.nan for index, (total, mass) in logs.items()}


def visit_mean(root: Node) -> Values:
    """v(s) = sum of the values backed up through s / visits; NaN for a node that was never visited."""
    return {node.index: node.value_sum / node.visits if node.visits else math.nan for node in descending(root)}


def add_discounted(node: Node, value: float, *, discount: float = 0.9) -> None:
    """Add discount^d * value to the node at distance d above (0: this one), and a visit (GroundedPRM, 2025). Sums, not means: read their sign."""
    _check_unit("discount", discount)
    for distance, ancestor in enumerate(reversed(node.path)):
        ancestor.visits += 1
        ancestor.value_sum += discount**distance * value


def simulation_return(verdicts: Sequence[float], outcome: float) -> float:
    """R = sum over i < N of (1/N) v_i (N - i)/N + (1/N) F for N inner steps with verdicts v_i in {-1, 0, 1} and final F in {-1, 1}; F when N = 0.

    Earlier steps weigh more; |R| <= (N + 1)/(2N) + 1/N; changing the sign of F changes R by 2/N. (GroundedPRM, 2025.)
    """
    n = len(verdicts)
    if n == 0:
        return outcome
    weights = np.arange(n, 0, -1) / n**2
    return float(weights @ np.asarray(verdicts, dtype=np.float64) + outcome / n)


def return_bound(n: int) -> float:
    """The largest |R| of a simulation with n inner steps: (n + 1)/(2n) + 1/n, and 1 for n = 0."""
    return 1.0 if n == 0 else (n + 1) / (2 * n) + 1 / n


def distance_to_success(root: Node, *, reward: Reward = outcome_reward) -> dict[int, int | None]:
    """Fewest further steps to a right end (r = 1) below; 0 at a right end, None where there is none. Steps are counted, not edges."""
    found: dict[int, int | None] = {}
    for node in ascending(root):
        if node.children:
            ways = [(found[child.index], len(child.trajectory) - len(node.trajectory)) for child in node.children]
            found[node.index] = min((far + steps for far, steps in ways if far is not None), default=None)
        else:
            found[node.index] = 0 if reward(node) >= 1.0 else None
    return found


def quality_values(root: Node, *, reward: Reward = outcome_reward) -> Values:
    """ReST-MCTS* inferred quality values (2024): v_0 = 0 and, along every branch, v_k = max(0, v_{k-1} + w_k), w_k = (1 - v_{k-1})/(m_k + 1) (1 - 2 r_k).

    m_k: fewest further steps to a right end. r_k = 0 on a branch that reaches one; elsewhere r_k = 1 and m_k is that of the nearest ancestor that does.
    v lies in [0, 1], is 1 exactly at right ends, k/n along a straight right chain of n, and rises exactly where r_k = 0.
    All NaN where nothing below the root is right.

    An edge of several steps counts each of them.
    """
    far = distance_to_success(root, reward=reward)
    if far[root.index] is None:
        return {node.index: math.nan for node in descending(root)}
    values: Values = {root.index: 0.0}
    inherited: dict[int, int] = {}
    for node in descending(root):
        own = far[node.index]
        inherited[node.index] = m = own if own is not None else inherited[node.parent.index] if node.parent is not None else 0
        if node is root or node.parent is None:
            continue
        value = values[node.parent.index]
        steps = len(node.trajectory) - len(node.parent.trajectory)
        for left in range(steps - 1, -1, -1):
            value = value + (1.0 - value) / (m + left + 1) if own is not None else max(0.0, value - (1.0 - value) / (m + 1))
        values[node.index] = value
    return values


def _check_unit(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise InputError(f"{name} must lie in [0, 1], got {value!r}")
