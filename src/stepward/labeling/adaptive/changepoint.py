"""Posterior: where the first error is, and what every prefix is worth, given all evidence about one chain. Exact inference in the model of `prior`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stepward.core import Floats, InputError
from stepward.labeling.adaptive.chain import Chain
from stepward.labeling.adaptive.prior import LEVELS, RATES, Prior

G = len(LEVELS)
TINY = 1e-300
_LOG = np.log(np.maximum(LEVELS, 1e-300))
_LOG_NOT = np.log1p(-LEVELS)
_LOG_RATES, _LOG_NOT_RATES = np.log(RATES), np.log1p(-RATES)


@dataclass(frozen=True, eq=False)
class Posterior:
    """What follows from a chain of S steps with prefixes 0..P that can be rolled out.

    first_error: [S + 1], chance that step i is the first error; the last entry is the chance of none.
    success: [S + 1, P + 1], chance that the next rollout from prefix t ends right, if step k is the first error (last row: none).
    repeat: [S + 1, S], chance that the next rollout writes step i again, likewise.
    levels: [P + 1, G], chances of the levels of V(prefix t). log_evidence: log-probability of all that was seen, up to what no hypothesis changes.
    """

    first_error: Floats
    success: Floats
    repeat: Floats
    levels: Floats
    log_evidence: float

    @property
    def good(self) -> Floats:
        """[S]: chance that step i and all before it are right, P(first error > i)."""
        return 1.0 - np.cumsum(self.first_error[:-1])

    @property
    def means(self) -> Floats:
        """[P + 1]: posterior mean of V(prefix t)."""
        return self.levels @ LEVELS

    def interval(self, prefix: int, level: float = 0.95) -> tuple[float, float]:
        """Equal-tailed credible interval of V(prefix); each level stands for the values half-way to its neighbours."""
        edges = np.concatenate([[0.0, 0.0], (LEVELS[1:-1] + LEVELS[2:]) / 2, [1.0]])
        total = np.concatenate([[0.0], np.cumsum(self.levels[prefix])])
        total /= total[-1]
        tail = (1.0 - level) / 2
        low, high = (float(np.interp(q, total, edges)) for q in (tail, 1.0 - tail))
        return (0.0 if self.levels[prefix, 0] > tail else low), high


def rollout_likelihood(chain: Chain) -> Floats:
    """[P + 1, G]: likelihood of the rollouts from each prefix by the level of V, its largest value 1."""
    size = chain.n_open + 1
    won, lost = chain.successes[:size, None], (chain.rollouts - chain.successes)[:size, None]
    log = np.where(won > 0, won * _LOG, 0.0) + lost * _LOG_NOT
    made = np.exp(log - log.max(axis=1, keepdims=True))
    made[:, 0] = np.where(chain.successes[:size] > 0, 0.0, made[:, 0])
    made[chain.reached[:size], 0] = 0.0  # a success through a prefix proves that V > 0 there
    return np.asarray(made, dtype=np.float64)


def agreement(chain: Chain, prior: Prior) -> tuple[Floats, Floats]:
    """For right steps, errors, steps after one and repairs: likelihood of who wrote step i again, [4, S], and the chance that the next rollout does, [4, S]."""
    log = chain.passes[:, None] * _LOG_RATES + chain.deviations[:, None] * _LOG_NOT_RATES
    each = np.exp(log - log.max(axis=1, keepdims=True))
    mixed = np.array([prior.agree_right, prior.agree_wrong, prior.agree_after, prior.agree_repair])
    likelihood = mixed @ each.T
    again = (mixed * RATES) @ each.T / np.maximum(likelihood, 1e-300)
    return likelihood, again


def infer(chain: Chain, prior: Prior) -> Posterior:
    """The exact posterior: forward sums over the clean phase and backward sums over what follows an error, joined at every possible first error.

    P(k | D) is proportional to  F_{k-1} K_fall h a_wrong(k) L_k B_k,  with F the clean forward sums, L the likelihood of rollouts, B the backward sums
    over the phases astray and repaired. Time: O(S^2 G^2) for the predictions, O(S G^2) for P(k | D) alone.

    Raises: InputError for a chain without steps, and for a prior that rules out what was seen.
    """
    if chain.n_steps == 0:
        raise InputError("infer needs a chain of at least one step")
    laws = _Laws.of(chain, prior)
    sums = _Sums.of(chain, laws, np.array(prior.start))
    log_evidence = float(np.logaddexp.reduce(sums.log))
    if not np.isfinite(log_evidence):
        raise InputError("the prior rules out what was seen: give no law weights of exactly 0 for what can happen")
    first_error = np.exp(sums.log - log_evidence)
    success, levels = _predictions(chain, laws, sums, first_error)
    _, again = agreement(chain, prior)
    place, step = np.arange(chain.n_steps + 1)[:, None], np.arange(chain.n_steps)[None, :]
    repeat = np.where(step < place, again[0], np.where(step == place, again[1], again[2]))
    return Posterior(first_error, success, repeat, levels, log_evidence)


@dataclass(frozen=True, eq=False)
class _Laws:
    """The model of one chain with its evidence. P open prefixes after the bare problem, steps 0..P-1 between them.

    seen: [P + 1, G], likelihood of rollouts. right, wrong: [S], likelihood of the other evidence about a step that is right while clean, or the first error.
    rise, fall: [G, G], moves of a clean chain that goes on, errors not yet weighed. later: P tables [2G, 2G], from (astray, repaired) to (astray, repaired),
    evidence included. end_error, end_right: [G], end_later: [2G], chance of how the chain ended by the level before it; ones where it has not.
    """

    seen: Floats
    right: Floats
    wrong: Floats
    rise: Floats
    fall: Floats
    later: list[Floats]
    end_error: Floats
    end_right: Floats
    end_later: Floats

    @classmethod
    def of(cls, chain: Chain, prior: Prior) -> _Laws:
        seen, (same, _) = rollout_likelihood(chain), agreement(chain, prior)
        other = np.exp(chain.others - chain.others.max(axis=1, keepdims=True))
        late = same * other[:, 2]
        h, r = prior.hazard, prior.repair
        clean_on, astray_on = going_on(prior)
        rise, fall = (1.0 - h) * clean_on * prior.kernel("rise"), h * clean_on * prior.kernel("fall")
        stay, recover = (1.0 - r) * astray_on * prior.kernel("stay"), r * astray_on * prior.kernel("recover")
        later = []
        for i in range(chain.n_open):
            moved = np.empty((2 * G, 2 * G))
            moved[:G, :G], moved[:G, G:] = late[2, i] * stay, late[3, i] * recover
            moved[G:, :G], moved[G:, G:] = late[1, i] * fall, late[0, i] * rise
            later.append(moved * np.concatenate([seen[i + 1], seen[i + 1]]))
        end_error, end_right, end_later = np.ones(G), np.ones(G), np.ones(2 * G)
        if chain.outcome is not None:
            end_error, end_right = last_step(chain, prior)
            astray = prior.ends("astray_right" if chain.outcome else "astray_wrong")
            end_later = np.concatenate([astray * late[2, -1], end_error * late[1, -1] + end_right * late[0, -1]])
        return cls(seen, same[0] * other[:, 0], same[1] * other[:, 1], rise, fall, later, end_error, end_right, end_later)


@dataclass(frozen=True, eq=False)
class _Sums:
    """clean: [P + 1, G], forward sums of the clean phase, scaled. entered: [P, G], having gone astray in step i, at prefix i + 1. ahead: [P + 1, 2G], backward
    sums of the later phases, scaled. log: [S + 1], log-probability of the evidence and each first error (last: none)."""

    clean: Floats
    entered: Floats
    ahead: Floats
    log: Floats

    @classmethod
    def of(cls, chain: Chain, laws: _Laws, start: Floats) -> _Sums:
        n, last = chain.n_steps, chain.n_open
        clean, clean_log = np.empty((last + 1, G)), np.zeros(last + 1)
        for i in range(last + 1):
            clean[i] = (clean[i - 1] @ laws.rise * laws.right[i - 1] if i else start) * laws.seen[i]
            total = max(clean[i].sum(), TINY)
            clean[i] /= total
            clean_log[i] = clean_log[max(i - 1, 0)] + np.log(total)
        ahead, ahead_log = np.empty((last + 1, 2 * G)), np.zeros(last + 1)
        ahead[last] = laws.end_later
        for i in range(last - 1, -1, -1):
            ahead[i] = laws.later[i] @ ahead[i + 1]
            total = max(ahead[i].max(), TINY)
            ahead[i] /= total
            ahead_log[i] = ahead_log[i + 1] + np.log(total)
        entered = (clean[:last] @ laws.fall) * laws.wrong[:last, None] * laws.seen[1:]
        log = np.full(n + 1, -np.inf)
        with np.errstate(divide="ignore"):
            log[:last] = np.log((entered * ahead[1:, :G]).sum(axis=1)) + clean_log[:last] + ahead_log[1:]
            if chain.outcome is not None:
                log[n - 1] = np.log(clean[last] @ laws.end_error * laws.wrong[n - 1]) + clean_log[last]
            log[n] = np.log(clean[last] @ laws.end_right * (laws.right[n - 1] if chain.outcome is not None else 1.0)) + clean_log[last]
        return cls(clean, entered, ahead, log)


def _predictions(chain: Chain, laws: _Laws, sums: _Sums, first_error: Floats) -> tuple[Floats, Floats]:
    """(success [S + 1, P + 1], levels [P + 1, G]): E[V_t | first error] for every first error at once, and the mixture of the levels."""
    n, last = chain.n_steps, chain.n_open
    success, levels = np.empty((n + 1, last + 1)), np.zeros((last + 1, G))
    back = np.ones((n + 1, G))  # row k: what comes after prefix t by its level, given that step k is the first error
    back[n - 1], back[n] = laws.end_error, laws.end_right
    for t in range(last, -1, -1):
        if t < last:
            back[t + 1 :] = (back[t + 1 :] * laws.seen[t + 1]) @ laws.rise.T
            back[t] = laws.fall @ (laws.seen[t + 1] * sums.ahead[t + 1, :G])
            back[t:] /= np.maximum(back[t:].max(axis=1, keepdims=True), TINY)
        success[t:, t] = _settle(sums.clean[t] * back[t:], first_error[t:], levels[t])
    front = np.zeros((last, 2 * G))  # row k: what came up to prefix t, given that step k was the first error
    for t in range(1, last + 1):
        front[: t - 1] = front[: t - 1] @ laws.later[t - 1]
        front[t - 1, :G] = sums.entered[t - 1]
        front[:t] /= np.maximum(front[:t].sum(axis=1, keepdims=True), TINY)
        joint = front[:t] * sums.ahead[t]
        success[:t, t] = _settle(joint[:, :G] + joint[:, G:], first_error[:t], levels[t])
    return success, levels


def _settle(joint: Floats, chance: Floats, levels: Floats) -> Floats:
    """Normalise the rows of `joint`, add their mixture to `levels`, and return their means of V."""
    joint /= np.maximum(joint.sum(axis=1, keepdims=True), TINY)
    levels += chance @ joint
    return np.asarray(joint @ LEVELS, dtype=np.float64)


def going_on(prior: Prior) -> tuple[Floats, Floats]:
    """[G, 1] each: chance that the next step does not end a clean solution, and one that is astray, by level."""
    return 1.0 - (prior.ends("end_right") + prior.ends("end_error"))[:, None], 1.0 - (prior.ends("astray_right") + prior.ends("astray_wrong"))[:, None]


def last_step(chain: Chain, prior: Prior) -> tuple[Floats, Floats]:
    """[G] each: chance, by the level before it, that the last step of a clean graded solution is an error, or right, and graded as it was."""
    if chain.outcome:
        return prior.ends("end_error") * prior.lucky, prior.ends("end_right") * (1.0 - prior.noise)
    return prior.ends("end_error") * (1.0 - prior.lucky), prior.ends("end_right") * prior.noise
