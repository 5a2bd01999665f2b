"""Choice: from which prefix the next rollouts should start. Expected information about the first error per policy token; nothing is drawn here."""

from __future__ import annotations

import numpy as np

from stepward.core import Floats
from stepward.labeling.adaptive.changepoint import Posterior


def information(posterior: Posterior) -> Floats:
    """Expected information, in nats, that one rollout from each open prefix gives about the place of the first error, shape [P + 1].

    A rollout from prefix t shows how far it follows the chain's own steps and whether it ends right. With D the number of steps it follows and Y its
    outcome, independent given the first error k:  I(k; D, Y) = H(D, Y) - sum_k P(k) [H(D | k) + H(Y | k)].
    """
    chance = posterior.first_error
    n_prefixes = posterior.success.shape[1]
    gains = np.empty(n_prefixes)
    for t in range(n_prefixes):
        again = posterior.repeat[:, t:]
        followed = np.concatenate([np.ones((len(chance), 1)), np.cumprod(again, axis=1)], axis=1)
        followed[:, :-1] -= followed[:, 1:].copy() if again.shape[1] else 0.0
        ends = posterior.success[:, t]
        both = np.stack([(chance * ends) @ followed, (chance * (1.0 - ends)) @ followed])
        gains[t] = _entropy(both).sum() - chance @ (_entropy(followed).sum(axis=1) + _entropy(ends) + _entropy(1.0 - ends))
    return np.maximum(gains, 0.0)


def _entropy(chances: Floats) -> Floats:
    return -chances * np.log(np.maximum(chances, 1e-300))


class Costs:
    """Expected policy tokens of a completion from each prefix: the length of solutions, less what the prefix holds already.

    The length is the mean over the chain itself (counted `weight` times) and the rollouts seen so far, so that it needs no draw to begin with.
    """

    def __init__(self, step_tokens: Floats, weight: float = 2.0) -> None:
        self.before = np.concatenate([[0.0], np.cumsum(step_tokens)])
        self.least = max(1.0, float(np.mean(step_tokens)) if len(step_tokens) else 1.0)
        self._total, self._n = weight * float(self.before[-1]), weight

    def see(self, prefix: int, n_tokens: int) -> None:
        """A completion from `prefix` wrote this many tokens."""
        self._total += self.before[prefix] + n_tokens
        self._n += 1.0

    def expected(self, n_prefixes: int) -> Floats:
        """[n_prefixes], never less than one step."""
        return np.maximum(self.least, self._total / self._n - self.before[:n_prefixes])
