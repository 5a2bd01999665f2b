"""Ladder: a toy world of any length whose values are known in closed form, for tests and benchmarks of methods that search for the first error."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from stepward.core import DEFAULT_SAMPLING, InputError, Outcome, Problem, Sampling, Step, Trajectory, Until, Usage, canonical_json, charge, content_hash
from stepward.engine.noise import uniforms

SEPARATOR = "\n"


@dataclass(frozen=True)
class Ladder:
    """Solutions of n steps: n - 1 rungs, then "yes" (graded 1) or "no" (0). A prefix is wrong from the first slip on."""

    fingerprint: str = "ladder/1"
    interactive: bool = False

    def problem(self, n_steps: int, name: str = "") -> Problem:
        """A ladder of this many steps; equal names pose the same problem."""
        if n_steps < 1:
            raise InputError(f"a ladder has at least one step, got {n_steps}")
        return Problem(f"Ladder {name}: {n_steps} steps. Is the top reached?", answer="yes", metadata={"steps": n_steps})

    def wrong_solution(self, problem: Problem, first_error: int, *, route: int = 0) -> Trajectory:
        """A solution that slips at this step (0-based) and ends wrong."""
        n_steps = int(problem.metadata["steps"])
        if not 0 <= first_error < n_steps:
            raise InputError(f"first_error must lie in 0..{n_steps - 1}, got {first_error}")
        texts = [f"slip {t}" if t == first_error else f"rung {t} by {route}" for t in range(n_steps - 1)]
        steps = [Step(text, SEPARATOR, n_tokens=1) for text in texts]
        return Trajectory(problem, (*steps, Step("no", n_tokens=1)), finished=True, outcome=Outcome(0.0, "no"))

    async def observe(self, trajectory: Trajectory) -> Trajectory:
        return trajectory

    def is_finished(self, trajectory: Trajectory) -> bool:
        return trajectory.ended

    def answer(self, trajectory: Trajectory) -> str | None:
        text = trajectory.steps[-1].text if trajectory.steps else ""
        return text if text in ("yes", "no") else None

    async def grade(self, trajectory: Trajectory) -> Outcome:
        if trajectory.truncated:
            return Outcome.unscored("cut off")
        answer = self.answer(trajectory)
        return Outcome(float(answer == "yes"), answer)


@dataclass(frozen=True, kw_only=True)
class Climber:
    """Climbs a ladder: each rung slips with chance `slip`; at the end it says "yes" with chance `clean` without a slip and `repair` after one.

    V(prefix of t < n steps) = p clean + (1 - p) repair with p = (1 - slip)^(n - 1 - t), and V = repair after a slip; `repair` = 0 makes errors final.
    `routes`: how many equal ways there are to write a rung. `agents` take turns of `turn` steps each. A step is one token.
    """

    clean: float = 0.5
    repair: float = 0.0
    slip: float = 0.0
    routes: int = 1
    agents: tuple[str, ...] = ("",)
    turn: int = 1

    @property
    def fingerprint(self) -> str:
        return f"climber/{content_hash(canonical_json(asdict(self)))[:16]}"

    async def sample(
        self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0
    ) -> list[Trajectory]:
        """`n` continuations; step j of draw d depends on (seed, prefix key, d, j) only."""
        if prefix.ended:
            raise InputError("cannot continue a trajectory that has ended; use prefix(k) to go back to an open one")
        longest = 1 if until is Until.STEP else int(prefix.problem.metadata["steps"])
        made = [self._continue(prefix, longest, sampling.seed, draw + index) for index in range(n)]
        charge(Usage(policy_tokens=sum(len(end) - len(prefix) for end in made), policy_prefill=len(prefix), calls=1))
        return made

    def price(self, prefix: Trajectory, n: int = 1, *, until: Until = Until.STEP, sampling: Sampling = DEFAULT_SAMPLING, draw: int = 0) -> Usage:
        """What `sample` charges: it knows no limits."""
        del sampling, draw
        left = max(1, int(prefix.problem.metadata.get("steps", 1)) - len(prefix))
        return Usage(policy_tokens=n * (1 if until is Until.STEP else left), policy_prefill=len(prefix), calls=1)

    def value(self, prefix: Trajectory) -> float:
        """The exact chance of "yes" from here; 1 or 0 for a trajectory that has ended."""
        if prefix.ended:
            return float(prefix.steps[-1].text == "yes")
        if _slipped(prefix):
            return self.repair
        safe = (1.0 - self.slip) ** max(0, int(prefix.problem.metadata["steps"]) - 1 - len(prefix))
        return safe * self.clean + (1.0 - safe) * self.repair

    def _continue(self, prefix: Trajectory, longest: int, seed: int, draw: int) -> Trajectory:
        n_steps = int(prefix.problem.metadata["steps"])
        steps, wrong, start = list(prefix.steps), _slipped(prefix), len(prefix)
        left = max(1, min(longest, n_steps - start))
        noise = uniforms(seed, prefix.key, draw, 0, 2 * left).tolist()
        for t, chance, route in zip(range(start, start + left), noise[::2], noise[1::2], strict=True):
            agent = self.agents[t // self.turn % len(self.agents)]
            if t >= n_steps - 1:
                says = "yes" if chance < (self.repair if wrong else self.clean) else "no"
                return Trajectory(prefix.problem, (*steps, Step(says, agent=agent, n_tokens=1)), finished=True)
            slips = not wrong and chance < self.slip
            wrong = wrong or slips
            steps.append(Step(f"slip {t}" if slips else f"rung {t} by {int(route * self.routes)}", SEPARATOR, agent=agent, n_tokens=1))
        return Trajectory(prefix.problem, tuple(steps))


def _slipped(prefix: Trajectory) -> bool:
    return any(step.text.startswith("slip") for step in prefix.steps)
