"""fit_prior: the prior of a run, learned from a pilot. Expectation-maximisation over the model of `prior`; the posterior of one chain is in `changepoint`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from stepward.core import Floats, InputError, Trajectory
from stepward.labeling.adaptive.chain import Chain
from stepward.labeling.adaptive.changepoint import TINY, G, agreement, going_on, last_step, rollout_likelihood
from stepward.labeling.adaptive.prior import BAND, BANDS, DEFAULT_PRIOR, MOVES, RATES, Prior, normalised
from stepward.labeling.completer import Completer, RolloutBank

_KERNELS = ("rise", "fall", "stay", "recover")
_AGREE = ("agree_right", "agree_wrong", "agree_after", "agree_repair")


async def fit_prior(
    trajectories: Sequence[Trajectory],
    completer: Completer,
    *,
    rollouts: int = 4,
    first_errors: Sequence[int | None] | None = None,
    base: Prior = DEFAULT_PRIOR,
    strength: float = 5.0,
    rounds: int = 12,
) -> Prior:
    """The prior that explains a pilot: `rollouts` draws from every open prefix of the given trajectories, the empty one included.

    No labels are needed: the first errors are summed over. Where some are known (0-based, -1 for none), `first_errors` pins them. Two fits are made, from
    `base` and from `base.never_repaired()`, and the one that explains the pilot better is taken. `base` counts as much as `strength` observations of each
    law (four times that for agreement, ten times for repairs, which a pilot without labels tells least surely), so a small pilot moves it gently. Not fitted,
    because they say what the phases are and rollouts alone could not: how solutions end by an error or astray, and which way errors and repairs move V.

    The pilot's draws are the first draws of their prefixes, so with a journal the labelling of the same trajectories pays for them once. The prior does not
    change afterwards: labels do not depend on the order in which trajectories are labelled. Rollouts that fail are left out.

    Raises: InputError without trajectories.
    """
    if not trajectories:
        raise InputError("fit_prior needs at least one pilot trajectory; use the default prior without a pilot")
    chains = await asyncio.gather(*(pilot_chain(trajectory, completer, rollouts) for trajectory in trajectories))
    for chain, first in zip(chains, first_errors or [None] * len(chains), strict=True):
        if first is not None:
            pin(chain, first)
    found = [fit(chains, base=start, strength=strength, rounds=rounds) for start in (base, base.never_repaired())]
    return max(found, key=lambda prior: evidence(chains, prior))


def evidence(chains: Sequence[Chain], prior: Prior) -> float:
    """Log-probability of a pilot's counts under a prior, up to what all priors share; minus infinity where it rules them out."""
    seen = Expected()
    for chain in chains:
        count(chain, prior, seen)
    return -math.inf if math.isnan(seen.log_evidence) else seen.log_evidence


async def pilot_chain(trajectory: Trajectory, completer: Completer, n: int) -> Chain:
    """The counts of a trajectory with `n` rollouts from every open prefix."""
    outcome = await completer.grade(trajectory) if trajectory.ended and len(trajectory) else None
    chain = Chain(len(trajectory), None if outcome is None else outcome.correct)
    bank = RolloutBank(completer)
    n_open = chain.n_open if not trajectory.ended else len(trajectory) - 1
    pools = await asyncio.gather(*(bank.draw(trajectory.prefix(t), n) for t in range(n_open + 1)))
    for pool in pools:
        chain.add(trajectory, pool)
    return chain


def pin(chain: Chain, first_error: int) -> None:
    """Make the first error known: -1 for none."""
    for step in range(chain.n_steps):
        if first_error < 0 or step < first_error:
            chain.hear(step, 0.0, -50.0, -50.0)
        else:
            chain.hear(step, -50.0, 0.0 if step == first_error else -50.0, 0.0 if step > first_error else -50.0)


def fit(chains: Sequence[Chain], *, base: Prior = DEFAULT_PRIOR, strength: float = 5.0, rounds: int = 12) -> Prior:
    """The prior of highest posterior density by expectation-maximisation, `base` being worth `strength` observations of each law."""
    prior = base
    for _ in range(rounds):
        seen = Expected()
        for chain in chains:
            count(chain, prior, seen)
        prior = _improved(seen, base, strength, len(chains))
    return prior


@dataclass(eq=False)
class Expected:
    """Expected numbers of what happened in the chains: moves by kernel, starts by level, errors, repairs, repeats by rate, and the evidence."""

    start: Floats = field(default_factory=lambda: np.zeros(G))
    moves: dict[str, Floats] = field(default_factory=lambda: {name: np.zeros(len(MOVES)) for name in _KERNELS})
    agree: dict[str, Floats] = field(default_factory=lambda: {name: np.zeros(len(RATES)) for name in _AGREE})
    hazard: Floats = field(default_factory=lambda: np.zeros(2))  # happened, did not
    clean_end: Floats = field(default_factory=lambda: np.zeros((3, len(BANDS))))  # goes on, ends rightly, ends by an error
    repair: Floats = field(default_factory=lambda: np.zeros(2))
    lucky: Floats = field(default_factory=lambda: np.zeros(2))
    log_evidence: float = 0.0


def count(chain: Chain, prior: Prior, seen: Expected) -> None:
    """Add a chain's expected numbers: forward and backward sums over (clean, astray, repaired) x level, [3G]."""
    n, last = chain.n_steps, chain.n_open
    if n == 0:
        return
    likelihood = rollout_likelihood(chain)
    agree, _ = agreement(chain, prior)
    laws = [_step(chain, prior, agree, i) for i in range(last)]
    full = [law * np.tile(likelihood[i + 1], 3) for i, law in enumerate(laws)]
    forward = [np.concatenate([np.array(prior.start) * likelihood[0], np.zeros(2 * G)])]
    for law in full:
        forward.append(forward[-1] @ law)
        total = max(forward[-1].sum(), TINY)
        forward[-1] /= total
        seen.log_evidence += float(np.log(total))
    right_end, wrong_end, late_end = _endings(chain, prior, agree)
    backward = [right_end + wrong_end + late_end]
    for law in reversed(full):
        backward.append(law @ backward[-1])
        backward[-1] /= max(backward[-1].max(), TINY)
    backward.reverse()
    whole = float(forward[-1] @ backward[-1])
    if whole <= 0.0:  # the prior rules this chain out: it tells nothing about the laws
        seen.log_evidence = -math.inf
        return
    seen.log_evidence += math.log(whole)
    gamma = forward[0] * backward[0]
    seen.start += (gamma / gamma.sum())[:G]
    for i in range(last):
        flow = forward[i][:, None] * full[i] * backward[i + 1][None, :]
        flow /= flow.sum()
        cell = flow.reshape(3, G, 3, G)
        right, wrong = cell[0, :, 0] + cell[2, :, 2], cell[0, :, 1] + cell[2, :, 1]
        for name, part in (("rise", right), ("fall", wrong), ("stay", cell[1, :, 1]), ("recover", cell[1, :, 2])):
            kernel = prior.kernel(name)
            share = np.divide(part, kernel, out=np.zeros_like(part), where=kernel > 0)
            seen.moves[name] += np.array(getattr(prior, name)) * np.tensordot(MOVES[:, 1:], share[1:], axes=2)
        seen.hazard += (wrong.sum(), right.sum())
        seen.repair += (cell[1, :, 2].sum(), cell[1, :, 1].sum())
        _repeats(chain, prior, seen, i, (right.sum(), wrong.sum(), cell[1, :, 1].sum(), cell[1, :, 2].sum()))
        seen.clean_end[0] += _by_band(cell[0].sum(axis=(1, 2)) + cell[2].sum(axis=(1, 2)))
    if chain.outcome is not None:
        parts = forward[-1] * np.array([right_end, wrong_end, late_end])
        parts /= parts.sum()
        seen.lucky += parts[1].sum() * np.array([chain.outcome, not chain.outcome])
        seen.clean_end[1:] += [_by_band(part[:G] + part[2 * G :]) for part in parts[:2]]
        _repeats(chain, prior, seen, n - 1, (parts[0].sum(), parts[1].sum(), parts[2].sum(), 0.0))


def _by_band(levels: Floats) -> Floats:
    return np.asarray(np.bincount(BAND, weights=levels, minlength=len(BANDS)), dtype=np.float64)


def _step(chain: Chain, prior: Prior, agree: Floats, i: int) -> Floats:
    """[3G, 3G]: step i between (clean, astray, repaired) x level, with its own evidence and without that of the rollouts after it."""
    h, r = prior.hazard, prior.repair
    right, wrong, after, repair = agree[:, i]
    clean_on, astray_on = going_on(prior)
    other = np.exp(chain.others[i] - chain.others[i].max())
    rise, fall, stay, recover = (prior.kernel(name) for name in _KERNELS)
    law = np.zeros((3, G, 3, G))
    law[0, :, 0], law[0, :, 1] = (1.0 - h) * right * other[0] * rise * clean_on, h * wrong * other[1] * fall * clean_on
    law[1, :, 1], law[1, :, 2] = (1.0 - r) * after * other[2] * stay * astray_on, r * repair * other[2] * recover * astray_on
    law[2, :, 2], law[2, :, 1] = (1.0 - h) * right * other[2] * rise * clean_on, h * wrong * other[2] * fall * clean_on
    return law.reshape(3 * G, 3 * G)


def _endings(chain: Chain, prior: Prior, agree: Floats) -> tuple[Floats, Floats, Floats]:
    """[3G] each: chance of the end as a right step, as an error, and as a step that goes on astray; ones in the first for an open end."""
    right, wrong, after = np.zeros(3 * G), np.zeros(3 * G), np.zeros(3 * G)
    if chain.outcome is None:
        return right + 1.0, wrong, after
    other = np.exp(chain.others[-1] - chain.others[-1].max())
    by_error, rightly = last_step(chain, prior)
    right[:G], right[2 * G :] = rightly * agree[0, -1] * other[0], rightly * agree[0, -1] * other[2]
    wrong[:G], wrong[2 * G :] = by_error * agree[1, -1] * other[1], by_error * agree[1, -1] * other[2]
    after[G : 2 * G] = agree[2, -1] * other[2] * prior.ends("astray_right" if chain.outcome else "astray_wrong")
    return right, wrong, after


def _repeats(chain: Chain, prior: Prior, seen: Expected, i: int, kinds: tuple[float, ...]) -> None:
    for name, share in zip(_AGREE, kinds, strict=True):
        log = chain.passes[i] * np.log(RATES) + chain.deviations[i] * np.log1p(-RATES)
        each = np.array(getattr(prior, name)) * np.exp(log - log.max())
        seen.agree[name] += share * each / each.sum()


def _improved(seen: Expected, base: Prior, strength: float, n_chains: int) -> Prior:
    def law(name: str, counts: Floats, known: float = strength) -> tuple[float, ...]:
        return normalised(counts + known * np.array(getattr(base, name)))

    def rate(name: str, counts: Floats, known: float = strength) -> float:
        return float((counts[0] + known * getattr(base, name)) / (counts.sum() + known))

    known = strength / 5  # each band of V has its own law
    ended = (seen.clean_end[1] + known * np.array(base.end_right)) / (seen.clean_end.sum(axis=0) + known)
    laws: dict[str, Any] = {
        "end_right": tuple(np.minimum(ended, 1.0 - np.array(base.end_error)).tolist()),
        **{name: law(name, seen.moves[name]) for name in _KERNELS},
        **{name: law(name, seen.agree[name], 4.0 * strength) for name in _AGREE},
    }
    return replace(
        base,
        fitted=n_chains,
        start=law("start", seen.start),
        hazard=rate("hazard", seen.hazard),
        repair=rate("repair", seen.repair, 10.0 * strength),
        lucky=rate("lucky", seen.lucky),
        **laws,
    )
