"""Injection: typed errors put into right solutions without a model, each through its gates, with right controls beside them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from stepward.core import InputError, Labeler, Trajectory, content_hash
from stepward.labeling.perturb.arithmetic import ARITHMETIC
from stepward.labeling.perturb.control import PARAPHRASE, paraphrased
from stepward.labeling.perturb.perturbation import Edit, Operator, Perturbation
from stepward.labeling.perturb.site import Site
from stepward.labeling.perturb.structure import STRUCTURE
from stepward.labeling.perturb.wording import WORDING

OPERATORS: dict[str, Operator] = {operator.name: operator for operator in (*ARITHMETIC, *WORDING, *STRUCTURE, PARAPHRASE)}
ERRORS = tuple(name for name, operator in OPERATORS.items() if operator.wrong)


def perturb(trajectory: Trajectory, operator: str, *, seed: int = 0, at: int | None = None) -> Perturbation | None:
    """The solution with one change of this type, at step `at` or at the first place, in an order drawn from the seed, where it applies; None where it
    applies nowhere or fails a gate (`gate`). A pure function of its arguments.

    The solution must be right throughout: nothing here checks that.

    Raises: InputError for an unknown operator or no such step.
    """
    if operator not in OPERATORS:
        raise InputError(f"unknown operator {operator!r}; choose one of {', '.join(OPERATORS)}")
    if at is not None and not 0 <= at < len(trajectory):
        raise InputError(f"at must be a step of the solution (0..{len(trajectory) - 1}), got {at}")
    rng = Random(content_hash("perturb", trajectory.key, operator, str(seed)))
    found = OPERATORS[operator]
    for step in [at] if at is not None else rng.sample(range(len(trajectory)), len(trajectory)):
        edit = found.make(Site(trajectory, step), rng)
        if edit is not None and not gate(trajectory, edit):
            steps, control_at = edit.control or (trajectory.steps, step)
            changed, control = (replace(trajectory, steps=made, outcome=None) for made in (edit.steps, steps))
            return Perturbation(trajectory, changed, edit.at, operator, found.wrong, edit.note, {"seed": seed}, control, control_at)
    return None


def gate(trajectory: Trajectory, edit: Edit) -> str:
    """Why an edit is no clean perturbation; empty for a clean one.

    The number of steps changes by at most one, the step that is meant exists, its text differs from the one that stood there, and no other text is new.
    """
    before, after = [step.text for step in trajectory.steps], [step.text for step in edit.steps]
    if abs(len(before) - len(after)) > 1:
        return f"{len(before)} steps became {len(after)}"
    if not 0 <= edit.at < len(after):
        return f"there is no step {edit.at}"
    if before == after:
        return "nothing was changed"
    new = Counter(after) - Counter(before)
    if len(before) == len(after) and set(new) - {after[edit.at]}:
        return "another step was changed too"
    return "the step is empty" if not after[edit.at].strip() else ""


async def confirmed(perturbation: Perturbation, confirm: Labeler) -> bool | None:
    """Whether an oracle, tool or judge finds what was constructed: the steps before it good, and the step bad (good, for one that claims no error).

    None where it does not say of the step itself. An earlier step that it does not label does not count against it; one that it calls bad does.
    """
    labels = await confirm.label(perturbation.trajectory)
    if any(good is False for good in labels.hard[: perturbation.at]):
        return False
    good = labels.hard[perturbation.at]
    return None if good is None else good is not perturbation.wrong


@dataclass
class Injected:
    """What came of an injection: `errors` and the `controls` beside them, and how often each operator was made, confirmed, refuted or not decided."""

    errors: list[Perturbation] = field(default_factory=list)
    controls: list[Perturbation] = field(default_factory=list)
    made: Counter[str] = field(default_factory=Counter)
    confirmed: Counter[str] = field(default_factory=Counter)
    refuted: Counter[str] = field(default_factory=Counter)

    def share(self, operator: str) -> float:
        """Confirmed among those made; NaN for none."""
        return self.confirmed[operator] / self.made[operator] if self.made[operator] else float("nan")

    @property
    def shares(self) -> Mapping[str, float]:
        return {name: self.share(name) for name in sorted(self.made)}


async def inject(
    trajectories: Sequence[Trajectory], operators: Sequence[str] = ERRORS, *, seed: int = 0, confirm: Labeler | None = None, per_solution: int = 1
) -> Injected:
    """`per_solution` errors a right solution, of types drawn evenly among those that apply, each with a control.

    The control is the step as it was, or what an operator gives as a right step of the same looks. Error and control are reworded alike (`paraphrased`), so
    that wording does not tell them apart.
    `confirm`: only errors that it finds and controls that it passes are kept; what it cannot decide is dropped too (and counted in `made` alone).
    """
    found = Injected()
    for error, control in _drawn(trajectories, operators, seed, per_solution):
        found.made[error.error_type] += 1
        if confirm is not None:
            verdict, passed = await asyncio.gather(confirmed(error, confirm), confirmed(control, confirm))
            found.confirmed[error.error_type] += verdict is True
            found.refuted[error.error_type] += verdict is False
            if not (verdict and passed):
                continue
        found.errors.append(error)
        found.controls.append(control)
    return found


def _drawn(trajectories: Sequence[Trajectory], operators: Sequence[str], seed: int, per_solution: int) -> Iterator[tuple[Perturbation, Perturbation]]:
    for trajectory in trajectories:
        rng = Random(content_hash("inject", trajectory.key, str(seed)))
        left = per_solution
        for name in rng.sample(list(operators), len(operators)):
            if left == 0:
                break
            made = perturb(trajectory, name, seed=seed)
            if made is not None:
                left -= 1
                yield _reworded(made, rng), _control(made, rng)


def _reworded(made: Perturbation, rng: Random) -> Perturbation:
    return replace(made, trajectory=_with_text(made.trajectory, made.at, paraphrased(made.trajectory.steps[made.at].text, rng)))


def _control(made: Perturbation, rng: Random) -> Perturbation:
    """The control's step reworded."""
    control, at = made.control or made.original, made.control_at
    text = paraphrased(control.steps[at].text, rng)
    return Perturbation(made.original, _with_text(control, at, text), at, PARAPHRASE.name, False, "the same in other words", made.source)


def _with_text(trajectory: Trajectory, at: int, text: str) -> Trajectory:
    return replace(trajectory, steps=Site(trajectory, at).with_text(text), outcome=None)
