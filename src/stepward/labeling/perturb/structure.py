"""Structure operators: a step left out, said twice or contradicted. The text of the other steps stays."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from stepward.labeling.perturb.perturbation import Edit, Operator
from stepward.labeling.perturb.site import Site, equations

_LEAST_BEFORE = 3  # what rests on less can be had from the problem's numbers in one's head: leaving it out is a leap, not an error


def _dropped_premise(site: Site, rng: Random) -> Edit | None:
    """An earlier step is left out whose result this step uses and nothing else tells; one that rests on results itself, so that nobody does it in his head."""
    used = {token.text for equation in site.equations for token in equation.operands}
    lost = [step for step, value in site.results.items() if str(value) in used and site.only_from(step)]
    lost = [step for step in lost if not _used_between(site, step) and _rests_on_others(site, step)]
    if not lost:
        return None
    gone = rng.choice(lost)
    steps = site.trajectory.steps
    note = f"uses {site.results[gone]}, which no step derives any more"
    return Edit((*steps[:gone], *steps[gone + 1 :]), site.at - 1, note, control=(steps, site.at))


def _rests_on_others(site: Site, step: int) -> bool:
    """Whether the step rests, directly or not, on at least `_LEAST_BEFORE` earlier results."""
    before: set[int] = set()
    open_steps = [step]
    while open_steps:
        earlier = Site(site.trajectory, open_steps.pop())
        used = {token.text for equation in earlier.equations for token in equation.operands}
        found = {at for at, value in earlier.results.items() if str(value) in used} - before
        before |= found
        open_steps += found
    return len(before) >= _LEAST_BEFORE


def _used_between(site: Site, step: int) -> bool:
    """Whether a step between uses the result: then that one is the first error."""
    value = str(site.results[step])
    between = site.trajectory.steps[step + 1 : site.at]
    return any(token.text == value for other in between for equation in equations(other.text) for token in equation.operands)


def _repeated_step(site: Site, rng: Random) -> Edit | None:
    """An earlier step once more, before this one: right, and of no use."""
    earlier = list(site.results)
    if not earlier:
        return None
    again = site.trajectory.steps[rng.choice(earlier)]
    steps = site.trajectory.steps
    return Edit((*steps[: site.at], again, *steps[site.at :]), site.at, "repeats an earlier step")


def _contradiction(site: Site, rng: Random) -> Edit | None:
    """A step put in that states an earlier result otherwise; the control states it as it is."""
    candidates = []
    for step in site.results:
        earlier = Site(site.trajectory, step)
        if earlier.subject is not None and len(earlier.equations) == 1 and earlier.equations[0].result.text.isdigit():
            candidates.append(earlier)
    if not candidates:
        return None
    earlier = rng.choice(candidates)
    told = int(earlier.equations[0].result.text)
    other = told + rng.choice([delta for delta in (1, -1, 2, -2, 3, 5, 10, -10) if told + delta > 0])
    wrong, right = (replace(earlier.step, text=f"{earlier.subject} = {value}.", n_tokens=None, logprob=None) for value in (other, told))
    steps = site.trajectory.steps
    with_wrong, with_right = ((*steps[: site.at], said, *steps[site.at :]) for said in (wrong, right))
    return Edit(with_wrong, site.at, f"step {earlier.at} (counted from 0) says {told}, not {other}", control=(with_right, site.at))


STRUCTURE = (
    Operator("dropped_premise", _dropped_premise, "a step is left out that this one needs"),
    Operator("contradiction", _contradiction, "a step is put in that contradicts an earlier one"),
    Operator("redundancy", _repeated_step, "an earlier step is repeated: right, but of no use", wrong=False),
)
