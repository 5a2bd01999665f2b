"""Waves: many requests that are neither draws nor scores (revisions, critiques), made together as far as the budget allows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from stepward.core import FAILURES, Usage
from stepward.search.draws import all_of
from stepward.search.purse import Price, Unpriced
from stepward.search.workbench import Workbench

T = TypeVar("T")


@dataclass(frozen=True)
class Request(Generic[T]):
    """One request. `make` begins it; `price`: the most that it may charge, None where that is not known; `calls`: what it counts as; `what`: its name."""

    make: Callable[[], Awaitable[T]]
    price: Usage | None
    calls: int
    what: str


async def ask_all(bench: Workbench, requests: Sequence[Request[T]], take: Callable[[int, T], None]) -> None:
    """Make them all at once, or under a budget as many at a time as fit; a request that may not fit is not begun.

    `take(index, answer)` is told of every answer in order, also of what had come when the search was cancelled. Where a request fails it is not told, and the
    reason is among `bench.failures`.

    Raises: OutOfBudget when the first one does not fit; Unpriced for a request without the price that the budget needs.
    """
    found: dict[int, T] = {}
    failed: dict[int, str] = {}

    async def one(index: int) -> None:
        try:
            found[index] = await requests[index].make()
        except FAILURES as error:
            failed[index] = f"{requests[index].what} failed: {error}"

    def price(index: int) -> Price:
        request = requests[index]
        if request.price is None and request.calls and bench.budget.policy_tokens is not None:
            raise Unpriced(f"{request.what} cannot tell its price beforehand, so a budget of policy tokens cannot be kept; give calls instead")
        return bench.purse.of_request(request.price, request.calls, request.what)

    try:
        for wave, fits in bench.purse.waves(len(requests), price):
            if not fits:
                bench.purse.fell_short()
                break
            total = Usage.total(requests[index].price or Usage() for index in wave)
            await bench.ask(all_of(one(index) for index in wave), calls=sum(requests[index].calls for index in wave), price=total)
    finally:
        bench.failures += [failed[index] for index in sorted(failed)]
        for index in sorted(found):
            take(index, found[index])
    if requests and not found and not failed:
        raise bench.purse.out()
