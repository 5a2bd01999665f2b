"""Synthetic chains whose first error is known, and a completer that only tosses coins: what the tests of the adaptive labeler draw from."""

from __future__ import annotations

import numpy as np

from stepward.core import Floats
from stepward.labeling.adaptive import Chain, Prior, infer
from stepward.labeling.adaptive.choice import information
from stepward.labeling.adaptive.prior import BANDS, LEVELS, MOVES, RATES, SHIFTS, normalised


def move(shift: int | None = None) -> tuple[float, ...]:
    """The law of a move that is certain: by `shift` levels, or to 0 (None)."""
    made = np.zeros(len(MOVES))
    made[len(SHIFTS) if shift is None else SHIFTS.index(shift)] = 1.0
    return normalised(made)


def two_levels(before: int, *, after: int | None = None, hazard: float = 0.15) -> Prior:
    """Every prefix before the first error is worth LEVELS[before], every one from it on LEVELS[after] (None: 0); nothing is repaired and no step repeats."""
    start = np.zeros(len(LEVELS))
    start[before] = 1.0
    agree = normalised(np.eye(len(RATES))[0] + 1e-12)
    ends = (1e-9,) * len(BANDS)
    return Prior(
        hazard=hazard,
        repair=0.0,
        start=normalised(start),
        rise=move(0),
        fall=move(None if after is None else after - before),
        stay=move(0),
        end_right=ends,
        end_error=ends,
        astray_right=ends,
        astray_wrong=(0.5,) * len(BANDS),
        agree_right=agree,
        agree_wrong=agree,
        agree_after=agree,
        agree_repair=agree,
    )


def draw_chain(prior: Prior, rng: np.random.Generator, *, longest: int = 12) -> tuple[int, Floats, Floats, bool]:
    """(first error or S, V of prefixes 0..S-1 as levels, chance of repeating each step, outcome) of a chain drawn from the prior itself."""
    phase, level = "clean", int(rng.choice(len(LEVELS), p=prior.start))
    levels, again, first = [level], [], None
    while True:
        band = int(np.searchsorted(np.array(BANDS), LEVELS[level]))
        ends = (prior.astray_right[band], prior.astray_wrong[band]) if phase == "astray" else (prior.end_right[band], prior.end_error[band])
        u = rng.random()
        if u < sum(ends):
            kind = 0 if u < ends[0] else 1
            if phase == "astray":
                outcome, law = kind == 0, prior.agree_after
            else:
                outcome = rng.random() < (prior.lucky if kind else 1.0 - prior.noise)
                law = prior.agree_wrong if kind else prior.agree_right
                if phase == "clean" and kind:
                    first = len(levels) - 1
            again.append(RATES[rng.choice(len(RATES), p=law)])
            return (len(levels) if first is None else first), LEVELS[levels], np.array(again), bool(outcome)
        if len(levels) > longest:
            return draw_chain(prior, rng, longest=longest)
        if phase == "astray":
            phase, kernel, law = ("repaired", "recover", prior.agree_repair) if rng.random() < prior.repair else ("astray", "stay", prior.agree_after)
        elif rng.random() < prior.hazard:
            if phase == "clean":
                first = len(levels) - 1
            phase, kernel, law = "astray", "fall", prior.agree_wrong
        else:
            kernel, law = "rise", prior.agree_right
        again.append(RATES[rng.choice(len(RATES), p=law)])
        chances = prior.kernel(kernel)[level]
        level = int(rng.choice(len(LEVELS), p=chances / chances.sum()))
        levels.append(level)


def toss(chain: Chain, prefix: int, values: Floats, again: Floats, n: int, rng: np.random.Generator) -> None:
    """Add `n` rollouts from a prefix: how far they repeat the chain, and whether they end right, as the model says it."""
    for _ in range(n):
        success = bool(rng.random() < values[prefix])
        chain.rollouts[prefix] += 1
        chain.successes[prefix] += success
        at = prefix
        while at < chain.n_steps and rng.random() < again[at]:
            chain.passes[at] += 1
            at += 1
        if at < chain.n_steps:
            chain.deviations[at] += 1


def search(prior: Prior, values: Floats, again: Floats, outcome: bool | None, rng: np.random.Generator, *, error: float, cap: int = 400) -> Chain:
    """Rollouts where they tell most, one at a time and all at one price, until the first error is known with chance 1 - error."""
    chain = Chain(len(values), outcome)
    for _ in range(cap):
        posterior = infer(chain, prior)
        if posterior.first_error.max() >= 1.0 - error:
            break
        gains = information(posterior)
        toss(chain, int(gains.argmax()), values, again, 1, rng)
    return chain
