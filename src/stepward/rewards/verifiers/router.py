"""Router: which verifiers read which step. Rules first; a model may only add checks, never take one away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress

from stepward.core.errors import FAILURES, InputError
from stepward.rewards.verifiers.verifier import StepContext, Verifier

Adviser = Callable[[StepContext], Awaitable[Collection[str]]]  # names of verifiers to add


class Router:
    """Each step goes to the verifiers whose `reads` says yes, and to those that an optional `adviser` names besides (VerifiAgent, 2025).

    Differs from the paper: the model does not choose between tools, it can only add some; what it says of the step itself is never read. An adviser
    that fails, or names a verifier that is not here, adds nothing.
    """

    def __init__(self, verifiers: Sequence[Verifier], adviser: Adviser | None = None) -> None:
        if not verifiers:
            raise InputError("a Router needs at least one verifier")
        repeated = [name for name, count in Counter(verifier.name for verifier in verifiers).items() if count > 1]
        if repeated:
            raise InputError(f"each verifier once; {', '.join(repeated)} came several times")
        self.verifiers = tuple(verifiers)
        self._adviser = adviser

    @property
    def free(self) -> bool:
        """Whether routing asks nobody."""
        return self._adviser is None

    async def route(self, context: StepContext) -> tuple[Verifier, ...]:
        """The verifiers for this step, in the router's own order."""
        chosen = {verifier.name for verifier in self.verifiers if verifier.reads(context)}
        if self._adviser is not None:
            with suppress(*FAILURES):
                chosen |= set(await self._adviser(context))
        return tuple(verifier for verifier in self.verifiers if verifier.name in chosen)
