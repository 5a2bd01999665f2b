"""check_policy: the conformance suite of the Policy protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from stepward.core import InputError, Policy, Problem, Sampling, Trajectory, Until, metered
from stepward.testing.conformance import AWKWARD_TEXTS, Check, expect, run_checks, shuffled


def check_policy(
    policy: Policy, problems: Sequence[Problem], *, sampling: Sampling = Sampling(seed=7), reproducible: bool = True, any_prefix: bool = True
) -> list[str]:
    """Run every check of the Policy protocol on a few problems and return the checks' names.

    `reproducible=False` leaves out the checks that need equal noise for equal requests (a hosted server). `any_prefix=False` leaves
    out prefixes that the policy did not write (a policy of a closed language).

    Raises: NotConformant listing every failed check.
    """
    expect(bool(problems), "check_policy needs at least one problem")
    start = Trajectory(problems[0])

    async def returns_n() -> None:
        for n in (1, 3):
            for until in Until:
                drawn = await policy.sample(start, n, until=until, sampling=sampling)
                expect(len(drawn) == n, f"asked for {n} samples until {until}, got {len(drawn)}")

    async def continues_the_prefix() -> None:
        prefix = (await policy.sample(start, 1, until=Until.STEP, sampling=sampling))[0]
        if not prefix.ended:
            for longer in await policy.sample(prefix, 2, until=Until.END, sampling=sampling):
                expect(longer.keys[len(prefix)] == prefix.key, f"sample changed its prefix: {longer.text!r} does not continue {prefix.text!r}")
                expect(longer.problem == prefix.problem, "sample changed the problem")

    async def step_means_one_step() -> None:
        for trajectory in await policy.sample(start, 3, until=Until.STEP, sampling=sampling):
            expect(len(trajectory) == 1, f"until STEP wrote {len(trajectory)} steps")
            expect(trajectory.steps[0].observation is None, "a policy must not write observations")

    async def end_means_ended() -> None:
        for trajectory in await policy.sample(start, 3, until=Until.END, sampling=sampling):
            expect(trajectory.ended, "until END returned an open trajectory")
            expect(not (trajectory.finished and trajectory.truncated), "a trajectory is finished or truncated, never both")

    async def limits_truncate() -> None:
        for trajectory in await policy.sample(start, 4, until=Until.END, sampling=replace(sampling, max_steps=1)):
            expect(len(trajectory) <= 1, f"max_steps=1 gave {len(trajectory)} steps")
            expect(trajectory.ended, "a trajectory that met a limit must be marked truncated")

    async def ended_stays_ended() -> None:
        ended = replace((await policy.sample(start, 1, until=Until.END, sampling=sampling))[0], finished=True, truncated=False)
        try:
            await policy.sample(ended, 1, sampling=sampling)
        except InputError:
            return
        expect(False, "sampling from an ended trajectory must raise InputError")

    async def usage_is_charged() -> None:
        with metered() as ledger:
            drawn = await policy.sample(start, 2, until=Until.END, sampling=sampling)
        known = [step.n_tokens for trajectory in drawn for step in trajectory.steps]
        expect(ledger.usage.policy_tokens > 0 and ledger.usage.calls > 0, f"sampling charged {ledger.usage}")
        if all(n is not None for n in known):
            expect(sum(n or 0 for n in known) == ledger.usage.policy_tokens, f"steps count {known} tokens, the ledger {ledger.usage.policy_tokens}")

    async def draws_are_named() -> None:
        together = await policy.sample(start, 4, until=Until.END, sampling=sampling)
        alone = [(await policy.sample(start, 1, until=Until.END, sampling=sampling, draw=draw))[0] for draw in range(4)]
        expect([t.key for t in together] == [t.key for t in alone], "sample(n=4) differs from draws 0 to 3 taken one at a time")

    async def order_does_not_matter() -> None:
        requests = [(problem, draw) for problem in problems for draw in range(4)]

        async def one(problem: Problem, draw: int) -> str:
            return (await policy.sample(Trajectory(problem), 1, until=Until.END, sampling=sampling, draw=draw))[0].key

        in_order = [await one(*request) for request in requests]
        mixed = shuffled(requests)
        at_once = await asyncio.gather(*(one(*request) for _, request in mixed))
        expect([in_order[index] for index, _ in mixed] == at_once, "results depend on what is requested together")

    async def seeds_matter() -> None:
        if sampling.temperature == 0:
            return
        texts = set[tuple[str, ...]]()
        for seed in range(4):
            drawn = [await policy.sample(Trajectory(problem), 4, until=Until.END, sampling=replace(sampling, seed=seed)) for problem in problems]
            texts.add(tuple(trajectory.key for trajectories in drawn for trajectory in trajectories))
        expect(len(texts) > 1, "four seeds gave four times the same samples")

    async def any_text_can_be_continued() -> None:
        for text in AWKWARD_TEXTS:
            prefix = Trajectory.from_texts(problems[0], [text, "so"], separator="\n", finished=False)
            drawn = await policy.sample(prefix, 1, until=Until.STEP, sampling=sampling)
            expect(drawn[0].keys[2] == prefix.key, f"the prefix {prefix.text!r} was changed")

    async def fingerprint_is_stable() -> None:
        expect(bool(policy.fingerprint) and policy.fingerprint == policy.fingerprint, "the fingerprint must be a fixed, non-empty string")

    checks: dict[str, Check] = {
        "returns n samples": returns_n,
        "continues the prefix": continues_the_prefix,
        "STEP writes one step": step_means_one_step,
        "END ends": end_means_ended,
        "limits truncate": limits_truncate,
        "an ended trajectory is refused": ended_stays_ended,
        "usage is charged": usage_is_charged,
        "fingerprint is stable": fingerprint_is_stable,
    }
    if reproducible:
        checks |= {"draws are named": draws_are_named, "order and company do not matter": order_does_not_matter, "seeds matter": seeds_matter}
    if any_prefix:
        checks["any text can be continued"] = any_text_can_be_continued
    return run_checks(f"policy {policy.fingerprint}", checks)
